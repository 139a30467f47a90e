"""The pages of ``docs/results``: what was run, what its numbers say, and what they do not.

Everything on them follows from a folder of ``benchmarks/results``: its ``results.csv``, the
sections of its ``table.md``, its suite and ``command.txt``, the commands that made it.
``python benchmarks/tables.py`` writes them.
"""

from __future__ import annotations

import csv
import re
import shlex
import statistics
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from across import across, by_chance, too_few
from holes import asked_for, holes, suites_of

from fedkd.metrics.columns import Column
from fedkd.plugins.registry import Registry
from fedkd.report.grouping import GLOBAL, LOCAL, Setting, done, group, titles_of
from fedkd.report.notes import bounds
from fedkd.report.results import Row, read_results
from fedkd.report.stats.intervals import LEAST_SEEDS
from fedkd.report.stats.pairs import Pair, against
from fedkd.report.summary import Table, baseline_of, summarise
from fedkd.report.text import amount, markdown_grid, numbered, signed, spread
from fedkd.suite.metrics import every_column, metrics_of
from fedkd.suite.spread import spread_strategies
from fedkd.suite.suite import Suite, load_suite

EQUAL_WORK = "equal-work"
"""What a label has in it whose row trained on as many images as the methods beside it."""
KEPT = ("Runs without a result", "Notes on the data", "Tuning")
"""Sections of a table that are shown as they are, where they are."""
Sections = Mapping[str, str]
"""Of ``table.md``, by heading."""


@dataclass(frozen=True)
class Recorded:
    """A folder of recorded results."""

    path: Path
    rows: tuple[Row, ...]
    suite: Suite
    table: Table
    sections: Sections
    commands: str
    """The commands that made it, one a line."""
    missing: tuple[str, ...]
    """What they ask for and it does not hold: a line a setting."""
    measured: tuple[str, ...]
    """Sections of what is measured beside accuracy after the last round."""

    @property
    def name(self) -> str:
        """What the folder is called."""
        return self.path.name


def recorded(path: Path, sections: Sections, registry: Registry) -> Recorded:
    """Return a folder of recorded results.

    Args:
        path: The folder.
        sections: Of its ``table.md``.
        registry: Where strategies are looked up.
    """
    rows = tuple(read_results(path / "results.csv"))
    suite = load_suite(rows[0].suite)
    table = summarise(rows, references_of(rows, suite, registry))
    commands = (path / "command.txt").read_text("utf-8").strip()
    asked = asked_for(suites_of(commands, registry), registry)
    missing = tuple(holes(rows, asked))
    measured = tuple(
        column.title
        for column in columns_of(suite, registry)
        if column.name not in (GLOBAL.name, LOCAL.name)
        and not column.half
        and column.title in sections
    )
    return Recorded(path, rows, suite, table, sections, commands, missing, measured)


def columns_of(suite: Suite, registry: Registry) -> list[Column]:
    """Return what a suite measures beside accuracy on the test set."""
    metrics = metrics_of(registry, suite.metrics, suite.where)
    return [*every_column(registry, metrics, suite, suite.where).values()]


def references_of(rows: Sequence[Row], suite: Suite, registry: Registry) -> set[str]:
    """Return the labels of rows that are references and no competitors."""
    every = spread_strategies(registry, suite.strategies)
    names = {entry.label: entry.name for entry in every}
    labels = {row.strategy for row in rows}
    # What a command adds to the suite has its name as its label.
    return {one for one in labels if registry.is_reference(names.get(one, one))}


