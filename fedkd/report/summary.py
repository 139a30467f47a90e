"""Rows of results -> means, spreads, counts and marks by strategy and setting."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeVar

from fedkd.metrics.columns import Column
from fedkd.report.grouping import (
    GLOBAL,
    LOCAL,
    UNDEFINED,
    Groups,
    Setting,
    done,
    group,
    is_of_global,
    nowhere_global,
    split_conflicts,
    without_global,
)
from fedkd.report.results import Row
from fedkd.report.stats.intervals import Interval, bootstrap_interval
from fedkd.report.stats.pairs import Pairs, against
from fedkd.report.stats.standings import Mark, Standing, standing

_T = TypeVar("_T")


@dataclass(frozen=True)
class TableField:
    """One field of a table: the runs of a strategy in a setting."""

    values: tuple[float, ...] = ()
    """The metric of every run that is done, in the order of the rows."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """How many runs there are of each status; ``undefined`` instead of ``done`` where
    the metric has no value."""
    mark: Mark = ""
    is_of_clients: bool = False
    """Whether it should be of a global model, there is none, and it is the mean over the
    clients' own models: it does not compete."""
    is_signed: bool = False
    """Whether there is no global model here, and the strategy has one in another setting:
    the sign stands here, and not beside the strategy."""

    @property
    def n(self) -> int:
        """Number of runs the mean is over."""
        return len(self.values)

    @property
    def mean(self) -> float | None:
        """Mean over the runs that are done; None without any."""
        return statistics.fmean(self.values) if self.values else None

    @property
    def std(self) -> float | None:
        """Sample standard deviation over the runs; None for fewer than two."""
        return statistics.stdev(self.values) if self.n > 1 else None

    @property
    def interval(self) -> Interval | None:
        """Bootstrap interval of the mean; None for fewer than five runs."""
        return bootstrap_interval(self.values)


@dataclass(frozen=True)
class Table:
    """Strategies in rows, settings in columns, both in order of appearance."""

    column: Column
    """What is in it."""
    strategies: tuple[str, ...]
    settings: tuple[Setting, ...]
    entries: Mapping[tuple[str, Setting], TableField]
    """Every pair has an entry; one without runs is empty."""
    references: frozenset[str]
    """Strategies that are marked and never best."""
    without_global: frozenset[str] = frozenset()
    """Strategies that have no global model wherever their runs are done. They are marked
    in every table, and never best by a column of the global model."""
    standings: Mapping[Setting, Standing] = field(default_factory=dict)
    """Who is best in each setting, and whether the runs tell so."""

    @cached_property
    def common_n(self) -> int | None:
        """Number of runs of every entry that has a mean; None where they differ."""
        numbers = {entry.n for entry in self.entries.values() if entry.n}
        return numbers.pop() if len(numbers) == 1 else None


def summarise(
    rows: Sequence[Row],
    references: Collection[str] = (),
    column: Column = GLOBAL,
) -> Table:
    """Reduce runs to one entry a strategy and setting, references last.

    Only runs that are ``done`` have a value. What is marked, and when, is said by
    :func:`~fedkd.report.stats.standings.standing`. Nobody competes who is a reference,
    who has a run without a value (the mean of those that survived is none of the
    strategy), or who has no global model where the column is of that.
    """
    groups = group(rows)
    # Older results may have no local accuracy at all; then nobody lacks it.
    asked = column is GLOBAL or (column is LOCAL and bool(done(rows, LOCAL)))
    labels = _ordered(label for label, _ in groups)
    # Benches that are joined have references in the middle of their rows.
    strategies = tuple(sorted(labels, key=lambda label: label in references))
    settings = _ordered(setting for _, setting in groups)
    torn = {setting for setting, _ in split_conflicts(rows)}
    nowhere = nowhere_global(groups)
    standings: dict[Setting, Standing] = {}
    table: dict[tuple[str, Setting], TableField] = {}
    for setting in settings:
        entries = {
            label: _entry(groups.get((label, setting), []), column, asked)
            for label in strategies
        }
        rivals = _rivals(groups, setting, entries, references)
        standings[setting] = standing(rivals, column, setting not in torn)
        for label, entry in entries.items():
            mark = standings[setting].marks.get(label, "")
            lacks = without_global(groups.get((label, setting), []))
            is_signed = lacks and label not in nowhere
            table[label, setting] = replace(entry, mark=mark, is_signed=is_signed)
    return Table(
        column,
        strategies,
        settings,
        table,
        frozenset(references) & set(strategies),
        without_global=nowhere,
        standings=standings,
    )


def baseline_of(table: Table, setting: Setting | None = None) -> str | None:
    """Return the strategy others are compared with, of those that have results.

    It is ``fedavg``, else the first competitor, else the first reference.

    Args:
        table: Of global accuracy.
        setting: Where it must have a result; anywhere if None.
    """
    with_results = {
        label
        for (label, where), entry in table.entries.items()
        if entry.n and setting in (None, where)
    }
    rest = [label for label in table.strategies if label not in table.references]
    signed = {label for (label, _), entry in table.entries.items() if entry.is_signed}
    lacking = table.without_global | signed
    whole = [label for label in rest if label not in lacking]
    ranked = ["fedavg", *whole, *rest, *table.strategies]
    return next((label for label in ranked if label in with_results), None)


def from_baselines(rows: Sequence[Row], table: Table, column: Column) -> Pairs:
    """Return what every strategy has above the baseline of each setting.

    Args:
        rows: All rows of the bench.
        table: Of global accuracy; says which baseline a setting has.
        column: What of the rows is compared.
    """
    bases = {setting: baseline_of(table, setting) for setting in table.settings}
    above = {base: against(rows, base, column) for base in bases.values() if base}
    return {
        (label, setting): pair
        for base, pairs in above.items()
        for (label, setting), pair in pairs.items()
        if bases[setting] == base
    }


def _ordered(items: Iterable[_T]) -> tuple[_T, ...]:
    return tuple(dict.fromkeys(items))


def _entry(runs: Sequence[Row], column: Column, asked: bool) -> TableField:
    return TableField(
        tuple(row.value(column.name) for row in done(runs, column)),
        dict(Counter(_status(row, column, asked) for row in runs)),
        is_of_clients=is_of_global(column) and without_global(runs),
    )


def _rivals(
    groups: Groups,
    setting: Setting,
    entries: Mapping[str, TableField],
    references: Collection[str],
) -> dict[str, list[Row]]:
    """Return the runs of those that compete in a setting, by label."""
    return {
        label: groups[label, setting]
        for label, entry in entries.items()
        if label not in references
        and not entry.is_of_clients
        and set(entry.counts) == {"done"}
        and entry.n
    }


def _status(row: Row, column: Column, asked: bool) -> str:
    """Return what became of a run, as far as a column is concerned.

    Args:
        row: The run.
        column: Which.
        asked: Whether all runs were to have a value of it.
    """
    is_due = asked or column.name in row.metrics
    lacks = is_due and row.value(column.name) is None
    return UNDEFINED if lacks and row.status == "done" else row.status
