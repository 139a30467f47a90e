"""The HTML page: what is in it, and what it does in a real browser.

One small results folder and one page for all tests; those that need a browser drive
Chromium, and are skipped where there is none.
"""

import dataclasses
import functools
import json
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from html.parser import HTMLParser

import numpy as np
import pytest
from house import ROOT
from safetensors.numpy import save_file

from fedkd.base.folders import ResultsFolder
from fedkd.cli import main
from fedkd.errors import ConfigError
from fedkd.report.escaping.markdown import unescaped
from fedkd.report.html.charts import charts_of
from fedkd.report.html.images import strip
from fedkd.report.html.rendering import TEMPLATES, html_of, render
from fedkd.report.html.view import OWN, anchors_of, page_view, slug
from fedkd.report.parts import Part
from fedkd.report.reading import lines_of, page_of, read_report
from fedkd.report.results import Row, write_results

ODD = "</script><script>alert(1)</script>"
BOLD = "<b>dog</b>"  # which Plotly would draw as such
PLOTLY = "plotly.js v"
NODE = shutil.which("node")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SUITE = """
name: toy
description: A suite of <b>nothing</b>.
rounds: 3
clients: 2
seeds: 0-2
datasets: [digits]
partitions: [{name: dirichlet, alpha: 0.1}, iid]
models: [cnn]
metrics: [loss]
training: {local_steps: 1}
strategies: [fedavg, fedbn, local]
"""


def row(label, accuracy, seed, alpha=0.1, **changes):
    name = f"{re.sub('[^a-z]', '', label)}-{alpha}-s{seed}"
    values = {
        "global_accuracy": accuracy, "local_accuracy": accuracy - 10, "seconds": 2.0,
        "bytes_up": 1_000_000, "bytes_down": 2_000_000, "client_examples": 1200,
        "split_hash": f"s{alpha}{seed}", "config_hash": f"hash{name}", "run_id": name,
        "global_of": "model", "metrics": {"global_loss": 0.5}, **changes,
    }  # fmt: skip
    kind = "iid" if alpha is None else "dirichlet"
    status = values.pop("status", "done")
    return Row("toy", label, "digits", kind, alpha, "cnn", 2, 3, seed, status, **values)


