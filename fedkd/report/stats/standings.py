"""Who is best in a setting, and whether the runs tell so: what tables mark."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from fedkd.metrics.columns import Column
from fedkd.report.grouping import done
from fedkd.report.results import Row
from fedkd.report.stats.pairs import Pair, paired

Mark: TypeAlias = Literal["", "best", "second", "leading"]
"""``best`` and ``second`` are separated from everyone who comes after them, and better;
``leading`` has the best mean and is not, or looks equal to that in the table."""


@dataclass(frozen=True)
class Standing:
    """The order of the competitors in one setting, by one column."""

    ranked: tuple[str, ...] = ()
    """Their labels, the best mean first."""
    marks: Mapping[str, Mark] = field(default_factory=dict)
    """Of those that have one."""
    pair: Pair | None = None
    """The best above the first that it is not separated from, or above the runner-up if
    there is none; None without two competitors, or where a seed had several splits, so
    that nothing is paired."""
    is_worse_in_pair: bool = False
    """Whether the best is worse than that one on the seeds that both have: its mean is
    better by other seeds."""


def standing(
    runs: Mapping[str, Sequence[Row]], column: Column, is_paired: bool = True
) -> Standing:
    """Rank competitors by their means, and mark what their runs separate.

    The best is marked ``best`` if it is separated from all others: the interval of each
    mean paired difference leaves 0 on the better side, and the two do not look equal in
    the table. Then the runner-up is ``second`` if the same is so of it and all that come
    after it. A best that is not separated from all is ``leading``, and whoever looks
    equal to it in the table is too. Nobody is marked where all look equal.

    Args:
        runs: Of every competitor, by label: all of them done.
        column: By what they are compared.
        is_paired: Whether runs of one seed saw one split.
    """
    means = {
        label: statistics.fmean(row.value(column.name) for row in done(rows, column))
        for label, rows in runs.items()
    }
    shown = {label: round(mean, column.decimals) for label, mean in means.items()}
    better = 1 if column.higher_is_better else -1
    ranked = tuple(sorted(means, key=lambda label: -better * means[label]))
    if len(ranked) < 2 or len(set(shown.values())) < 2:
        return Standing(ranked)

    def unseparated(place: int) -> Iterator[Pair]:
        """Yield whom that place is not separated from, of those that come after it."""
        for other in ranked[place + 1 :]:
            pair = _pair(runs, ranked[place], other, column)
            # Of unequal seeds the order of means may be another one than that of pairs.
            if pair.side != better or shown[pair.first] == shown[other]:
                yield pair

    pair = next(unseparated(0), None) if is_paired else None
    if pair is not None or not is_paired:
        leading: dict[str, Mark] = {
            label: "leading" for label in ranked if shown[label] == shown[ranked[0]]
        }
        ahead = round(pair.mean or 0, pair.decimals) if pair else 0
        return Standing(ranked, leading, pair, is_worse_in_pair=better * ahead < 0)
    marks: dict[str, Mark] = {ranked[0]: "best"}
    if len(ranked) > 2 and next(unseparated(1), None) is None:
        marks[ranked[1]] = "second"
    return Standing(ranked, marks, _pair(runs, ranked[0], ranked[1], column))


def _pair(
    runs: Mapping[str, Sequence[Row]], first: str, second: str, column: Column
) -> Pair:
    """Return one competitor above another."""
    differences = paired(runs[first], runs[second], column)
    return Pair(first, second, differences, column.decimals)
