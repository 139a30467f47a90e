"use strict";
(() => {
  const { charts, names } = JSON.parse(document.getElementById("data").textContent);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const one = (selector, root = document) => root.querySelector(selector);
  all(".tools, #theme").forEach((element) => { element.hidden = false; });

  // Tables: sorting and filtering.

  const MISSING = new Set(["", "-"]);
  const leading = /^[^\d+-]{0,2}([+-]?[\d,]*\.?\d+(?:e[+-]?\d+)?)/i;
  // A count of runs without a result is no value: "2 diverged, 1 failed".
  const lost = /^\d+ (?:diverged|failed|skipped|undefined)\b/;
  const order = new Intl.Collator("en", { numeric: true });

  /** The number that a cell begins with; null where it has none. */
  function numberOf(text) {
    const match = lost.test(text) ? null : leading.exec(text);
    return match ? Number(match[1].replaceAll(",", "")) : null;
  }

  function compare(a, b, isNumber, sign) {
    const [x, y] = isNumber ? [numberOf(a), numberOf(b)] : [a, b];
    const [absent, other] = isNumber ? [x === null, y === null] : [MISSING.has(a), MISSING.has(b)];
    // What is not there is last, whichever way the others go.
    if (absent || other) return absent - other;
    return sign * (isNumber ? x - y : order.compare(x, y));
  }

  function makeSortable(table) {
    const heads = all("thead th", table);
    const body = table.tBodies[0];
    const rows = [...body.rows];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      const isNumber = head.classList.contains("number");
      button.type = "button";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      head.setAttribute("aria-sort", "none");
      const ways = isNumber ? ["descending", "ascending"] : ["ascending", "descending"];
      button.addEventListener("click", () => {
        const next = [...ways, "none"][ways.indexOf(head.getAttribute("aria-sort")) + 1] ?? "none";
        heads.forEach((other) => other.setAttribute("aria-sort", "none"));
        head.setAttribute("aria-sort", next);
        const sign = next === "ascending" ? 1 : -1;
        const text = (row) => row.cells[column].textContent.trim();
        const sorted = [...rows];
        if (next !== "none") sorted.sort((a, b) => compare(text(a), text(b), isNumber, sign));
        body.append(...sorted);
      });
    });
    rows.forEach((row) => [...row.cells].forEach((cell) => {
      if (cell.textContent.length > 60) cell.classList.add("long");
    }));
  }

  function makeFilter(block) {
    const input = one("input", block);
    const count = one(".count", block);
    const back = one(".all", block);
    const rows = all("tbody tr", block);
    let cell = "";
    function apply() {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      rows.forEach((row) => {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word)) || (cell && row.dataset.cell !== cell);
        row.classList.toggle("chosen", Boolean(cell) && row.dataset.cell === cell);
        shown += !row.hidden;
      });
      const some = words.length > 0 || cell;
      back.hidden = !some;
      count.textContent = some ? `${cell ? `${names[cell]}: ` : ""}${shown} of ${rows.length} rows` : "";
    }
    input.addEventListener("input", apply);
    back.addEventListener("click", () => { cell = ""; input.value = ""; apply(); input.focus(); });
    return { choose(key) { cell = key; input.value = ""; apply(); } };
  }

  let runs = null;
  all(".table").forEach((block) => {
    makeSortable(one("table", block));
    const filter = makeFilter(block);
    if (block.dataset.name === "Runs") runs = filter;
    if (all("tbody tr", block).length < 2) one(".tools", block).hidden = true;
  });

  /** Follow a link from a number to its runs. */
  function follow() {
    const key = location.hash.slice(1);
    if (!runs || !Object.hasOwn(names, key)) return;
    runs.choose(key);
    const section = document.getElementById("runs");
    section.scrollIntoView();
    one(".box", section).focus({ preventScroll: true });
  }
  addEventListener("hashchange", follow);
  // A second click on the same number changes no hash.
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.('a[href^="#cell-"]');
    if (link && link.getAttribute("href") === location.hash) follow();
  });

  all(".copy").forEach((button) => {
    if (!navigator.clipboard) return;
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(one("code", button.parentElement).textContent);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
  });

  // Colours: as the system, light, dark.

  const THEMES = { "": "as the system", light: "light", dark: "dark" };
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const theme = document.getElementById("theme");
  let kept = "";
  // A page from a file may be refused a memory; then it forgets.
  try { kept = localStorage.getItem("fedkd-theme") ?? ""; } catch { /* forgets */ }

  function paint() {
    if (kept) document.documentElement.dataset.theme = kept;
    else delete document.documentElement.dataset.theme;
    theme.textContent = `Colours: ${THEMES[kept] ?? THEMES[""]}`;
    drawAll();
  }
  theme.addEventListener("click", () => {
    const keys = Object.keys(THEMES);
    kept = keys[(keys.indexOf(kept) + 1) % keys.length];
    try { localStorage.setItem("fedkd-theme", kept); } catch { /* forgets */ }
    paint();
  });
  dark.addEventListener("change", paint);

  // Charts.

  const CONFIG = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
  const AXES = { rounds: "round", bytes: "MB sent, up and down", examples: "images trained on by clients", seconds: "seconds", simulated: "simulated seconds" };
  const UNIT = { bytes: 1e-6, examples: 1, seconds: 1 };
  const variable = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const isDark = () => (kept ? kept === "dark" : dark.matches);
  // Plotly reads some HTML in names; ours are plain.
  const plain = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

  /** A colour, or a lighter one on dark ground; with an opacity. */
  function colourOf(hex, opacity = 1) {
    const light = isDark() ? 0.4 : 0;
    const parts = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
    const mixed = parts.map((part) => Math.round(part + (255 - part) * light));
    return `rgba(${mixed.join(",")},${opacity})`;
  }

  function layoutOf(x, y) {
    const ink = variable("--ink");
    const axis = { gridcolor: variable("--line"), zeroline: false, linecolor: variable("--faint"), automargin: true };
    const narrow = innerWidth < 640;
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false,
      font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: ink },
      margin: { l: narrow ? 48 : 64, r: 12, t: 28, b: 48 }, height: narrow ? 340 : 430,
      modebar: { bgcolor: "rgba(0,0,0,0)", color: variable("--faint"), activecolor: ink },
      hoverlabel: { bgcolor: variable("--raised"), bordercolor: variable("--line"), font: { color: ink }, namelength: -1 },
      xaxis: { ...axis, title: { text: x } }, yaxis: { ...axis, title: { text: y } },
    };
  }

  const PATHS = {
    circle: "M21 6a4 4 0 1 1-8 0a4 4 0 1 1 8 0", square: "M13.5 2.5h7v7h-7z", diamond: "M17 1l5 5l-5 5l-5-5z",
    "triangle-up": "M17 1.5l5 8.5h-10z", "triangle-down": "M17 10.5l5-8.5h-10z",
    "triangle-left": "M12.5 6l8.5-5v10z", "triangle-right": "M21.5 6l-8.5-5v10z",
    cross: "M15.5 1h3v3.5h3.5v3h-3.5v3.5h-3v-3.5h-3.5v-3h3.5z",
    x: "M14 1l3 3l3-3l2 2l-3 3l3 3l-2 2l-3-3l-3 3l-2-2l3-3l-3-3z", pentagon: "M17 1l5 3.8l-1.9 5.8h-6.2l-1.9-5.8z",
    hexagon: "M17 1l4.3 2.5v5l-4.3 2.5l-4.3-2.5v-5z",
    star: "M17 0.5l1.6 3.6l3.9.4l-2.9 2.6l.8 3.9l-3.4-2l-3.4 2l.8-3.9l-2.9-2.6l3.9-.4z",
  };

  function swatches() {
    all("#strategies label").forEach((label, place) => {
      const { colour, dash, symbol } = charts.strategies[place];
      const ink = colourOf(colour);
      const line = `<path d="M0 6H34" stroke="${ink}" stroke-width="2" stroke-dasharray="${dash === "solid" ? "" : dash.replaceAll("px", "")}"/>`;
      one("svg", label).innerHTML = `${line}<path d="${PATHS[symbol]}" fill="${ink}"/>`;
    });
  }

  const world = () => charts.settings[Number(one("#setting").value)];
  /** A strategy's name, with the sign of no global model where it has none in this setting only. */
  const nameOf = (place) => plain(charts.strategies[place].label) + (world().signed.includes(place) ? " ‡" : "");
  const chosen = () => new Set(all("#strategies input:checked").map((input) => Number(input.value)));
  const radio = (name) => one(`input[name="${name}"]:checked`).value;

  function draw(id, traces, layout, why) {
    const plot = one(`#${id} .plot`);
    if (traces.length === 0) {
      layout.annotations = [{ text: why, showarrow: false, xref: "paper", yref: "paper", x: 0.5, y: 0.5 }];
      layout.xaxis.visible = layout.yaxis.visible = false;
    }
    Plotly.react(plot, traces, layout, CONFIG);
  }

  const NONE = "No strategy is chosen that has this.";

  function drawCurves() {
    const metric = world().metrics[Number(one("#metric").value)];
    const axis = radio("axis");
    const digits = `.${metric?.decimals}f`;
    const layout = layoutOf(AXES[axis], metric ? `${metric.title} (${metric.unit})` : "");
    const log = one("#log").checked;
    if (log) Object.assign(layout.xaxis, { type: "log", dtick: "D2" });
    else layout.xaxis.rangemode = "tozero";
    const traces = [];
    const last = Math.max(...(metric?.curves ?? []).flatMap((curve) => curve.rounds));
    if (axis === "rounds" && !log && last < 10) layout.xaxis.dtick = 1;
    const own = chosen();
    const shown = (metric?.curves ?? []).filter((curve) => own.has(curve.strategy) && curve[axis]);
    for (const curve of shown) {
      const x = curve[axis];
      const { colour, dash, symbol } = charts.strategies[curve.strategy];
      const ink = colourOf(colour);
      if (curve.seeds > 1 && one("#bands").checked) {
        const edge = { mode: "lines", line: { width: 0.8, color: colourOf(colour, 0.45) }, hoverinfo: "skip", x };
        traces.push({ ...edge, y: curve.low }, { ...edge, y: curve.high, fill: "tonexty", fillcolor: colourOf(colour, 0.25 / Math.max(2, shown.length)) });
      }
      traces.push({
        x, y: curve.mean, name: nameOf(curve.strategy), mode: "lines+markers", line: { color: ink, dash, width: 2 },
        marker: { color: ink, symbol, size: 7, maxdisplayed: 8 },
        customdata: curve.low.map((low, i) => [curve.rounds[i], low, curve.high[i]]),
        hovertemplate: `%{y:${digits}}` + (curve.seeds > 1 ? ` (%{customdata[1]:${digits}} to %{customdata[2]:${digits}})` : "")
          + `, round %{customdata[0]}, ${axis === "rounds" ? "" : "%{x:.4~g} " + ({ bytes: "MB", simulated: AXES.simulated }[axis] ?? axis)}`,
      });
    }
    draw("curves", traces, layout, NONE);
  }

  function drawCosts() {
    const cost = radio("cost");
    const own = chosen();
    const points = (world().costs[cost] ?? []).filter((point) => own.has(point.strategy));
    const layout = layoutOf(`${AXES[cost]}, of a run`, "Global accuracy (%)");
    const costs = points.map((point) => point.cost * UNIT[cost]);
    const least = Math.min(...costs.filter((value) => value > 0));
    // Who sends nothing stands at 0, which a logarithm has not.
    if (Math.max(...costs) > 10 * least && !costs.includes(0)) Object.assign(layout.xaxis, { type: "log", dtick: "D2" });
    else layout.xaxis.rangemode = "tozero";
    const traces = points.map((point, i) => {
      const { colour, symbol } = charts.strategies[point.strategy];
      const hollow = point.competes ? "" : "-open";
      return {
        x: [costs[i]], y: [point.quality], name: nameOf(point.strategy), mode: "markers", cliponaxis: false,
        marker: { color: colourOf(colour), symbol: symbol + hollow, size: 12, line: { width: hollow ? 2 : 0, color: colourOf(colour) } },
        hovertemplate: "%{y:.2f} % at %{x:.4~s}",
      };
    });
    const front = points.filter((point) => point.front).sort((a, b) => a.cost - b.cost);
    if (front.length > 0) {
      traces.unshift({
        x: front.map((point) => point.cost * UNIT[cost]), y: front.map((point) => point.quality), mode: "lines",
        line: { shape: "hv", color: variable("--faint"), width: 1.5 }, hoverinfo: "skip",
      });
    }
    draw("costs", traces, layout, NONE);
  }

  /** What a seed's chart shows: of the seed that is chosen, if the setting has it. */
  const seedOf = (id, list) => list.find((item) => String(item.seed) === one(`#${id} select`).value) ?? list[0];

  function drawClients() {
    const found = seedOf("clients", world().clients);
    const own = chosen();
    const shown = (found?.strategies ?? []).filter((item) => own.has(item.strategy)).reverse();
    const layout = layoutOf("client", "");
    const keys = [...new Set(shown.flatMap((item) => Object.keys(item.clients)))].sort(order.compare);
    const z = shown.map((item) => keys.map((key) => item.clients[key] ?? null));
    layout.xaxis = { ...layout.xaxis, type: "category", showgrid: false, nticks: innerWidth < 640 ? 10 : 30 };
    layout.yaxis = { ...layout.yaxis, type: "category", showgrid: false };
    layout.height = Math.max(220, 120 + 30 * shown.length);
    const traces = shown.length === 0 ? [] : [heat(z, keys, shown.map((item) => nameOf(item.strategy)), {
      zmin: 0, zmax: 100, texttemplate: keys.length <= room(7.5) ? "%{z:.0f}" : "",
      hovertemplate: "%{y}<br>client %{x}: %{z:.2f} %<extra></extra>", colorbar: bar("%"),
    })];
    draw("clients", traces, layout, NONE);
  }

  /** How many columns with a text of some letters a heat map has room for. */
  const room = (letters) => (one("main").clientWidth - 220) / (letters * 4.2);

  const bar = (title) => ({ title: { text: innerWidth < 640 ? "" : title }, thickness: 10, outlinewidth: 0, xpad: 4 });

  function heat(z, x, y, more) {
    const colorscale = [[0, variable("--low")], [1, variable("--high")]];
    return { type: "heatmap", z, x, y, colorscale, xgap: 1, ygap: 1, hoverongaps: false, ...more };
  }

  function drawPartition() {
    const found = seedOf("partition", world().partitions);
    const layout = layoutOf("class", "client");
    const traces = [];
    if (found) {
      const { counts, classes } = found;
      const most = Math.max(2, ...counts.map((line) => Math.max(...line)));
      const ticks = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 50000].filter((tick) => tick <= most);
      const kept = ticks.filter((_, i) => (ticks.length - 1 - i) % 2 === 0);
      const text = counts.map((line) => line.map((count) => (count ? count.toLocaleString("en") : "")));
      const z = counts.map((line) => line.map((count) => (count ? Math.log10(count) : null)));
      const digits = String(most).length + 3;
      traces.push(heat(z, classes.map((name, i) => `${i}`), counts.map((_, k) => `${k}`), {
        text, texttemplate: classes.length <= room(digits) && counts.length <= 40 ? "%{text}" : "", zmin: 0, zmax: Math.log10(most),
        customdata: counts.map(() => classes.map(plain)),
        hovertemplate: "client %{y}, %{customdata}: %{text} images<extra></extra>",
        colorbar: { ...bar("images"), tickvals: kept.map(Math.log10), ticktext: kept.map((tick) => tick.toLocaleString("en")) },
      }));
      const step = Math.ceil(classes.length / (innerWidth < 640 ? 12 : 30));
      const at = classes.map((_, i) => i).filter((i) => i % step === 0);
      const cut = (name) => (name.length > 14 ? `${name.slice(0, 13)}…` : name);
      Object.assign(layout.xaxis, { type: "category", showgrid: false, tickvals: at, ticktext: at.map((i) => plain(cut(classes[i]))) });
      Object.assign(layout.yaxis, { type: "category", showgrid: false, autorange: "reversed", nticks: 20 });
      layout.height = Math.min(900, Math.max(260, 110 + 24 * counts.length));
    }
    draw("partition", traces, layout, "Its runs left no counts.csv.");
  }

  const DRAWN = { curves: drawCurves, costs: drawCosts, clients: drawClients, partition: drawPartition };
  const there = Object.entries(DRAWN).filter(([id]) => document.getElementById(id));

  function drawAll() {
    if (!document.getElementById("charts")) return;
    swatches();
    there.forEach(([, drawOne]) => drawOne());
  }

  function fill(select, options) {
    const before = select.value;
    select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
    if (options.some(([value]) => String(value) === before)) select.value = before;
    select.parentElement.hidden = options.length < 2;
  }

  /** Offer what the chosen setting has. */
  function offer() {
    if (one("#metric")) fill(one("#metric"), world().metrics.map((metric, i) => [i, metric.title]));
    for (const [id, key] of [["clients", "clients"], ["partition", "partitions"]]) {
      const select = one(`#${id} select`);
      if (select) fill(select, world()[key].map(({ seed }) => [seed, `seed ${seed}`]));
    }
  }

  if (document.getElementById("charts")) {
    one("#setting").addEventListener("change", () => { offer(); drawAll(); });
    one("#strategies").addEventListener("change", drawAll);
    all("#strategies button").forEach((button) => button.addEventListener("click", () => {
      all("#strategies input").forEach((input) => { input.checked = Boolean(button.dataset.all); });
      drawAll();
    }));
    there.forEach(([id, drawOne]) => document.getElementById(id).addEventListener("change", drawOne));
    offer();
  }
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth !== width) { width = innerWidth; drawAll(); }
  });
  paint();
  follow();
})();