def leave(folder, one):
    """Write what a run leaves."""
    home = folder.run(one.run_id).path
    home.mkdir(parents=True)
    lines = [
        {
            "round": i, "global_accuracy": one.global_accuracy - 3 + i,
            "local_accuracy": one.local_accuracy, "bytes_up": i * 1_000_000,
            "bytes_down": i * 1_000_000, "client_examples": i * 400, "seconds": i * 0.5,
            "local_accuracy_by_client": {"0": 40.0 + i, "1": None}, "measured": {},
            "logged": {"steps": 7.0},
        }
        for i in (1, 2, 3)
    ]  # fmt: skip
    (home / "metrics.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    (home / "counts.csv").write_text(f"client,cat,{BOLD}\n0,5,0\n1,2,130\n")


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A results folder: two settings, three seeds, a skipped strategy, a gallery."""
    folder = ResultsFolder(tmp_path_factory.mktemp("toy"))
    rows = [
        row("fedavg", 80.0 + s, s, alpha) for alpha in (0.1, None) for s in range(3)
    ]
    rows += [row(ODD, 90.0 + s + s * s / 9, s) for s in range(3)]
    rows += [row("fedbn", 70.0, s, global_of="clients") for s in range(3)]
    rows += [row("local", 60.0, 0, status="failed", reason=f"why: {ODD}")]
    for one in rows:
        leave(folder, one)
    images = {"client 0": np.arange(128, dtype=np.uint8).reshape(2, 1, 8, 8)}
    save_file(images, folder.run(rows[6].run_id).gallery)
    write_results(rows, folder.results)
    folder.suite.write_text(SUITE)
    place = {
        "fedkd": "1",
        "command": ["fedkd", "bench", "a b"],
        "cpu": "<i>",
        "gpu": None,
    }
    folder.environment.write_text(json.dumps(place))
    return folder


@pytest.fixture(scope="module")
def report(toy):
    return read_report([toy])


@pytest.fixture(scope="module")
def page(report):
    return html_of(report, warnings.warn)


class Reader(HTMLParser):
    """Takes a page apart: texts of fields by table, tags, and links."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.tags, self.links, self.ids = {}, [], [], []
        self._table, self._cell = None, None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append(tag)
        self.ids.append(values.get("id"))
        if "data-name" in values:
            self._table = self.tables.setdefault(values["data-name"], [])
        if tag == "tr":
            self._table.append([])
        if tag in ("td", "th"):
            self._cell = []
        if tag == "a":
            self.links.append(values["href"])

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self._table[-1].append("".join(self._cell).strip())
            self._cell = None

    def handle_data(self, data):
        if self._cell is not None:
            self._cell.append(data)


def markdown_tables(text):
    """Return the tables of a Markdown page by heading, without the signs of marks."""
    tables = {}
    for part in text.split("\n## ")[1:]:
        lines = [line for line in part.splitlines() if line.startswith("|")]
        if lines:
            rows = [[x.strip() for x in line.strip("|").split(" | ")] for line in lines]
            signs = re.compile(r"^\*\*|\*\*$|</?u>")
            bare = [[unescaped(signs.sub("", x)) for x in one] for one in rows]
            tables[part.splitlines()[0]] = [bare[0], *bare[2:]]
    return tables


def test_the_tables_are_those_of_the_markdown_page(report, page):
    found = Reader(page).tables
    wanted = markdown_tables(page_of(report))
    assert list(wanted)[:4] == [
        "Global accuracy", "Local accuracy", "Global loss", "Costs of a run",
    ]  # fmt: skip
    assert "What each stage did" in wanted
    assert {name: found[name] for name in wanted} == wanted
    assert set(found) == {*wanted, "Runs"}


def test_every_number_leads_to_its_runs(report, page):
    seen = Reader(page)
    assert len(seen.tables["Runs"]) == 1 + len(report.rows)
    targets = {link[1:] for link in seen.links if link.startswith("#cell-")}
    # Of five pairs of strategy and setting, one has no run that is done, but it has runs.
    assert targets == {f"cell-{i}" for i in range(5)}
    assert {link[1:] for link in seen.links} <= set(seen.ids)
    (failed,) = [one for one in seen.tables["Runs"] if one[0] == "local"]
    assert failed[-4:] == ["failed", f"why: {ODD}", "hashlocal-0.1-s0", "local-0.1-s0"]
    assert failed[5:9] == ["1", "2", "1,200", "2"]


def test_names_are_texts_and_never_tags(page):
    seen = Reader(page)
    assert "<script>alert(1)" not in page
    # Data, Plotly and the page's own.
    assert seen.tags.count("script") == 3
    assert "b" not in seen.tags
    assert "i" not in seen.tags
    assert any(ODD in one for one in seen.tables["Global accuracy"])


def test_the_page_asks_for_nothing(page):
    own = page.replace(page[page.index(PLOTLY) : page.rindex("<script>")], "")
    assert "default-src 'none'" in own
    assert not re.search('(src|href)="(?!#|data:)', own)
    assert "url(" not in own


def test_no_part_takes_the_name_of_what_the_script_looks_for(report):
    source = (TEMPLATES / "page.html").read_text()
    assert set(re.findall(r'\bid="([a-z]+)"', source)) == OWN
    assert [*map(slug, ("Data", "Runs", "Cell 1", "Worst client"))] == [
        "data-part", "runs-part", "cell-1-part", "worst-client",
    ]  # fmt: skip
    (column,) = report.columns
    rows = [dataclasses.replace(one, metrics={"data": 0.5}) for one in report.rows]
    own = dataclasses.replace(column, name="data", title="Data", scope="clients")
    other = dataclasses.replace(report, rows=rows, columns=(own,))
    ids = ids_of(other)
    assert "data-part" in ids
    assert len(ids) == len(set(ids))


def ids_of(report):
    return [one for one in Reader(html_of(report, warnings.warn)).ids if one]


def test_parts_whose_titles_differ_in_signs_alone_or_not_have_links_of_their_own(
    report,
):
    titles = ["a_b", "a-b", "a b-2", "data", "a-b"]
    parts = [Part(title, notes=(str(i),)) for i, title in enumerate(titles)]
    links = ["a-b", "a-b-2", "a-b-2-2", "data-part", "a-b-3"]
    assert [*anchors_of(parts).items()] == [*zip(parts, links, strict=True)]
    (column,) = report.columns
    names = ("a_b", "a-b", "Provenance")  # the page has a list of the last one's title
    rows = [
        dataclasses.replace(one, metrics=dict.fromkeys(names, 0.5))
        for one in report.rows
    ]
    columns = tuple(
        dataclasses.replace(column, name=name, title=name, scope="clients")
        for name in names
    )
    ids = ids_of(dataclasses.replace(report, rows=rows, columns=columns))
    assert {"a-b", "a-b-2", "provenance", "provenance-2"} < set(ids)
    assert len(ids) == len(set(ids))


def test_simulated_time_is_an_axis_where_a_run_has_a_clock(report):
    page = page_view(report, warnings.warn)
    assert [key for key, _ in page.axes] == ["rounds", "bytes", "examples", "seconds"]
    curve = page.charts["settings"][0]["metrics"][0]["curves"][0]
    curve["simulated"] = [1.0, 2.0, 3.0]
    assert page.axes[-1] == ("simulated", "simulated time")


def test_curves_are_means_and_ranges_over_seeds_against_four_axes(report):
    drawn = charts_of(report, lines_of(report), warnings.warn)
    first, second = drawn["settings"]
    assert [one["title"] for one in first["metrics"]] == [
        "Global accuracy", "Local accuracy",
    ]  # fmt: skip
    assert [first["metrics"][0][name] for name in ("unit", "decimals")] == ["%", 2]
    curve = first["metrics"][0]["curves"][0]
    assert curve == {
        "strategy": 0, "seeds": 3, "mean": [79.0, 80.0, 81.0], "low": [78.0, 79.0, 80.0],
        "high": [80.0, 81.0, 82.0], "rounds": [1.0, 2.0, 3.0], "bytes": [2.0, 4.0, 6.0],
        "examples": [400.0, 800.0, 1200.0], "seconds": [0.5, 1.0, 1.5],
        "simulated": None,
    }  # fmt: skip
    assert [one["label"] for one in drawn["strategies"]] == ["fedavg", ODD, "fedbn ‡"]
    looks = [(one["colour"], one["symbol"]) for one in drawn["strategies"]]
    assert len(set(looks)) == 3
    assert second["costs"] == {}


def test_who_has_no_global_model_in_one_setting_is_signed_in_that_one(report):
    found = [
        dataclasses.replace(one, global_of="clients" if one.alpha is None else "model")
        for one in report.rows
    ]
    own = dataclasses.replace(report, rows=found)
    drawn = charts_of(own, lines_of(own), warnings.warn)
    assert drawn["strategies"][0]["label"] == "fedavg"
    assert [one["signed"] for one in drawn["settings"]] == [[], [0]]


def test_clients_classes_and_costs_are_drawn_as_they_were_measured(report):
    first, _ = charts_of(report, lines_of(report), warnings.warn)["settings"]
    assert [one["seed"] for one in first["clients"]] == [0, 1, 2]
    assert first["clients"][0]["strategies"][2] == {
        "strategy": 2,
        "clients": {"0": 43.0, "1": None},
    }
    assert first["partitions"][0] == {
        "seed": 0,
        "classes": ["cat", BOLD],
        "counts": [[5, 0], [2, 130]],
    }
    points = first["costs"]["bytes"]
    assert [(p["cost"], p["competes"], p["front"]) for p in points] == [
        (3e6, True, False),
        (3e6, True, True),
        (3e6, False, False),
    ]


def test_who_has_a_run_without_a_result_is_on_no_front_of_a_chart(report):
    lost = row(ODD, 0.0, 3, global_accuracy=None, status="failed")
    torn = dataclasses.replace(report, rows=[*report.rows, lost])
    first, _ = charts_of(torn, lines_of(report), warnings.warn)["settings"]
    points = first["costs"]["bytes"]
    assert [(p["competes"], p["front"]) for p in points] == [
        (True, True),
        (False, False),
        (False, False),
    ]


def test_a_damaged_file_costs_its_chart_and_is_told(toy, report, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(toy.path, copy)
    for path in copy.rglob("counts.csv"):
        path.write_text("client,cat\n0,many\n")
    for path in copy.rglob("gallery.safetensors"):
        path.write_bytes(b"no")
    said = []
    again = page_view(read_report([ResultsFolder(copy)]), said.append)
    assert not again.has("partitions")
    assert again.has("metrics")
    assert again.galleries == ()
    assert len(said) == 2 * 3 + 1
    assert "counts.csv:2: expected a client and 1 whole numbers" in said[0]


def test_images_are_png_side_by_side_with_a_gap():
    one = strip("client 0", np.full((3, 1, 8, 6), 7, np.uint8))
    assert (one.width, one.height, one.number) == (3 * 6 + 2, 8, 3)
    assert one.uri.startswith("data:image/png;base64,iVBORw0KGgo")
    assert strip("many", np.zeros((40, 3, 4, 4), np.uint8)).number == 16


def test_the_commands_are_what_was_called_and_what_runs_it_again(toy, report):
    (origin,) = page_view(report, warnings.warn).origins
    suite = str(toy.suite)
    assert [command.line for command in origin.commands] == [
        "fedkd bench 'a b'",
        f"fedkd bench {suite} --out {toy.path}-again",
        f"fedkd bench {suite} --out {toy.path}-again --strategies fedavg --seeds 0",
    ]
    assert origin.facts == (("fedkd", "1"), ("cpu", "<i>"))
    assert origin.suite == SUITE


def test_what_runs_it_again_names_plugins_and_data_of_the_first_time(toy, tmp_path):
    copy = ResultsFolder(tmp_path / "copy")
    shutil.copytree(toy.path, copy.path)
    called = ["fedkd", "--plugin", "a b.py", "bench", "x", "--plugin=c.py"]
    called += ["--data-root", "/data", "--jobs", "2"]
    copy.environment.write_text(json.dumps({"command": called}))
    (origin,) = page_view(read_report([copy]), warnings.warn).origins
    for command in origin.commands[1:]:
        assert (
            "-again --plugin 'a b.py' --plugin c.py --data-root /data" in command.line
        )
        assert "--jobs" not in command.line
        assert "--chosen" not in command.line


def test_what_runs_it_again_takes_the_values_that_a_search_chose(toy, tmp_path):
    copy = ResultsFolder(tmp_path / "copy")
    shutil.copytree(toy.path, copy.path)
    shutil.copy(ROOT / "benchmarks" / "results" / "seven" / "chosen.json", copy.chosen)
    (origin,) = page_view(read_report([copy]), warnings.warn).origins
    for command in origin.commands[1:]:
        assert f"-again --chosen {copy.chosen}" in command.line


def test_results_alone_are_a_page_without_charts(tmp_path):
    rows = [row("fedavg", 80.0, 0), row("fedprox", 81.0, 0)]
    write_results([rows[0]], tmp_path / "results.csv")
    said = []
    read = read_report([ResultsFolder(tmp_path)], remark=said.append)
    text = html_of(read, said.append)
    assert Reader(text).tables["Global accuracy"][1] == ["fedavg", "80.00"]
    assert PLOTLY not in text
    assert len(text) < 60_000
    write_results([], tmp_path / "results.csv")
    empty = html_of(
        read_report([ResultsFolder(tmp_path)], remark=said.append), said.append
    )
    assert "There are no results yet." in empty


def test_a_missing_extra_is_one_sentence(report, monkeypatch):
    page = page_view(report, warnings.warn)
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(ConfigError, match=r"pip install 'fedkd\[report\]'"):
        render(page)


def test_the_command_writes_the_page_into_the_folder_or_where_it_is_told(
    toy, tmp_path, capsys
):
    assert main(["report", str(toy.path), "--format", "html"]) == 0
    assert toy.page.read_text().startswith("<!doctype html>")
    assert capsys.readouterr().out == ""
    assert not toy.plots.exists()
    target = tmp_path / "x.html"
    both = [str(toy.path), str(tmp_path)]
    assert main(["report", *both, "--format", "html"]) == 2
    assert "no place for the page. Add --out FILE." in capsys.readouterr().err
    assert main(["report", both[0], "--format", "html", "--out", str(target)]) == 0
    # They differ in the command that makes them.
    again = f"fedkd report {toy.path} --format html"
    assert target.read_text() == toy.page.read_text().replace(
        again, f"{again} --out {target}"
    )


def test_the_command_that_makes_the_page_is_on_it(toy, tmp_path):
    other, out = tmp_path / "other", tmp_path / "both.html"
    other.mkdir()
    write_results([row("more", 50.0, 0)], other / "results.csv")
    plugin = tmp_path / "plugin.py"
    plugin.write_text("")
    called = ["report", str(toy.path), str(other), "--format", "html"]
    called += ["--out", str(out), "--target", "80.0", "--plugin", str(plugin)]
    assert main(called) == 0
    commands = re.findall(r"<code>(fedkd report .*)</code>", out.read_text())
    assert commands == [shlex.join(["fedkd", *called])]


@pytest.mark.skipif(NODE is None, reason="there is no node on the path")
def test_counts_of_lost_runs_are_no_numbers_to_sort_by():
    source = (TEMPLATES / "page.js").read_text("utf-8")
    own = source[source.index("  const leading") : source.index("  function compare")]
    lost = ["5 failed", "3 undefined", "2 diverged, 1 failed", "failed", "-", ""]
    known = ["80.00", "-1,234.50 ± 0.07 (n=2, 1 failed)", "3 to 20", "**9e-05**"]
    script = (
        f"{own}; console.log(JSON.stringify({json.dumps(lost + known)}.map(numberOf)))"
    )
    said = subprocess.run([NODE, "-e", script], capture_output=True, check=True)
    assert json.loads(said.stdout) == [None] * 6 + [80.0, -1234.5, 3.0, 9e-05]


@pytest.fixture(scope="module")
def tab(page, tmp_path_factory):
    """The page in a browser; what it says on the console or asks for is a fault."""
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is not here")
    if CHROMIUM is None:
        pytest.skip("there is no chromium on the path")
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(page)
    faults = []
    options = {"executable_path": CHROMIUM, "args": ["--no-sandbox", "--disable-gpu"]}
    with sync.sync_playwright() as driver, driver.chromium.launch(**options) as browser:
        tab = browser.new_page(viewport={"width": 1280, "height": 900})
        tab.set_default_timeout(60_000)  # of a machine with more to do
        tab.on("console", lambda message: faults.append(message.text))
        tab.on("pageerror", lambda error: faults.append(str(error)))
        tab.route("**/*", functools.partial(refuse, path.as_uri(), faults))
        tab.goto(path.as_uri())
        tab.wait_for_selector("#curves .main-svg")
        yield tab
    assert faults == []


def refuse(allowed, faults, route):
    if route.request.url == allowed:
        route.continue_()
    else:
        faults.append(route.request.url)
        route.abort()


def column(tab, number, part="global-accuracy"):
    return tab.eval_on_selector_all(
        f"#{part} tbody tr:not([hidden])",
        "(rows, i) => rows.map(row => row.cells[i].textContent.trim())",
        number,
    )


def test_tables_sort_and_filter(tab):
    head = tab.locator("#global-accuracy thead th").nth(1)
    assert head.get_attribute("aria-sort") == "none"
    before = column(tab, 0)
    head.get_by_role("button").focus()
    tab.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert column(tab, 0) == [ODD, "fedavg", "fedbn ‡", "local †"]
    tab.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    # What has no number is last in either order.
    assert column(tab, 0) == ["fedbn ‡", "fedavg", ODD, "local †"]
    tab.keyboard.press("Enter")
    assert column(tab, 0) == before
    tab.get_by_label("Filter Global accuracy").fill("FED 0.0")
    assert column(tab, 0) == ["fedbn ‡"]
    assert "1 of 4 rows" in tab.locator("#global-accuracy .count").inner_text()
    tab.locator("#global-accuracy").get_by_role("button", name="Show all").click()
    assert column(tab, 0) == before


def test_a_number_leads_to_its_runs_and_back_to_all(tab):
    tab.locator("#global-accuracy tbody a").first.click()
    shown = tab.locator("#runs tbody tr:visible")
    assert shown.count() == 3
    assert column(tab, 0, "runs") == ["fedavg"] * 3
    assert column(tab, 2, "runs") == ["0", "1", "2"]
    said = tab.locator("#runs .count").inner_text()
    assert said == "fedavg, digits, dirichlet 0.1: 3 of 13 rows"
    tab.locator("#runs").get_by_role("button", name="Show all").click()
    assert shown.count() == 13


TRACES = "() => document.querySelector('#curves .plot').data.map(t => [t.name, t.x])"


def test_charts_have_bands_axes_and_strategies_to_choose(tab):
    three = tab.evaluate(TRACES)
    assert len(three) == 9  # two edges of a band and a mean, of three strategies
    assert [x for name, x in three if name == "fedavg"] == [[1, 2, 3]]
    tab.get_by_label("Seed bands").uncheck()
    assert len(tab.evaluate(TRACES)) == 3
    for title, values in (("bytes", [2, 4, 6]), ("seconds", [0.5, 1, 1.5])):
        tab.locator("#curves").get_by_role("radio", name=title).check()
        assert tab.evaluate(TRACES)[0] == ["fedavg", values]
    tab.locator("#strategies").get_by_label("fedavg", exact=True).uncheck()
    assert len(tab.evaluate(TRACES)) == 2
    tab.get_by_label("Setting").select_option(label="digits, iid")
    assert tab.evaluate(TRACES) == []
    tab.locator("#strategies").get_by_role("button", name="All").click()
    assert len(tab.evaluate(TRACES)) == 1
    ticks = tab.locator("#partition .plot .xtick text").all_text_contents()
    assert ticks == ["cat", BOLD]


def test_a_telephone_scrolls_tables_and_not_the_page(tab):
    tab.set_viewport_size({"width": 400, "height": 900})
    assert tab.evaluate("document.documentElement.scrollWidth") == 400
    box = tab.locator("#runs .box")
    assert box.evaluate("box => box.scrollWidth > box.clientWidth")


def test_colours_are_those_of_the_system_or_of_the_switch(tab):
    def ground():
        return tab.evaluate("getComputedStyle(document.body).backgroundColor")

    dark, light = "rgb(20, 24, 29)", "rgb(255, 255, 255)"
    tab.emulate_media(color_scheme="dark")
    assert ground() == dark
    switch = tab.locator("#theme")
    switch.click()
    assert (ground(), switch.inner_text()) == (light, "Colours: light")
    tab.emulate_media(color_scheme="light")
    switch.click()
    assert (ground(), switch.inner_text()) == (dark, "Colours: dark")
    switch.click()
    assert ground() == light
