"""What the charts of a page draw, as plain values: curves, costs, clients, classes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from fedkd.base.folders import RunFolder
from fedkd.errors import DataError
from fedkd.metrics.base import Line
from fedkd.metrics.columns import Column
from fedkd.metrics.metric_set import BY_CLIENT
from fedkd.report.grouping import (
    GLOBAL,
    LOCAL,
    Groups,
    Setting,
    group,
    nowhere_global,
    titles_of,
    without_global,
)
from fedkd.report.looks import Look, looks
from fedkd.report.notes import with_signs
from fedkd.report.plots import curve_of, read_counts
from fedkd.report.reading import Remark, Report
from fedkd.report.results import Row
from fedkd.report.stats.front import COSTS, front, points

SYMBOLS = {
    "o": "circle", "s": "square", "^": "triangle-up", "D": "diamond",
    "v": "triangle-down", "P": "cross", "X": "x", "<": "triangle-left",
    ">": "triangle-right", "p": "pentagon", "h": "hexagon", "*": "star",
}  # fmt: skip
"""What Plotly calls the markers of pictures."""
CHARTS = ("metrics", "costs", "clients", "partitions")
"""What a setting may have to draw: curves, accuracy beside costs, clients, classes."""
DIGITS = 6
"""Decimals of a number that is drawn: more than a screen has pixels."""
Plain = dict[str, Any]
Runs = Sequence[tuple[Row, Sequence[Line]]]


@dataclass(frozen=True)
class World:
    """One setting: who ran in it, and what was left."""

    report: Report
    groups: Groups
    """Of all runs."""
    setting: Setting
    labels: Sequence[str]
    """All strategies; a number of one is its place here."""
    lines: Mapping[str, Sequence[Line]]
    """Of ``metrics.jsonl``, by ``run_id``."""

    def runs(self) -> Iterable[tuple[str, list[Row]]]:
        """Yield the strategies of the setting with their runs that are done."""
        for (label, setting), rows in self.groups.items():
            done = [row for row in rows if row.status == "done"]
            if setting == self.setting and done:
                yield label, done

    def seeds(self) -> list[int]:
        """Return the seeds of all runs, sorted."""
        return sorted({row.seed for _, rows in self.runs() for row in rows})

    def folder(self, row: Row) -> RunFolder:
        """Return where a run is."""
        return self.report.folders[row.run_id]


def charts_of(report: Report, runs: Runs, remark: Remark) -> Plain:
    """Return everything that is drawn, ready for JSON: no number is not finite.

    Args:
        report: What was read.
        runs: Its rows, with the lines of their ``metrics.jsonl``.
        remark: Is given a sentence on what cannot be read.
    """
    lines = {row.run_id: own for row, own in runs}
    groups = group(report.rows)
    done = [
        key for key, rows in groups.items() if any(r.status == "done" for r in rows)
    ]
    labels = list(dict.fromkeys(label for label, _ in done))
    # As in pictures: of all strategies, whether their runs are done or not.
    shown = looks(
        [*dict.fromkeys(row.strategy for row in report.rows)], report.references
    )
    titles = titles_of(setting for _, setting in done)
    nowhere = nowhere_global(groups)
    worlds = [World(report, groups, one, labels, lines) for one in titles]
    return {
        "strategies": [
            _look(report, label, shown[label], label in nowhere) for label in labels
        ],
        "settings": [
            {
                "title": title,
                "signed": _signed(world, nowhere),
                "metrics": _metrics(world),
                "costs": _costs(world),
                "clients": _clients(world),
                "partitions": _partitions(world, remark),
            }
            for title, world in zip(titles.values(), worlds, strict=True)
        ],
    }


def _look(report: Report, label: str, look: Look, is_nowhere: bool) -> Plain:
    """Return what a strategy is called, and how it is drawn everywhere."""
    dash = (
        "solid" if look.dash == "-" else ",".join(f"{2 * x:g}px" for x in look.dash[1])
    )
    return {
        "label": with_signs(label, label in report.references, is_nowhere),
        "colour": look.colour,
        "dash": dash,
        "symbol": SYMBOLS[look.marker],
    }


def _signed(world: World, nowhere: Collection[str]) -> list[int]:
    """Return who has no global model in this setting, and has one in another."""
    return [
        world.labels.index(label)
        for label, rows in world.runs()
        if without_global(rows) and label not in nowhere
    ]


def _metrics(world: World) -> list[Plain]:
    """Return the curves of every metric that has some."""
    columns = [GLOBAL, LOCAL, *world.report.columns]
    metrics = []
    for column in (one for one in columns if one.by_round):
        curves = [
            one
            for label, rows in world.runs()
            if (one := _curve(world, label, rows, column))
        ]
        if curves:
            told = {
                name: getattr(column, name) for name in ("title", "unit", "decimals")
            }
            metrics.append({**told, "curves": curves})
    return metrics


def _curve(
    world: World, label: str, rows: Sequence[Row], column: Column
) -> Plain | None:
    runs = [world.lines[row.run_id] for row in rows]
    curve = curve_of(label, runs, column)
    if curve is None:
        return None
    return {
        "strategy": world.labels.index(label),
        "seeds": len(curve.values),
        "mean": _short(curve.values.mean(0)),
        "low": _short(curve.values.min(0)),
        "high": _short(curve.values.max(0)),
        "rounds": _short(curve.rounds),
        "bytes": _short(curve.megabytes),
        "examples": _short(curve.examples),
        "seconds": None if curve.seconds is None else _short(curve.seconds),
        "simulated": None if curve.simulated is None else _short(curve.simulated),
    }


def _costs(world: World) -> Plain:
    """Return a point for every strategy and cost, and who is on the Pareto front."""
    found: Plain = {}
    for cost in COSTS:
        every = points(world.groups, world.setting, cost, world.report.references)
        if len(every) > 1:
            best = front(every)
            found[cost] = [
                {
                    "strategy": world.labels.index(point.label),
                    "cost": point.cost,
                    "quality": round(point.quality, DIGITS),
                    "competes": point.competes,
                    "front": point in best,
                }
                for point in every
            ]
    return found


def _clients(world: World) -> list[Plain]:
    """Return, by seed, what accuracy every client had in the last measured round."""
    found = []
    for seed in world.seeds():
        values = [
            {"strategy": world.labels.index(label), "clients": by_client}
            for label, rows in world.runs()
            for row in rows
            if row.seed == seed and (by_client := _by_client(world.lines[row.run_id]))
        ]
        if values:
            found.append({"seed": seed, "strategies": values})
    return found


def _by_client(lines: Sequence[Line]) -> dict[str, float | None]:
    measured = [line[BY_CLIENT] for line in lines if line.get(BY_CLIENT)]
    return dict(measured[-1]) if measured else {}


def _partitions(world: World, remark: Remark) -> list[Plain]:
    """Return the client x class table of every seed that left one."""
    found = []
    for seed in world.seeds():
        rows = [row for _, some in world.runs() for row in some if row.seed == seed]
        paths = [world.folder(row).counts for row in rows]
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            continue
        try:
            counts, classes = read_counts(path)
        except (DataError, UnicodeDecodeError) as error:
            remark(f"{str(error).rstrip('.')}; it is not drawn.")
            continue
        table = {"classes": list(classes), "counts": counts.tolist()}
        found.append({"seed": seed, **table})
    return found


def _short(values: NDArray[Any]) -> list[float]:
    """Return numbers as JSON has them, with no digit that nobody can see."""
    return [float(value) for value in values.round(DIGITS)]