def page(one: Recorded) -> str:
    """Return the page of a folder."""
    there = f"../../benchmarks/results/{one.name}"
    parts = [
        f"# {one.name}",
        f"{one.suite.description} In `benchmarks/results/{one.name}`, "
        f"[table.md]({there}/table.md) has all tables and "
        f"[results.csv]({there}/results.csv) all runs.",
        *(f"## {t}\n\n{one.sections[t]}" for t in (GLOBAL.title, *one.measured)),
        *_across(one),
        "## What is separated, and what is not\n\n" + "\n".join(_conclusions(one)),
        f"## Cost beside accuracy\n\n{_costs(one)}",
        *_ceilings(one),
        *(
            f"## {t}\n\n{s}"
            for t, s in one.sections.items()
            if t.startswith("Reported")
        ),
        *_missing(one),
        f"## What was run\n\n```sh\n{one.commands}\n```\n\n{_what_was_run(one)}",
        *(
            f"## {title}\n\n{text}"
            for title in KEPT
            if (text := one.sections.get(title))
        ),
        f"## One cell of it again\n\n{_again(one)}",
    ]
    return "\n\n".join(parts) + "\n"


def index(every: Sequence[Recorded]) -> str:
    """Return the page that lists all folders."""
    body = []
    for one in every:
        datasets = dict.fromkeys(row.dataset for row in one.rows)
        seeds = {row.seed for row in one.rows}
        counts = Counter(row.status for row in one.rows)
        body.append(
            [
                f"[{one.name}]({one.name}.md)",
                ", ".join(datasets),
                str(len(one.table.strategies)),
                str(len(one.table.settings)),
                str(len(seeds)),
                ", ".join(f"{n} {status}" for status, n in counts.items()),
            ]
        )
    header = ["table", "data", "rows", "settings", "seeds", "runs"]
    grid = markdown_grid(header, body, names=2, remarks=1)
    return (
        "# Results\n\n"
        "Every table here was made by the command on its page, from one harness, and is "
        "written anew from the recorded runs whenever reports change. Accuracy is that of "
        "the last round; nothing was chosen by test images. [How to read a table]"
        "(../read-a-table.md) says what ± and [ ] are, [protocol and honesty]"
        "(../protocol.md) what every number rests on.\n\n"
        f"{grid}\n"
    )


def _missing(one: Recorded) -> list[str]:
    """Return what the table does not have yet, if anything."""
    if not one.missing:
        return []
    lines = "\n".join(f"- {line}" for line in one.missing)
    return [f"## What is missing\n\nNot run yet, and no part of any mean:\n\n{lines}"]


def _what_was_run(one: Recorded) -> str:
    lines = [one.sections[title] for title in ("Protocol", "Provenance")]
    hours = sum(row.seconds or 0 for row in one.rows) / 3600
    taken = f"{amount(hours)} hours" if hours >= 1 else f"{amount(hours * 60)} minutes"
    apart = "; what was tried to choose settings is not counted"
    lines.append(
        f"- Together the runs took {taken} of one process"
        f"{apart if one.sections.get('Tuning') else ''}."
    )
    return "\n".join(filter(None, lines))


def _conclusions(one: Recorded) -> list[str]:
    """Return in words what the paired intervals of each setting leave 0 or not."""
    titles = titles_of(one.table.settings)
    seeds: dict[Setting, set[int]] = {}
    for (_, setting), rows in group(done(one.rows, GLOBAL)).items():
        seeds.setdefault(setting, set()).update(row.seed for row in rows)
    lines, few = [], []
    for setting in one.table.settings:
        several = len(one.table.settings) > 1
        if several and len(seeds.get(setting, ())) < LEAST_SEEDS:
            few.append(titles[setting])
            continue
        lines += [f"**{titles[setting]}**", ""] if several else []
        lines += [f"- {text}" for text in _of_setting(one, setting)] + [""]
    if few:
        lines += [
            f"Nothing can be separated on {'; '.join(few)}: an interval takes "
            f"{LEAST_SEEDS} seeds in common.",
            "",
        ]
    if ranks := one.sections.get("Mean ranks"):
        lines += ["Over settings and seeds:", "", ranks]
    return lines


def _across(one: Recorded) -> list[str]:
    """Return the section on how methods stand over data sets, if there are several."""
    text = across(one.rows, one.table, _baselines(one, one.table.settings))
    return [f"## Over the data sets\n\n{text}"] if text else []


