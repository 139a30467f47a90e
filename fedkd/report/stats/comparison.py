"""Two sets of runs of one suite: which cells changed, and beyond seed noise or not."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from fedkd.base.partial import parts_named
from fedkd.metrics.columns import Column
from fedkd.report.grouping import (
    GLOBAL,
    LOCAL,
    UNDEFINED,
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


Cell: TypeAlias = tuple[str, Setting]
"""A strategy in a setting."""
Facts: TypeAlias = Callable[[Row], Mapping[str, Any] | None]
"""Returns everything that could change the result of a run, by dotted key; None if that
is not known."""
TOLD = ("rounds", "precision")
"""What a row itself says of how it was run, beside its setting."""


@dataclass(frozen=True)
class Other:
    """One thing that the two sides ran a cell with differently."""

    name: str
    """``rounds``, ``training.lr``, ``part of the data``; or ``config_hash`` where it is
    not known what it is."""
    before: Any
    after: Any
    """None, as in ``before``, where the side has no such thing."""


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
    lost: Mapping[Cell, str]
    """Cells with a result before and none after, and what became of them: a status,
    ``undefined`` where it is done without a value, or ``missing``."""
    lost_seeds: Mapping[tuple[Cell, int], str]
    """The same of single seeds, in cells that others have a result of; those that are not
    there after were not asked for, and are no loss."""
    new: tuple[Cell, ...]
    """Cells with a result after and none before."""
    differing: Mapping[Cell, tuple[Other, ...]]
    """Cells that were not run alike, as far as that is known, and in what."""
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
    def untold(self) -> tuple[Change, ...]:
        """Losses beyond the threshold that too few unpaired runs can tell nothing of."""
        return tuple(
            change
            for change in self.changes
            if change.loss > self.threshold
            and change.verdict == "unclear"
            and not change.is_paired
        )

    @property
    def within_noise(self) -> tuple[Change, ...]:
        """Losses beyond the threshold whose interval holds 0."""
        lost = [one for one in self.changes if one.loss > self.threshold]
        return tuple(one for one in lost if one.verdict == "noise")

    @property
    def has_failed(self) -> bool:
        """Whether there is a regression, or a cell or a seed of it lost its result."""
        return bool(self.regressions or self.lost or self.lost_seeds)

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
    facts: tuple[Facts, Facts] | None = None,
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
        facts: How runs of each side were configured; only their rows tell if None.
    """
    old, new = group(before, after), group(after, before)
    changes: list[Change] = []
    lost: dict[Cell, str] = {}
    lost_seeds: dict[tuple[Cell, int], str] = {}
    for key, runs in old.items():
        if not done(runs, GLOBAL):
            continue
        now = new.get(key, [])
        if not done(now, GLOBAL):
            lost[key] = _became(now[0]) if now else "missing"
        else:
            lost_seeds |= {(key, seed): what for seed, what in _lost(runs, now)}
        changes += [
            _change(key, column, done(runs, column), done(now, column), level)
            for column in columns
            if done(runs, column) and done(now, column)
        ]
    known = {key for key, runs in old.items() if done(runs, GLOBAL)}
    added = [k for k, runs in new.items() if done(runs, GLOBAL) and k not in known]
    every = {k: _others(old[k], new[k], facts) for k in old if k in new}
    differing = {key: others for key, others in every.items() if others}
    return Comparison(
        tuple(changes), lost, lost_seeds, tuple(added), differing, threshold
    )


def _became(row: Row) -> str:
    """Return what became of a run without a value."""
    return UNDEFINED if row.status == "done" else row.status


def _lost(before: Sequence[Row], after: Sequence[Row]) -> Iterator[tuple[int, str]]:
    """Yield the seeds that had a result and have none now, though they were run."""
    had = {row.seed for row in done(before, GLOBAL)}
    have = {row.seed for row in done(after, GLOBAL)}
    for row in after:
        if row.seed in had - have:
            yield row.seed, _became(row)


def _change(
    key: Cell,
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
    """Say whether two runs saw one split; equal positions in other files are another."""
    hashes = {one.split_hash, other.split_hash} - {""}
    return len(hashes) < 2 and not _other_parts(one, other)


def _other_parts(before: Row, after: Row) -> tuple[Other, ...]:
    """Return which parts of a published set two runs saw, if it was not the same one."""
    parts = [parts_named(row.notes) for row in (before, after)]
    return (Other("part of the data", *parts),) if len({*parts} - {""}) > 1 else ()


def _others(
    before: Sequence[Row], after: Sequence[Row], facts: tuple[Facts, Facts] | None
) -> tuple[Other, ...]:
    """Return in what two sides of a cell were run differently; of common seeds if any."""
    old, new = ({row.seed: row for row in side} for side in (before, after))
    common = [(old[s], new[s]) for s in old if s in new]
    pairs = common or [(before[0], after[0])]
    found = (one for pair in pairs for one in _different(*pair, facts))
    return tuple({(one.name, repr(one)): one for one in found}.values())


def _different(
    before: Row, after: Row, facts: tuple[Facts, Facts] | None
) -> Iterator[Other]:
    same = before.seed == after.seed and before.config_hash == after.config_hash
    known = (None, None) if facts is None else (facts[0](before), facts[1](after))
    old, new = ({n: getattr(row, n) for n in TOLD} for row in (before, after))
    is_told = known[0] is not None and known[1] is not None
    if is_told and not same:
        old, new = {**old, **(known[0] or {})}, {**new, **(known[1] or {})}
    names = [*old, *(name for name in new if name not in old)]
    others = [
        Other(name, old.get(name), new.get(name))
        for name in names
        if old.get(name) != new.get(name)
    ]
    yield from (*others, *_other_parts(before, after))
    hashes = (before.config_hash, after.config_hash)
    if not others and before.seed == after.seed and all(hashes) and not same:
        yield Other("config_hash", *hashes)
