"""Quality beside cost: who is not beaten in both by another strategy."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from fedkd.metrics.columns import Column
from fedkd.report.grouping import (
    GLOBAL,
    Groups,
    Setting,
    done,
    is_of_global,
    without_global,
)
from fedkd.report.results import Row

COSTS: dict[str, Callable[[Row], float | None]] = {
    "bytes": lambda row: _sum(row.bytes_up, row.bytes_down),
    "examples": lambda row: row.client_examples,
    "seconds": lambda row: row.seconds,
}
"""What a run costs, of its row: bytes both ways, images trained on by clients, seconds."""


@dataclass(frozen=True)
class Point:
    """One strategy in one setting: how good it is, and at what cost."""

    label: str
    quality: float
    """Mean of a column over the runs that are done."""
    cost: float
    """Mean of a cost over the same runs."""
    competes: bool
    """Whether it is no reference, every run of it has the quality, and it has a global
    model where that is of one."""


def points(
    groups: Groups,
    setting: Setting,
    cost: str,
    references: Collection[str] = (),
    column: Column = GLOBAL,
) -> list[Point]:
    """Return a point for every strategy of a setting whose runs all know the cost.

    Args:
        groups: Rows by strategy and setting: all of them, for who has a run without a
            result does not compete.
        setting: Which.
        cost: One of :data:`COSTS`.
        references: Labels of strategies that do not compete.
        column: What is called quality.
    """
    found = []
    for (label, own), runs in groups.items():
        rows = done(runs, column) if own == setting else []
        costs = [COSTS[cost](row) for row in rows]
        known = [value for value in costs if value is not None]
        if rows and len(known) == len(rows):
            out = is_of_global(column) and without_global(runs)
            quality = statistics.fmean(row.value(column.name) for row in rows)
            is_whole = len(rows) == len(runs)
            competes = label not in references and not out and is_whole
            found.append(Point(label, quality, statistics.fmean(known), competes))
    return found


def front(every: Sequence[Point], higher_is_better: bool = True) -> list[Point]:
    """Return the Pareto front of those that compete, the cheapest first.

    Nobody else is at least as good at no more cost, and better or cheaper.
    """
    sign = 1 if higher_is_better else -1
    rivals = [point for point in every if point.competes]

    def beats(one: Point, other: Point) -> bool:
        gain, saving = sign * (one.quality - other.quality), other.cost - one.cost
        return gain >= 0 and saving >= 0 and (gain > 0 or saving > 0)

    best = [p for p in rivals if not any(beats(other, p) for other in rivals)]
    return sorted(best, key=lambda point: (point.cost, -sign * point.quality))


def _sum(up: int | None, down: int | None) -> int | None:
    return None if up is None or down is None else up + down
