"""Mean ranks over many blocks: Friedman's test, and Nemenyi's critical difference.

After J. Demšar, Statistical Comparisons of Classifiers over Multiple Data Sets, JMLR 7
(2006). A block is a data set, partition, models and seed. The tests are scipy's.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from fedkd.errors import counted
from fedkd.metrics.columns import Column
from fedkd.report.grouping import (
    GLOBAL,
    Setting,
    done,
    group,
    is_of_global,
    split_conflicts,
    without_global,
)
from fedkd.report.results import Row
from fedkd.report.stats.intervals import LEVEL

LEAST_BLOCKS = 10
"""Blocks from which on the chi-square of Friedman's test is near enough (Demšar: N > 10 and
k > 5 are safe; below, the test is only too cautious)."""
LEAST_STRATEGIES = 3
"""Two strategies are compared by their paired differences."""


@dataclass(frozen=True)
class Ranking:
    """Mean ranks of strategies, and what they separate."""

    mean_ranks: Mapping[str, float]
    """By label, the best first; 1 is best, and ties share the mean of their ranks."""
    blocks: int
    """Blocks in which every one of them has a result."""
    settings: int
    """Different settings among them; blocks of one setting differ in their seed only."""
    left_out: tuple[str, ...]
    """Strategies that lack a result in one of these blocks or more."""
    chi_square: float
    """Friedman's statistic, with one degree of freedom less than strategies."""
    p_value: float
    """Of it: how often ranks differ so much where all strategies are alike."""
    critical_difference: float
    """Nemenyi's: mean ranks that differ by less are not separated."""

    @property
    def is_significant(self) -> bool:
        """Whether Friedman's test finds a difference at all."""
        return self.p_value < 1 - LEVEL

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The largest sets of neighbours, of two or more, that are not separated."""
        order = list(self.mean_ranks)
        if not self.is_significant:
            return (tuple(order),)
        runs = [
            [
                label
                for label in order[start:]
                if self.mean_ranks[label] - self.mean_ranks[order[start]]
                < self.critical_difference
            ]
            for start in range(len(order))
        ]
        longest: list[tuple[str, ...]] = []
        for run in runs:
            if len(run) > 1 and not any(set(run) <= set(other) for other in longest):
                longest.append(tuple(run))
        return tuple(longest)


def rank(
    rows: Sequence[Row], references: Collection[str] = (), column: Column = GLOBAL
) -> Ranking | str:
    """Rank the competitors over all blocks in which each of them has a result.

    References do not compete; nor, where the global model is ranked, do strategies in a
    setting in which they have none. A block whose runs saw different splits is left out.

    Returns:
        The ranking; the sentence that says why there is none if there are fewer than
        :data:`LEAST_STRATEGIES` competitors or :data:`LEAST_BLOCKS` blocks, or if no
        result differs.
    """
    values = _values(rows, references, column)
    every = list(dict.fromkeys(block for known in values.values() for block in known))
    labels, blocks = list(values), _shared(values, list(values), every)
    here = f"{counted(len(labels), 'competitor')} in {counted(len(blocks), 'block')}"
    # Who has no result where the others have one (skipped, failed) would take it all.
    while len(blocks) < LEAST_BLOCKS and len(labels) > LEAST_STRATEGIES:
        labels.remove(min(labels, key=lambda label: len(values[label])))
        blocks = _shared(values, labels, every)
    if len(labels) < LEAST_STRATEGIES or len(blocks) < LEAST_BLOCKS:
        return (
            f"Mean ranks and their tests need {LEAST_STRATEGIES} competitors with results "
            f"in {LEAST_BLOCKS} blocks (setting x seed); here: {here}."
        )
    # Who was put out first may have all the blocks that are left after another.
    labels = [label for label in values if set(blocks) <= values[label].keys()]
    # What looks equal in a table is a tie.
    table = [
        [round(values[label][block], column.decimals) for label in labels]
        for block in blocks
    ]
    if all(len(set(line)) == 1 for line in table):
        return "Mean ranks say nothing: no result differs between the strategies."
    left_out = tuple(label for label in values if label not in labels)
    return _ranking(labels, blocks, table, left_out, column)


def _values(
    rows: Sequence[Row], references: Collection[str], column: Column
) -> dict[str, dict[tuple[Setting, int], float]]:
    """Return the competitors' values by block."""
    values: dict[str, dict[tuple[Setting, int], float]] = {}
    torn = set(split_conflicts(rows))
    for (label, setting), runs in group(rows).items():
        if label in references or (is_of_global(column) and without_global(runs)):
            continue
        for row in done(runs, column):
            # Not before: who has no result that counts is no competitor.
            own = values.setdefault(label, {})
            if (block := (setting, row.seed)) not in torn:
                own[block] = row.value(column.name)
    return values


def _shared(
    values: Mapping[str, Mapping[tuple[Setting, int], float]],
    labels: Sequence[str],
    blocks: Sequence[tuple[Setting, int]],
) -> list[tuple[Setting, int]]:
    return [b for b in blocks if all(b in values[label] for label in labels)]


def _ranking(
    labels: Sequence[str],
    blocks: Sequence[tuple[Setting, int]],
    table: Sequence[Sequence[float]],
    left_out: tuple[str, ...],
    column: Column,
) -> Ranking:
    """Return the ranking of ``table[block][strategy]``."""
    # Most commands rank nothing, and this takes a while to import.
    from scipy import stats  # noqa: PLC0415

    sign = -1 if column.higher_is_better else 1
    ranks = stats.rankdata([[sign * value for value in line] for line in table], axis=1)
    means = dict(zip(labels, map(statistics.fmean, ranks.T.tolist()), strict=True))
    statistic, p_value = stats.friedmanchisquare(*ranks.T)
    k, n = len(labels), len(blocks)
    # Nemenyi: q_alpha of k groups and infinitely many degrees of freedom over sqrt(2).
    q = stats.studentized_range.ppf(LEVEL, k, math.inf) / math.sqrt(2)
    return Ranking(
        mean_ranks=dict(sorted(means.items(), key=lambda item: item[1])),
        blocks=n,
        settings=len({setting for setting, _ in blocks}),
        left_out=left_out,
        chi_square=float(statistic),
        p_value=float(p_value),
        critical_difference=float(q * math.sqrt(k * (k + 1) / (6 * n))),
    )
