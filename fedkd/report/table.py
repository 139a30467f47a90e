"""The page of results for people, ``table.md``; the terminal's is in ``terminal.py``.

The accuracy is always that of the last round; the table says so, and over how many
seeds, and what became of the runs that are not in it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from fedkd.metrics.columns import Column
from fedkd.report.escaping.markdown import escaped_line
from fedkd.report.grouping import (
    GLOBAL,
    LOCAL,
    UNDEFINED,
    Setting,
    column_titles,
    group,
    split_conflicts,
    titles_of,
)
from fedkd.report.notes import (
    LEADING,
    OF_CLIENTS,
    PERCENT,
    bounds,
    difference,
    labelled,
    mixed_data,
    notes,
    signs,
)
from fedkd.report.parts import Entry, Grid, Part, listed
from fedkd.report.ranking import ranks_part
from fedkd.report.results import Row, notes_of
from fedkd.report.stages import TITLE as STAGES
from fedkd.report.stats.pairs import Pairs
from fedkd.report.summary import (
    Table,
    TableField,
    baseline_of,
    from_baselines,
    summarise,
)
from fedkd.report.text import MISSING, amount, numbered, spread
from fedkd.simulation.store.checkpoint import ONE_BEFORE

_ENGINES = "Clients' turns: "
_ONE_SPLIT = "All strategies of a column saw the same data split at the same seed."
NOTHING = "There are no results yet."
VALUELESS = "the run is done, and its row has no global accuracy"
"""Why a run without that is in no mean of it."""
DERIVED_ORIGIN = (_ENGINES, _ONE_SPLIT)
"""How lines of provenance start that follow from the rows."""

COSTS: tuple[tuple[str, Callable[[Row], float | None]], ...] = (
    ("rounds", lambda row: row.rounds),
    ("MB up", lambda row: _scaled(row.bytes_up, 1e6)),
    ("MB down", lambda row: _scaled(row.bytes_down, 1e6)),
    ("client examples", lambda row: row.client_examples),
    ("server examples", lambda row: row.server_examples),
    ("seconds", lambda row: row.seconds),
    ("peak memory MiB", lambda row: _scaled(row.peak_memory_bytes, 2**20)),
)
"""Columns of the table of costs, and how to read them from a row."""
COST_UNITS = ("rounds", "bytes", "seconds")
"""Units in which metrics over the rounds of a run are costs."""


def table_markdown(  # noqa: PLR0913 - all that a page has
    rows: Sequence[Row],
    *,
    title: str,
    protocol_lines: Sequence[str] = (),
    references: Collection[str] = (),
    provenance: Sequence[str] = (),
    stages: str = "",
    warned: Sequence[str] = (),
    columns: Sequence[Column] = (),
    tuning: Sequence[str] = (),
    reported: str = "",
) -> str:
    """Return ``table.md``: accuracies, other metrics, costs, differences, protocol.

    Args:
        rows: All rows of the bench, in the order that strategies shall have.
        title: Heading of the page.
        protocol_lines: What all strategies share (buffers, training), one fact a line.
        references: Labels of strategies that are marked and never best.
        provenance: Where the numbers come from (versions, commit, device).
        stages: The table of :func:`fedkd.report.stages.stage_table`; left out if empty.
        warned: What the runs warned of; see :func:`fedkd.report.description.warned_lines`.
        columns: Of metrics beside accuracy; each has a section.
        tuning: What a search chose, and what it cost.
        reported: The section of :func:`fedkd.report.reported.reported_section`.
    """
    if not rows:
        return f"# {escaped_line(title)}\n\n{NOTHING}\n"
    parts = [f"# {escaped_line(title)}", *map(escaped_line, mixed_data(rows))]
    parts += [part.markdown for part in measured_parts(rows, references, columns)]
    parts.append(reported)
    if stages:
        parts.append(f"## {STAGES}\n\n{stages.strip()}")
    last = told_parts(rows, warned, tuning, protocol_lines, provenance)
    parts += [part.markdown for part in last]
    return "\n\n".join(part for part in parts if part) + "\n"


def measured_parts(
    rows: Sequence[Row], references: Collection[str], columns: Sequence[Column]
) -> list[Part]:
    """Return what follows from the rows: accuracies, costs, differences, ranks.

    Args:
        rows: All rows of the bench, in the order that strategies shall have; not empty.
        references: Labels of strategies that are marked and never best.
        columns: Of metrics beside accuracy; each has a part.
    """
    table = summarise(rows, references)
    parts = [_values(rows, table), *listed("Notes on the data", notes_of(rows))]
    for column in (LOCAL, *columns):
        more = summarise(rows, references, column)
        if is_asked_for(more):
            parts.append(_values(rows, more))
    parts += _costs(rows, table, columns, references)
    parts += [*differences_parts(rows, table), *ranks_part(rows, references, GLOBAL)]
    return parts


def told_parts(
    rows: Sequence[Row],
    warned: Sequence[str],
    tuning: Sequence[str],
    protocol_lines: Sequence[str],
    provenance: Sequence[str],
) -> list[Part]:
    """Return the lists at the end of a page; see :func:`table_markdown`."""
    return [
        *listed("Runs without a result", reasons(rows)),
        *listed("Runs that started anew", started_anew(rows)),
        *listed("Runs with a damaged checkpoint", went_back(rows)),
        *listed("Warnings", warned),
        *listed("Tuning", tuning),
        *listed("Protocol", protocol_lines),
        *listed("Provenance", [*provenance, *_engines(rows), *_splits(rows)]),
    ]


def entry_text(entry: TableField, table: Table, interval: bool = False) -> str:
    """Return a field: ``82.00 ± 2.00``; n where it differs; what is missing; its signs.

    Args:
        entry: Of the table.
        table: Says what differs.
        interval: Whether the bootstrap interval stands in it, where there is one.
    """
    if entry.mean is None:
        return lost_text(entry) or MISSING
    decimals = table.column.decimals
    text = spread(entry.values, decimals=decimals)
    if interval:
        text = f"{text} {bounds(entry.interval, decimals, sign='')}".rstrip()
    remarks = remarks_on(entry, table)
    parts = [text, f"({', '.join(remarks)})" if remarks else ""]
    parts.append(LEADING if entry.mark == "leading" else "")
    return _signed(" ".join(filter(None, parts)), entry)


def _signed(text: str, entry: TableField) -> str:
    """Return what is said of a field, with the sign of no global model that it has."""
    return f"{text} {OF_CLIENTS}" if entry.is_signed else text


def remarks_on(entry: TableField, table: Table) -> list[str]:
    """Return what is said of a mean where others have more seeds, or runs are lost."""
    lost = _lost_of(entry)
    start = [] if table.common_n is not None and not lost else [f"n={entry.n}"]
    return start + [f"{number} {status}" for status, number in lost.items()]


def lost_text(entry: TableField) -> str:
    """Return what became of the runs of a field without a mean; nothing if none were."""
    lost = _lost_of(entry)
    if len(lost) == 1:
        status, number = next(iter(lost.items()))
        return status if number == 1 or status == "skipped" else f"{number} {status}"
    return ", ".join(f"{number} {status}" for status, number in lost.items())


def _lost_of(entry: TableField) -> dict[str, int]:
    return {name: n for name, n in sorted(entry.counts.items()) if name != "done"}


def started_anew(rows: Sequence[Row]) -> list[str]:
    """Return a line for every finished run that began again, its folder being damaged."""
    return [line for line in _mended(rows) if not line.endswith(ONE_BEFORE)]


def went_back(rows: Sequence[Row]) -> list[str]:
    """Return a line for every finished run that went on from its checkpoint before."""
    return [line for line in _mended(rows) if line.endswith(ONE_BEFORE)]


def _mended(rows: Sequence[Row]) -> list[str]:
    return [
        f"{row.title}: {row.reason}"
        for row in rows
        if row.status == "done" and row.reason
    ]


def is_asked_for(table: Table) -> bool:
    """Say whether any run has a value, or was asked for one and has none."""
    return any(entry.n or UNDEFINED in entry.counts for entry in table.entries.values())


def reasons(rows: Sequence[Row]) -> list[str]:
    """Return one line for every different reason why runs have no result.

    A run that is done and has no global accuracy has none either.
    """
    groups = group(rows)
    titles = titles_of(setting for _, setting in groups)
    seeds: dict[tuple[str, str, str, str], list[int]] = {}
    for (label, setting), runs in groups.items():
        for row in runs:
            if (why := lost_to(row)) is not None:
                key = (label, titles[setting], *why)
                seeds.setdefault(key, []).append(row.seed)
    return [
        f"{label}, {title}, {numbered('seed', seeds_of)}: {status}: {reason}"
        for (label, title, status, reason), seeds_of in seeds.items()
    ]


def lost_to(row: Row) -> tuple[str, str] | None:
    """Return what became of a run without a result, and why; None of one that has one."""
    if row.status != "done":
        return row.status, " ".join(row.reason.split()) or "no reason given"
    return None if row.global_accuracy is not None else (UNDEFINED, VALUELESS)


def _values(rows: Sequence[Row], table: Table) -> Part:
    titles, shared = column_titles(table.settings)
    body = []
    for label in table.strategies:
        line: list[Entry | str] = [labelled(label, table)]
        for setting in table.settings:
            entry = table.entries[label, setting]
            of = (label, setting) if entry.counts else None
            line.append(Entry(entry_text(entry, table, True), entry.mark, of))
        body.append(line)
    lines = notes(rows, table, shared)
    if any(entry.interval for entry in table.entries.values()):
        lines.append(
            f"In square brackets: the {PERCENT} bootstrap interval of the mean, which is "
            "too narrow for few runs: of five normal values it holds their mean in about "
            "five cases of six, of ten in nine of ten."
        )
    grid = Grid.of(["strategy", *titles], body)
    return Part(table.column.title, grid, (" ".join(lines),))


def _costs(
    rows: Sequence[Row],
    table: Table,
    columns: Sequence[Column],
    references: Collection[str],
) -> list[Part]:
    """Return what runs cost; what it took to reach a target is a cost too."""
    targets = [
        summarise(rows, references, column)
        for column in columns
        if column.scope == "rounds" and column.unit in COST_UNITS
    ]
    groups = group(rows)
    titles = titles_of(setting for _, setting in groups)
    several = len(table.settings) > 1
    body: list[list[Entry | str]] = []
    for setting in table.settings:
        for label in table.strategies:
            done = [r for r in groups.get((label, setting), []) if r.status == "done"]
            if done:
                start = [titles[setting]] if several else []
                costs = [amount(_mean_of(read, done)) for _, read in COSTS]
                reached = [_reached(one, label, setting) for one in targets]
                name = _signed(labelled(label, table), table.entries[label, setting])
                own = Entry(name, of=(label, setting))
                body.append([*start, own, *costs, *reached])
    if not body:
        return []
    start = ["setting"] if several else []
    names = [*(name for name, _ in COSTS), *(one.column.name for one in targets)]
    grid = Grid.of([*start, "strategy", *names], body, 1 + several)
    lines = [
        "Means over the runs that are done. Bytes are sums over the run and all "
        "clients (1 MB is 10^6 bytes, 1 MiB is 2^20). Examples are images that went "
        "through a training step, those for generators included.",
        *signs(table),
    ]
    return [Part("Costs of a run", grid, (" ".join(lines),))]


def _reached(table: Table, label: str, setting: Setting) -> str:
    """Return what it took to reach a target: a field without its marks."""
    entry = replace(table.entries[label, setting], mark="", is_signed=False)
    return entry_text(entry, table)


def differences_parts(rows: Sequence[Row], table: Table) -> list[Part]:
    """Return parts of paired differences, for each accuracy and each baseline.

    Args:
        rows: All rows of the bench.
        table: Of global accuracy.
    """
    bases = dict.fromkeys(baseline_of(table, setting) for setting in table.settings)
    titles = {GLOBAL: "Differences from", LOCAL: "Differences of local accuracy from"}
    parts = []
    for column, title in titles.items():
        every = from_baselines(rows, table, column)
        for base in bases:
            pairs = {key: pair for key, pair in every.items() if pair.second == base}
            if pairs:
                grid = _differences_grid(pairs, table)
                text = _paired(pairs, table, column)
                parts.append(Part(f"{title} {base}", grid, (text,)))
    return parts


def _differences_grid(pairs: Pairs, table: Table) -> Grid:
    titles = dict(zip(table.settings, column_titles(table.settings)[0], strict=True))
    settings = [
        own for own in table.settings if any(own == there for _, there in pairs)
    ]
    several = len({pair.n for pair in pairs.values()}) > 1
    body = []
    for label in table.strategies:
        line: list[Entry | str] = [labelled(label, table)]
        for setting in settings:
            pair = pairs.get((label, setting))
            if pair is None:
                line.append(MISSING)
                continue
            text = difference(pair) + (f" (n={pair.n})" if several else "")
            text = _signed(text, table.entries[label, setting])
            line.append(Entry(text, of=(label, setting)))
        if any((label, setting) in pairs for setting in settings):
            body.append(line)
    return Grid.of(["strategy", *(titles[own] for own in settings)], body)


def _paired(pairs: Pairs, table: Table, column: Column) -> str:
    """Return what stands under a table of differences."""
    sizes = {pair.n for pair in pairs.values()}
    base = next(iter(pairs.values())).second
    number = f"n = {sizes.pop()}" if len(sizes) == 1 else "n is in brackets"
    has_interval = any(pair.interval for pair in pairs.values())
    lines = [
        f"Percentage points of {column.title.lower()} above {base}, seed by seed on the "
        "same split: mean ± sample standard deviation of the paired differences; "
        f"{number}.",
        f"In square brackets: the {PERCENT} interval of their mean (Student's t)."
        if has_interval
        else "",
        *signs(table, column),
    ]
    return " ".join(filter(None, lines))


def _engines(rows: Sequence[Row]) -> list[str]:
    """Return which executors did the clients' turns, where that is known."""
    names = sorted({row.engine for row in rows if row.engine})
    return [f"{_ENGINES}{', '.join(names)}."] if names else []


def _splits(rows: Sequence[Row]) -> list[str]:
    """Return that all saw the same split, if they did and that is known."""
    if split_conflicts(rows) or not any(row.split_hash for row in rows):
        return []
    return [_ONE_SPLIT]


def _mean_of(read: Callable[[Row], float | None], rows: Sequence[Row]) -> float | None:
    values = [value for row in rows if (value := read(row)) is not None]
    return statistics.fmean(values) if values else None


def _scaled(value: int | None, unit: float) -> float | None:
    return None if value is None else value / unit
