"""Records finished runs: adds results folders to a folder of ``benchmarks/results``.

    python benchmarks/record.py NAME DIR...     adds to what is recorded as NAME
    python benchmarks/record.py NAME DIR... --command 'fedkd bench ...'    the first time

``command.txt`` keeps that command. Where some data sets or models have other rows, it has a
line for these too: ``fedkd bench SUITE --datasets ... --strategies ...``.

Runs that are recorded stay, whether or not their own folders are still there: a table that
takes longer than one sitting is recorded piece by piece. A piece is one seed of a setting
with all rows that a command asks for. What is there of an unfinished one waits in
``begun.csv``, in no table, until the rest is recorded. Then ``python benchmarks/tables.py``
makes the pages anew, which name what is missing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from holes import Place, asked_for, axes_of, place_of, suites_of
from laststages import read_stages, write_stages
from tables import RESULTS, items, renewed, sections

from fedkd.base.files import json_text
from fedkd.base.folders import ResultsFolder
from fedkd.base.runname import RunName
from fedkd.errors import ConfigError, FedKDError, counted, listing
from fedkd.plugins.registry import Registry, load_registry
from fedkd.report.description import protocol_lines
from fedkd.report.reading import Report, lines_of, read_report, told
from fedkd.report.results import Row, csv_text, read_results
from fedkd.report.rows.joinable import PROTOCOL, check_things
from fedkd.report.rows.merging import merge_results
from fedkd.report.tuning import Tuning, read_tuning, tuning_lines
from fedkd.suite.suite import Suite

DONE = "results.csv"
"""What tables are made of."""
BEGUN = "begun.csv"
"""Rows of unfinished pieces."""
Choices = Mapping[tuple[str, str], Mapping[str, Any]]
"""What was chosen, by strategy and setting."""


def record(folder: Path, sources: Sequence[Path], registry: Registry) -> list[Row]:
    """Add the finished pieces of results folders to recorded results.

    Args:
        folder: Of ``benchmarks/results``, with its ``command.txt``.
        sources: Results folders of 'fedkd bench'.
        registry: Where names are looked up.

    Returns:
        The rows that wait in ``begun.csv``, because their piece is not finished.

    Raises:
        ConfigError: If a source ran something else than the command asks for, holds
            another result of a run that is recorded, or no piece is finished yet.
    """
    commands = (folder / "command.txt").read_text("utf-8").strip()
    suites = suites_of(commands, registry)
    asked = _together_asked(suites)
    reports = {source: read_report([ResultsFolder(source)]) for source in sources}
    _check_same(asked, folder, reports, registry)
    known = [path for name in (DONE, BEGUN) if (path := folder / name).is_file()]
    tables = {str(path): read_results(path) for path in known}
    tables |= {str(source): report.rows for source, report in reports.items()}
    kept = {row.run_id for row in tables.get(str(folder / DONE), ())}
    rows, left = _whole(merge_results(tables), kept, asked_for(suites, registry))
    if not rows:
        raise ConfigError(
            f"{listing(map(str, sources))}: no seed of a setting has all rows that "
            f"{commands!r} asks for; there is nothing to record yet."
        )
    tuning = merged_tuning(
        [
            found
            for place in (folder, *sources)
            if (found := read_tuning(ResultsFolder(place)))
        ]
    )
    stages = read_stages(folder)
    for report in reports.values():
        # Runs whose own folder is gone have no lines, and keep what was recorded.
        stages |= {row.run_id: lines for row, lines in lines_of(report) if lines}
    _write(folder, rows, left, tuning)
    write_stages(folder, [*rows, *left], stages)
    _write_table(folder, rows, asked, reports, registry)
    return left


def merged_tuning(tunings: Sequence[Tuning]) -> Tuning | None:
    """Return all that searches chose; what is part of another counts once.

    Values that a bench took from a search that is here are part of that search.

    Raises:
        ConfigError: If they are no searches of one kind, one is another bench's and no
            part of one that is here, two chose different values for one strategy and
            setting, or share a part of their trials only, so that their costs cannot be
            added.
    """
    merged: Tuning | None = None
    # Searches first: values that were taken are then held against all of them.
    for one in sorted(tunings, key=lambda tuning: tuning.taken):
        if merged is None:
            merged = one
            continue
        _check_alike(merged, one, "metric", "method", "seeds")
        old = {(c.strategy, c.setting): c.values for c in merged.chosen}
        new = {(c.strategy, c.setting): c.values for c in one.chosen}
        _check_values(old, new)
        is_part = old.keys() <= new.keys() or new.keys() <= old.keys()
        sides = (merged, one)
        whole = max(sides, key=lambda side: (len(side.chosen), not side.taken))
        if whole.taken or not is_part:
            _check_alike(*sides, "taken")
        if is_part:
            merged = whole
        elif not old.keys() & new.keys():
            merged = _together(merged, one)
        else:
            raise ConfigError(
                "Two searches share a part of what they chose: their costs cannot be "
                "added. Record the folder of the one that searched all."
            )
    return merged


def _check_values(old: Choices, new: Choices) -> None:
    """Refuse two choices for one strategy and setting.

    Raises:
        ConfigError: Naming the first, with both.
    """
    for key in old.keys() & new.keys():
        if old[key] != new[key]:
            raise ConfigError(
                f"Two searches chose different values for {', '.join(key)}: "
                f"{dict(old[key])} and {dict(new[key])}. Record one of them."
            )


def _check_alike(one: Tuning, other: Tuning, *names: str) -> None:
    """Refuse searches that cannot be told in one sentence.

    Raises:
        ConfigError: Naming the first thing in which they differ.
    """
    for name in names:
        values = (getattr(one, name), getattr(other, name))
        if values[0] != values[1]:
            raise ConfigError(
                f"Two searches differ in their {name}: {values[0]} and {values[1]}; "
                "expected searches of one kind. Record one of them under another name."
            )


def _together(one: Tuning, other: Tuning) -> Tuning:
    costs = ("runs", "client_examples", "server_examples", "bytes", "seconds")
    return replace(
        one,
        chosen=(*one.chosen, *other.chosen),
        families={**one.families, **other.families},
        **{name: getattr(one, name) + getattr(other, name) for name in costs},
    )


def _check_same(
    asked: Suite, folder: Path, reports: Mapping[Path, Report], registry: Registry
) -> None:
    """Refuse folders that ran something else than the command asks for.

    Raises:
        ConfigError: Naming the folder and what differs.
    """
    wanted = {entry.label: entry for entry in asked.strategies}
    suites = {ResultsFolder(folder): asked}
    for source, report in reports.items():
        suites |= report.suites
        for suite in report.suites.values():
            keys = [k for k in PROTOCOL if getattr(suite, k) != getattr(asked, k)]
            keys += [e.label for e in suite.strategies if e != wanted.get(e.label)]
            if suite.name != asked.name or keys:
                what = listing(keys) if keys else f"suite {suite.name!r}"
                raise ConfigError(
                    f"{source} ran {what} otherwise than the command of the recorded "
                    f"results asks for ({asked.where}). Record it under another name."
                )
    # What labels of data sets and models mean, and what a search has chosen.
    check_things(suites, registry)


def _whole(
    rows: Sequence[Row], kept: set[str], asked: Sequence[RunName]
) -> tuple[list[Row], list[Row]]:
    """Return rows of finished pieces in the order of the grid, and all others."""
    axes = axes_of(asked)
    order = {place_of(run, axes): number for number, run in enumerate(asked)}
    pieces: dict[Place, set[str]] = {}
    for label, *piece in order:
        pieces.setdefault(("", *piece), set()).add(label)
    there: dict[Place, set[str]] = {}
    for row in rows:
        label, *piece = place_of(row, axes)
        there.setdefault(("", *piece), set()).add(label)
    whole = [
        row
        for row in rows
        if row.run_id in kept
        or pieces.get(at := ("", *place_of(row, axes)[1:]), {""}) <= there[at]
    ]
    last = len(order)
    _refuse_twins(whole, axes)
    whole.sort(key=lambda row: order.get(place_of(row, axes), last))
    found = {row.run_id for row in whole}
    return whole, [row for row in rows if row.run_id not in found]


def _refuse_twins(rows: Sequence[Row], axes: Collection[str]) -> None:
    """Refuse two runs of one place, of which none could be left out.

    Merging has left one of each name. Runs of one place have two names if they differ in
    rounds, in precision or in an axis that the command does not have.

    Raises:
        ConfigError: Naming both.
    """
    first: dict[Place, Row] = {}
    for row in rows:
        other = first.setdefault(place_of(row, axes), row)
        if other is not row:
            raise ConfigError(
                f"{other.run_id} and {row.run_id} are both {row.title}, run with "
                "different options. Remove the folder of one, and its row."
            )


def _write(
    folder: Path, rows: Sequence[Row], left: Sequence[Row], tuning: Tuning | None
) -> None:
    (folder / DONE).write_text(csv_text(rows), "utf-8")
    if left:
        (folder / BEGUN).write_text(csv_text(left), "utf-8")
    else:
        (folder / BEGUN).unlink(missing_ok=True)
    if tuning is not None:
        (folder / "chosen.json").write_text(json_text(asdict(tuning)), "utf-8")


def _together_asked(suites: Sequence[Suite]) -> Suite:
    """Return the first suite with what any of them asks for."""
    every = {
        name: list(
            {repr(one): one for s in suites for one in getattr(s, name)}.values()
        )
        for name in ("datasets", "partitions", "models", "strategies")
    }
    return suites[0].model_copy(update=every)


def _write_table(
    folder: Path,
    rows: Sequence[Row],
    asked: Suite,
    reports: dict[Path, Report],
    registry: Registry,
) -> None:
    """Write ``table.md``: what was said of recorded runs, and what is said of new ones."""
    path = folder / "table.md"
    kept = sections(path.read_text("utf-8")) if path.is_file() else {}
    said = [told(report) for report in reports.values()]
    seeds = tuple(sorted({row.seed for row in rows}))
    origin = items(kept.get("Provenance", ""))
    warned = items(kept.get("Warnings", ""))
    lists = {
        "Protocol": protocol_lines(asked.with_seeds(seeds), registry),
        "Tuning": tuning_lines(ResultsFolder(folder)),
        "Provenance": _once(origin, *(one.provenance for one in said)),
        "Warnings": _once(warned, *(one.warned for one in said)),
    }
    path.write_text(renewed(path, registry, lists), "utf-8")


def _once(*lists: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(line for lines in lists for line in lines))


def main(arguments: Sequence[str] | None = None) -> int:
    """Record what the command line names; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", help="what the recorded results are called")
    parser.add_argument("sources", nargs="+", type=Path, metavar="DIR")
    parser.add_argument("--command", help="the command that asks for all of the runs")
    told_ = parser.parse_args(arguments)
    folder = RESULTS / told_.name
    text = folder / "command.txt"
    try:
        if told_.command:
            if text.is_file() and text.read_text("utf-8").strip() != told_.command:
                raise ConfigError(f"{text} has another command: {text.read_text()}")
            folder.mkdir(exist_ok=True)
            text.write_text(told_.command + "\n", "utf-8")
        elif not text.is_file():
            raise ConfigError(f"{text} is not there yet; say the --command.")
        left = record(folder, told_.sources, load_registry(quiet=True))
    except FedKDError as error:
        print(f"record: {error}", file=sys.stderr)
        return 2
    held = counted(len(read_results(folder / DONE)), "run")
    print(f"{folder}: {held}, and {len(left)} of unfinished pieces in {BEGUN}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