def _baselines(one: Recorded, settings: Iterable[Setting]) -> list[str]:
    """Return FedAvg, or who stands for it, and the rows of equal work, each once."""
    bases = [base for own in settings if (base := baseline_of(one.table, own))]
    bases += [label for label in one.table.strategies if EQUAL_WORK in label]
    return list(dict.fromkeys(bases))


def _of_setting(one: Recorded, setting: Setting) -> list[str]:
    bases = _baselines(one, [setting])
    lacking = {key for key, entry in one.table.entries.items() if entry.is_of_clients}
    apart = one.table.references | {la for la, there in lacking if there == setting}
    lines = [_best(one.table, setting)]
    for base in bases:
        lines += _against(
            base, _pairs(one, base, setting, GLOBAL, apart), "Global accuracy: "
        )
    if lacking and bases:
        pairs = _pairs(one, bases[0], setting, LOCAL, one.table.references)
        lines += _against(bases[0], pairs, "Local accuracy: ")
    return [line for line in lines if line]


def _pairs(
    one: Recorded, base: str, setting: Setting, column: Column, apart: Collection[str]
) -> dict[str, Pair]:
    """Return what each competitor has above a baseline, in a setting, by label."""
    pairs = against(one.rows, base, column).items()
    return {la: p for (la, there), p in pairs if there == setting and la not in apart}


def _best(table: Table, setting: Setting) -> str:
    standing = table.standings[setting]
    pair = standing.pair
    if pair is None:
        return ""
    place = standing.ranked.index(pair.second) + 1
    other = (
        f"`{pair.second}`, in place {place}"
        if place > 2
        else f"the runner-up, `{pair.second}`"
    )
    where = f"not separated from {other}"
    if standing.is_worse_in_pair:
        where = f"worse than {other}, on their common seeds"
    if "best" in standing.marks.values():
        where = f"separated from all that come after; from {other}"
    return (
        f"`{pair.first}` has the best mean of those with a global model that compete; it "
        f"is {where}: {_shown(pair)}."
    )


def _against(base: str, pairs: Mapping[str, Pair], start: str) -> list[str]:
    """Return who is above, below and not separated from a baseline, and who is untested."""
    ordered = sorted(pairs.items(), key=lambda item: -(item[1].mean or 0))
    tested = [(label, pair) for label, pair in ordered if pair.interval is not None]
    untested = [
        f"`{label}` {_shown(pair)} ({too_few(pair)})"
        for label, pair in ordered
        if pair.interval is None
    ]
    lacking = f"{start}no interval against `{base}`: {'; '.join(untested)}."
    if not tested:
        nothing = f"{start}from `{base}` nothing can be separated"
        alone = f"{nothing}: nobody else competes there."
        return [f"{nothing}.", lacking] if untested else [alone]

    def those(sign: int) -> str:
        shown = (f"`{la}` {_shown(pair)}" for la, pair in tested if pair.side == sign)
        return "; ".join(shown) or "none"

    return [
        f"{start}separated above `{base}`: {those(1)}.",
        f"{start}separated below `{base}`: {those(-1)}.",
        f"{start}not separated from `{base}`: {those(0)}. {by_chance(len(tested))}",
        *([lacking] if untested else []),
    ]


def _shown(pair: Pair) -> str:
    interval = bounds(pair.interval, pair.decimals)
    return f"{signed(pair.mean or 0, pair.decimals)} {interval}".rstrip()


COSTS: tuple[tuple[str, Callable[[Row], float]], ...] = (
    ("client images", lambda row: row.client_examples or 0),
    ("server images", lambda row: row.server_examples or 0),
    ("MB", lambda row: ((row.bytes_up or 0) + (row.bytes_down or 0)) / 1e6),
)
"""What stands beside accuracy, and how to read it from a row."""


