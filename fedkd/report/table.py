"""Tables of results for people: Markdown for files, rich for terminals.

The accuracy is always that of the last round; the table says so, and over how many
seeds, and what became of the runs that are not in it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from fedkd.errors import counted
from fedkd.metrics.columns import Column
from fedkd.report.results import Row, notes_of
from fedkd.report.summary import (
    GLOBAL,
    LOCAL,
    UNDEFINED,
    Table,
    TableField,
    baseline_of,
    group,
    paired_differences,
    setting_titles,
    split_conflicts,
    summarise,
)
from fedkd.report.text import (
    MISSING,
    amount,
    markdown_grid,
    measured_on,
    numbered,
    section,
    spread,
)

REFERENCE = "†"

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
) -> str:
    """Return ``table.md``: accuracies, other metrics, costs, differences, protocol.

    Args:
        rows: All rows of the bench, in the order that strategies shall have.
        title: Heading of the page.
        protocol_lines: What all strategies share (buffers, training), one fact a line.
        references: Labels of strategies that are marked and never best.
        provenance: Where the numbers come from (versions, commit, device).
        stages: The table of :func:`fedkd.report.stages.stage_table`; left out if empty.
        warned: What the runs warned of; see :func:`fedkd.report.warned.warned_lines`.
        columns: Of metrics beside accuracy; each has a section.
    """
    if not rows:
        return f"# {title}\n\nThere are no results yet.\n"
    table = summarise(rows, references)
    parts = [f"# {title}", _values(rows, table)]
    parts.append(section("Notes on the data", notes_of(rows)))
    for column in (LOCAL, *columns):
        more = summarise(rows, references, column)
        if _is_asked_for(more):
            parts.append(_values(rows, more))
    parts += [_costs(rows, table), _differences(rows, table)]
    if stages:
        parts.append(f"## What each stage did\n\n{stages.strip()}")
    parts.append(section("Runs without a result", reasons(rows)))
    parts.append(section("Runs that started anew", started_anew(rows)))
    parts.append(section("Warnings", warned))
    parts.append(section("Protocol", protocol_lines))
    origin = [*provenance, *_engines(rows), *_splits(rows)]
    parts.append(section("Provenance", origin))
    return "\n\n".join(part for part in parts if part) + "\n"


def table_rich(
    rows: Sequence[Row],
    *,
    title: str = "",
    references: Collection[str] = (),
    columns: Sequence[Column] = (),
) -> RenderableType:
    """Return the global accuracies, and what belongs under them, for a terminal.

    Args:
        rows: All rows of the bench, in the order that strategies shall have.
        title: Heading.
        references: Labels of strategies that are marked and never best.
        columns: Of metrics beside accuracy; each has a table, but for local means.
    """
    if not rows:
        return Text("There are no results yet.")
    table = summarise(rows, references)
    _, shared = setting_titles(table.settings)
    parts: list[RenderableType] = [
        _grid(table, title),
        *map(Text, _notes(rows, table, shared)),
    ]
    for column in columns:
        table = summarise(rows, references, column)
        if column.scope != "local" and _is_asked_for(table):
            note = Text(" ".join(_meaning(rows, table)))
            parts += [_grid(table, column.title), note]
    return Group(*parts, *map(Text, [*reasons(rows), *started_anew(rows)]))


def _grid(table: Table, title: str) -> Grid:
    """Return a table for a terminal."""
    titles, _ = setting_titles(table.settings)
    grid = Grid(title=title or None, title_justify="left", title_style="bold")
    grid.add_column("strategy", no_wrap=True)
    for name in titles:
        # Text, because options are in square brackets, which are markup to rich.
        grid.add_column(Text(name), justify="right")
    styles = {"best": "bold", "second": "underline", "": ""}
    for label in table.strategies:
        entries = [table.entries[label, setting] for setting in table.settings]
        texts = [Text(entry_text(e, table), style=styles[e.mark]) for e in entries]
        grid.add_row(Text(_label(label, table)), *texts)
    return grid


def entry_text(entry: TableField, table: Table) -> str:
    """Return a field: ``82.00 ± 2.00``; n where it differs; what is missing."""
    lost = {
        status: number
        for status, number in sorted(entry.counts.items())
        if status != "done"
    }
    if entry.mean is None:
        return _lost(lost) or MISSING
    text = spread(entry.values, decimals=table.column.decimals)
    remarks = [] if table.common_n is not None and not lost else [f"n={entry.n}"]
    remarks += [f"{number} {status}" for status, number in lost.items()]
    return f"{text} ({', '.join(remarks)})" if remarks else text


def started_anew(rows: Sequence[Row]) -> list[str]:
    """Return a line for every finished run whose folder was damaged before."""
    return [
        f"{row.title}: {row.reason}"
        for row in rows
        if row.status == "done" and row.reason
    ]


def reasons(rows: Sequence[Row]) -> list[str]:
    """Return one line for every different reason why runs have no result."""
    groups = group(rows)
    titles = _titles_of(groups)
    seeds: dict[tuple[str, str, str, str], list[int]] = {}
    for (label, setting), runs in groups.items():
        for row in runs:
            if row.status != "done":
                key = (label, titles[setting], row.status, row.reason)
                seeds.setdefault(key, []).append(row.seed)
    return [
        f"{label}, {title}, {numbered('seed', seeds_of)}: "
        f"{status}: {reason or 'no reason given'}"
        for (label, title, status, reason), seeds_of in seeds.items()
    ]


def _is_asked_for(table: Table) -> bool:
    """Say whether any run has a value, or was asked for one and has none."""
    return any(entry.n or UNDEFINED in entry.counts for entry in table.entries.values())


def _values(rows: Sequence[Row], table: Table) -> str:
    titles, shared = setting_titles(table.settings)
    body = []
    for label in table.strategies:
        entries = [table.entries[label, setting] for setting in table.settings]
        texts = [_marked(entry_text(entry, table), entry) for entry in entries]
        body.append([_label(label, table), *texts])
    grid = markdown_grid(["strategy", *titles], body)
    notes = " ".join(_notes(rows, table, shared))
    return f"## {table.column.title}\n\n{grid}\n\n{notes}"


def _meaning(rows: Sequence[Row], table: Table) -> list[str]:
    """Return what the values of a table are."""
    column = table.column
    where = {
        "global": f"on {measured_on(row.dataset for row in rows)}, ",
        "local": "mean over the clients, each on its own test shard: of the "
        "client's own model where the strategy has one, else of the global model, ",
    }.get(column.scope, "")
    if column in (GLOBAL, LOCAL):
        return [f"Percent, {where}after the last round."]
    place = f"{where}after the last round."
    notes = [column.about, f"{place[0].upper()}{place[1:]}"]
    notes.append(f"{'Higher' if column.higher_is_better else 'Lower'} is better.")
    if any(UNDEFINED in entry.counts for entry in table.entries.values()):
        notes.append(f"A run that is {UNDEFINED} has no such value.")
    return notes


def _notes(rows: Sequence[Row], table: Table, shared: str) -> list[str]:
    """Return the sentences that a reader needs to read the table rightly."""
    notes = _meaning(rows, table)
    deviation = "± is the sample standard deviation over seeds"
    if table.common_n == 1:
        notes.append("n = 1 seed: no spread is known.")
    elif table.common_n:
        notes.append(f"{deviation}; n = {table.common_n}.")
    elif any(entry.n for entry in table.entries.values()):
        notes.append(f"{deviation}; n, the number of seeds in a mean, is in brackets.")
    if any(entry.mark for entry in table.entries.values()):
        notes.append("Bold is best, underlined is second.")
    if table.references:
        notes.append(f"{REFERENCE} is a reference and no competitor.")
    rounds = {row.rounds for row in rows}
    every = counted(rounds.pop(), "round") if len(rounds) == 1 else ""
    if shared or every:
        notes.append(f"All: {', '.join(filter(None, [shared, every]))}.")
    return notes


def _costs(rows: Sequence[Row], table: Table) -> str:
    groups = group(rows)
    titles = _titles_of(groups)
    several = len(table.settings) > 1
    body = []
    for setting in table.settings:
        for label in table.strategies:
            done = [r for r in groups.get((label, setting), []) if r.status == "done"]
            if done:
                start = [titles[setting]] if several else []
                costs = [amount(_mean_of(read, done)) for _, read in COSTS]
                body.append([*start, _label(label, table), *costs])
    if not body:
        return ""
    start = ["setting"] if several else []
    grid = markdown_grid(
        [*start, "strategy", *(name for name, _ in COSTS)], body, 1 + several
    )
    note = (
        "Means over the runs that are done. Bytes are sums over the run and all "
        "clients (1 MB is 10^6 bytes, 1 MiB is 2^20). Examples are images that went "
        "through a training step, those for generators included."
    )
    return f"## Costs of a run\n\n{grid}\n\n{note}"


def _differences(rows: Sequence[Row], table: Table) -> str:
    base = baseline_of(table)
    pairs = paired_differences(rows, base) if base else {}
    if not pairs:
        return ""
    titles, _ = setting_titles(table.settings)
    sizes = {len(values) for values in pairs.values()}
    body = []
    for label in table.strategies:
        columns_of = [pairs.get((label, setting), ()) for setting in table.settings]
        texts = [
            (spread(v, "+") + (f" (n={len(v)})" if len(sizes) > 1 else ""))
            if v
            else MISSING
            for v in columns_of
        ]
        if any(columns_of):
            body.append([_label(label, table), *texts])
    grid = markdown_grid(["strategy", *titles], body)
    number = f"n = {sizes.pop()}" if len(sizes) == 1 else "n is in brackets"
    note = (
        f"Percentage points of global accuracy above {base}, seed by seed on the same "
        f"split: mean ± sample standard deviation of the paired differences; {number}."
    )
    return f"## Differences from {base}\n\n{grid}\n\n{note}"


def _engines(rows: Sequence[Row]) -> list[str]:
    """Return which executors did the clients' turns, where that is known."""
    names = sorted({row.engine for row in rows if row.engine})
    return [f"Clients' turns: {', '.join(names)}."] if names else []


