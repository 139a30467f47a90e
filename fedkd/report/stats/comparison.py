"""Two sets of runs of one suite: which cells changed, and beyond seed noise or not."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from fedkd.metrics.columns import Column
from fedkd.report.grouping import (
    GLOBAL,
    LOCAL,
    Setting,
    done,
    group,
    without_global,
)
from fedkd.report.results import Row
from fedkd.report.stats.intervals import (
    LEVEL,
    Interval,
    mean_interval,
    welch_interval,
)

Verdict: TypeAlias = Literal["equal", "noise", "better", "worse", "unclear"]
"""``equal``: no run changed as far as shown. ``noise``: the interval holds 0. ``better``,
``worse``: it leaves 0. ``unclear``: there are too few seeds for an interval."""


@dataclass(frozen=True)
class Change:
    """One cell, strategy in setting, before and after: the values of one column."""

    strategy: str
    setting: Setting
    column: Column
    before: tuple[float, ...]
    """Of the runs that are compared: of the paired seeds, or of all."""
    after: tuple[float, ...]
    """The same of the other side; in the same order of seeds where they are paired."""
    is_paired: bool
    """Whether both sides share seeds (and splits), and only those are compared."""
    level: float = LEVEL
    is_of_clients: bool = False
    """Whether the strategy has no global model on either side."""

    @property
    def difference(self) -> float:
        """Mean after minus mean before, in the unit of the column."""
        return statistics.fmean(self.after) - statistics.fmean(self.before)

    @property
    def loss(self) -> float:
        """How much worse it has become; negative where it is better."""
        return -self.difference if self.column.higher_is_better else self.difference

    @property
    def interval(self) -> Interval | None:
        """Confidence interval of the difference; None with too few seeds."""
        if not self.is_paired:
            return welch_interval(self.after, self.before, self.level)
        pairs = zip(self.after, self.before, strict=True)
        differences = [after - before for after, before in pairs]
        return mean_interval(differences, self.column.decimals, self.level)

    @property
    def verdict(self) -> Verdict:
        """What can be said of it."""
        decimals = self.column.decimals
        pairs = zip(self.after, self.before, strict=self.is_paired)
        moved = any(round(after - before, decimals) for after, before in pairs)
        if self.is_paired and not moved:
            return "equal"
        interval = self.interval
        if interval is None:
            return "unclear"
        if not interval.leaves_zero:
            return "noise"
        return "worse" if self.loss > 0 else "better"


@dataclass(frozen=True)
class Comparison:
    """Everything that is in both sets of runs, and what is in one only."""

    changes: tuple[Change, ...]
    """One a cell and column, in the order of the first set."""
    lost: Mapping[tuple[str, Setting], str]
    """Cells with a result before and none after, and what became of them: a status, or
    ``missing``."""
    new: tuple[tuple[str, Setting], ...]
    """Cells with a result after and none before."""
    other_options: tuple[tuple[str, Setting], ...]
    """Cells that have a seed in common which was run with other options or another version
    of fedkd, as far as configurations have hashes."""
    threshold: float
    """Percentage points of a mean accuracy that may be lost."""

    @property
    def regressions(self) -> tuple[Change, ...]:
        """Changes for the worse beyond the threshold and beyond seed noise.

        Where paired seeds are too few to tell noise, a loss beyond the threshold counts:
        on one split, from the same weights, nothing else has changed but the program.
        """
        return tuple(
            change
            for change in self.changes
            if change.loss > self.threshold
            and (
                change.verdict == "worse"
                or (change.verdict == "unclear" and change.is_paired)
            )
        )

    @property
    def has_failed(self) -> bool:
        """Whether there is a regression, or a cell has lost its result."""
        return bool(self.regressions or self.lost)

    def by_chance(self) -> float:
        """Return how many verdicts ``worse`` noise alone gives of so many on average."""
        tested = [one for one in self.changes if one.interval is not None]
        return sum((1 - one.level) / 2 for one in tested if one.verdict != "equal")


def compare(
    before: Sequence[Row],
    after: Sequence[Row],
    *,
    threshold: float = 1.0,
    columns: Sequence[Column] = (GLOBAL, LOCAL),
    level: float = LEVEL,
) -> Comparison:
    """Compare two sets of runs, cell by cell.

    Runs of one cell are paired by their seeds where both sides have some in common, with
    equal splits; then others do not count. Else the means are compared by Welch's
    interval.

    Args:
        before: The runs that are held to.
        after: The runs that are judged.
        threshold: Percentage points of a mean that may be lost.
        columns: What is compared.
        level: Confidence of the intervals.
    """
    old, new = group(before), group(after)
    changes: list[Change] = []
    lost: dict[tuple[str, Setting], str] = {}
    for key, runs in old.items():
        if not done(runs, GLOBAL):
            continue
        now = new.get(key, [])
        if not done(now, GLOBAL):
            lost[key] = now[0].status if now else "missing"
        changes += [
            _change(key, column, done(runs, column), done(now, column), level)
            for column in columns
            if done(runs, column) and done(now, column)
        ]
    known = {key for key, runs in old.items() if done(runs, GLOBAL)}
    added = [k for k, runs in new.items() if done(runs, GLOBAL) and k not in known]
    others = [k for k in old if k in new and _differ(old[k], new[k])]
    return Comparison(tuple(changes), lost, tuple(added), tuple(others), threshold)


def _change(
    key: tuple[str, Setting],
    column: Column,
    before: Sequence[Row],
    after: Sequence[Row],
    level: float,
) -> Change:
    old = {row.seed: row for row in before}
    new = {row.seed: row for row in after}
    seeds = [s for s in old if s in new and _same_split(old[s], new[s])]
    if seeds:
        before, after = [old[s] for s in seeds], [new[s] for s in seeds]
    first, second = (
        tuple(row.value(column.name) for row in side) for side in (before, after)
    )
    return Change(
        *key,
        column,
        first,
        second,
        is_paired=bool(seeds),
        level=level,
        is_of_clients=without_global([*before, *after]),
    )


def _same_split(one: Row, other: Row) -> bool:
    hashes = {one.split_hash, other.split_hash} - {""}
    return len(hashes) < 2


def _differ(before: Sequence[Row], after: Sequence[Row]) -> bool:
    """Say whether a common seed was run with other options."""
    old = {row.seed: row.config_hash for row in before}
    return any(old.get(r.seed, r.config_hash) != r.config_hash for r in after)