def _costs(one: Recorded) -> str:
    """Return accuracy and what it cost, also as multiples of the baseline's."""
    base, titles = baseline_of(one.table), titles_of(one.table.settings)
    groups, body = group(one.rows), []
    for setting in one.table.settings:
        means = {
            label: [statistics.fmean(map(read, runs)) for _, read in COSTS]
            for label in one.table.strategies
            if (runs := done(groups.get((label, setting), []), GLOBAL))
        }
        # Nothing is a multiple of a baseline that has no result here.
        others = means.get(base or "", [0.0] * len(COSTS))
        for label, costs in means.items():
            values = one.table.entries[label, setting].values
            times = [
                f"{amount(cost)} ({cost / other:.3g} x)" if other else amount(cost)
                for cost, other in zip(costs, others, strict=True)
            ]
            body.append([titles[setting], label, spread(values), *times])
    header = ["setting", "strategy", "accuracy", *(name for name, _ in COSTS)]
    return (
        f"{markdown_grid(header, body, names=2)}\n\n"
        "Means over runs. Images are those that went through a training step, generators' "
        f"included; MB are sent and received, all clients together. x: times `{base}`."
    )


def _ceilings(one: Recorded) -> list[str]:
    """Return what the last layers could reach, if ``ceiling.py`` has measured it."""
    path = one.path / "ceiling.csv"
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    titles = titles_of(one.table.settings)
    names = {(s.dataset, s.partition, s.alpha): title for s, title in titles.items()}
    groups: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in found:
        alpha = float(row["alpha"]) if row["alpha"] else None
        where = names[row["dataset"], row["partition"], alpha]
        groups.setdefault((where, row["strategy"]), []).append(row)
    body = []
    for (where, label), rows in sorted(groups.items()):
        reached = [float(row["accuracy"]) for row in rows]
        most = [float(row["ceiling"]) for row in rows]
        room = [b - a for a, b in zip(reached, most, strict=True)]
        body.append([where, label, *map(spread, (reached, most)), spread(room, "+")])
    header = ["setting", "strategy", "accuracy", "at most", "room"]
    return [
        "## What the last layer could reach\n\n"
        f"{markdown_grid(header, body, names=2)}\n\n"
        "At most: the last layer of the run's final global model trained by logistic "
        "regression on the features of all training images with their labels, which no "
        "federation has (`benchmarks/ceiling.py`). Whatever makes features for that layer "
        "and leaves the others as they are, Gaussians or generators, stays below it but "
        "for chance. Room: the difference, run by run; ± is the sample standard deviation."
    ]


def _again(one: Recorded) -> str:
    """Return the command that runs one cell, and what comes out."""
    row = next(row for row in one.rows if row.global_accuracy is not None)
    words = shlex.split(one.commands.splitlines()[0])
    for name in ("--strategies", "--seeds", "--datasets"):
        if name in words:
            at = words.index(name)
            del words[at : at + 2]
    if (one.path / "chosen.json").is_file():
        words += ["--chosen", f"benchmarks/results/{one.name}/chosen.json"]
    dataset = re.split(r"[\[ ]", row.dataset)[0]
    labels = {entry.label or entry.name: entry.name for entry in one.suite.datasets}
    dataset = labels.get(row.dataset, dataset)
    words += ["--strategies", row.strategy, "--datasets", dataset]
    words += ["--seeds", str(row.seed), "--out", "runs/again"]
    text = (
        f"```sh\n{shlex.join(words)}\n```\n\n"
        f"The first row of the recorded runs, {row.title}, ended at "
        f"{row.global_accuracy:.2f} %. Equal versions on an equal processor with equal "
        "vector instructions give equal bits; other ones sum in another order, and "
        "training makes more of that than rounding."
    )
    commits = _commits(one)
    return f"{text} {commits}" if commits else text


def _commits(one: Recorded) -> str:
    found = re.findall(r"commit ([0-9a-f]{7})", one.sections.get("Provenance", ""))
    return (
        f"The recorded runs were made at {numbered('commit', found)}." if found else ""
    )