def _splits(rows: Sequence[Row]) -> list[str]:
    """Return what the split hashes say."""
    titles = _titles_of(group(rows))
    bad = [f"{titles[setting]}, seed {seed}" for setting, seed in split_conflicts(rows)]
    if bad:
        text = "; ".join(bad)
        return [f"WARNING: runs of one seed saw different data splits: {text}."]
    if any(row.split_hash for row in rows):
        return ["All strategies of a column saw the same data split at the same seed."]
    return []


def _titles_of(groups: Mapping[tuple[str, Any], Any]) -> dict[Any, str]:
    settings = list(dict.fromkeys(setting for _, setting in groups))
    return dict(zip(settings, setting_titles(settings)[0], strict=True))


def _label(label: str, table: Table) -> str:
    return f"{label} {REFERENCE}" if label in table.references else label


def _marked(text: str, entry: TableField) -> str:
    if entry.mark == "best":
        return f"**{text}**"
    return f"<u>{text}</u>" if entry.mark == "second" else text


def _lost(lost: Mapping[str, int]) -> str:
    if len(lost) == 1:
        status, number = next(iter(lost.items()))
        return status if number == 1 or status == "skipped" else f"{number} {status}"
    return ", ".join(f"{number} {status}" for status, number in lost.items())


def _mean_of(read: Callable[[Row], float | None], rows: Sequence[Row]) -> float | None:
    values = [value for row in rows if (value := read(row)) is not None]
    return statistics.fmean(values) if values else None


def _scaled(value: int | None, unit: float) -> float | None:
    return None if value is None else value / unit
