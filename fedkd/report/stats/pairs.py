"""Differences of two strategies seed by seed: on the same split, weights and clients."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedkd.metrics.columns import Column
from fedkd.report.grouping import GLOBAL, Setting, done, group, split_conflicts
from fedkd.report.results import Row
from fedkd.report.stats.intervals import Interval, mean_interval, seeds_needed


@dataclass(frozen=True)
class Pair:
    """What one strategy has above another, in one setting and of one column."""

    first: str
    second: str
    differences: Mapping[int, float]
    """``first - second`` by seed, of the seeds that are done on both sides; in the unit
    of the column, percentage points for an accuracy."""
    decimals: int = 2
    """Of the column, in tables."""

    @property
    def values(self) -> tuple[float, ...]:
        """The differences, in the order of seeds."""
        return tuple(self.differences[seed] for seed in sorted(self.differences))

    @property
    def n(self) -> int:
        """Number of seeds on both sides."""
        return len(self.differences)

    @property
    def mean(self) -> float | None:
        """Mean of the differences; None without any."""
        return statistics.fmean(self.values) if self.n else None

    @property
    def std(self) -> float | None:
        """Sample standard deviation of the differences; None of fewer than two."""
        return statistics.stdev(self.values) if self.n > 1 else None

    @property
    def interval(self) -> Interval | None:
        """Confidence interval of the mean; None where too few seeds allow none."""
        return mean_interval(self.values, self.decimals)

    @property
    def side(self) -> int:
        """1 or -1 where that interval lies above or below 0; else 0."""
        interval = self.interval
        if interval is None or not interval.leaves_zero:
            return 0
        return 1 if interval.low > 0 else -1

    @property
    def looks_equal(self) -> bool:
        """Whether there is a mean, and it is 0 as far as tables show it."""
        return self.mean is not None and round(self.mean, self.decimals) == 0

    @property
    def seeds_needed(self) -> int | None:
        """Seeds that would separate the two at the observed mean and spread, if known."""
        return seeds_needed(self.values, self.decimals)


Pairs = dict[tuple[str, Setting], Pair]
"""Pairs by the label of their first strategy, and setting."""


def paired(
    rows: Sequence[Row], others: Sequence[Row], column: Column = GLOBAL
) -> dict[int, float]:
    """Return the differences of two sets of runs of one setting, by common seed.

    Args:
        rows: Runs of one strategy, one a seed.
        others: Those of another one, which are subtracted.
        column: What of them.
    """
    values = {row.seed: row.value(column.name) for row in done(rows, column)}
    base = {row.seed: row.value(column.name) for row in done(others, column)}
    return {seed: values[seed] - base[seed] for seed in values if seed in base}


def against(rows: Sequence[Row], baseline: str, column: Column = GLOBAL) -> Pairs:
    """Return what every strategy has above a baseline, in every setting.

    Settings in which runs of one seed saw different splits are left out, for there is
    nothing that a difference would be paired by; so are strategies without a common seed.
    """
    groups = group(rows)
    apart = {setting for setting, _ in split_conflicts(rows)}
    pairs: Pairs = {}
    for (label, setting), runs in groups.items():
        base = groups.get((baseline, setting), [])
        differences = paired(runs, base, column)
        if label != baseline and differences and setting not in apart:
            pairs[label, setting] = Pair(label, baseline, differences, column.decimals)
    return pairs
