"""Rows of results -> means, spreads and counts by strategy and setting."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Literal, TypeVar

from fedkd.base.runname import RunName, with_alpha
from fedkd.errors import counted
from fedkd.metrics.columns import Column
from fedkd.metrics.metric_set import MetricSet
from fedkd.report.results import Row

GLOBAL, LOCAL = MetricSet().columns.values()
"""The columns of accuracy, which all results have."""
UNDEFINED = "undefined"
"""What counts for a run that is done and whose metric has no value."""
Mark = Literal["", "best", "second"]
_T = TypeVar("_T")


@dataclass(frozen=True)
class Setting:
    """One column of a table: what the names of all runs in it share.

    Rounds are not part of it: a one-shot method has its own number of them.
    """

    dataset: str
    partition: str
    alpha: float | None
    models: str
    clients: int
    suite: str = ""
    """Given only where two suites hold the same cell."""

    @classmethod
    def of(cls, run: RunName, suite: str = "") -> Setting:
        """Return the setting that a run belongs to."""
        shared = {one.name: getattr(run, one.name) for one in fields(cls)}
        return cls(**{**shared, "suite": suite})


@dataclass(frozen=True)
class TableField:
    """One field of a table: the runs of a strategy in a setting."""

    values: tuple[float, ...] = ()
    """The metric of every run that is done, in the order of the rows."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """How many runs there are of each status; ``undefined`` instead of ``done`` where
    the metric has no value."""
    mark: Mark = ""

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

    @property
    def common_n(self) -> int | None:
        """Number of runs of every entry that has a mean; None where they differ."""
        numbers = {entry.n for entry in self.entries.values() if entry.n}
        return numbers.pop() if len(numbers) == 1 else None


Groups = dict[tuple[str, Setting], list[Row]]
"""Rows by strategy and setting, both in order of appearance."""


def group(rows: Sequence[Row]) -> Groups:
    """Return the rows of every strategy and setting.

    Suites are kept apart only where they hold the same strategy, setting and seed.
    """
    seen = Counter((row.strategy, Setting.of(row), row.seed) for row in rows)
    suites = {row.suite for row in rows}
    apart = len(suites) > 1 and any(number > 1 for number in seen.values())
    groups: Groups = {}
    for row in rows:
        setting = Setting.of(row, row.suite if apart else "")
        groups.setdefault((row.strategy, setting), []).append(row)
    return groups


def summarise(
    rows: Sequence[Row],
    references: Collection[str] = (),
    column: Column = GLOBAL,
) -> Table:
    """Reduce runs to one entry a strategy and setting.

    Only runs that are ``done`` have a value. The best mean of a setting and the second
    are marked, ties alike; references never are, nor is a strategy with a run that has
    no value (the mean of those that survived is none of the strategy), nor a setting
    with one mean only.
    """
    groups = group(rows)
    strategies = _ordered(label for label, _ in groups)
    settings = _ordered(setting for _, setting in groups)
    table: dict[tuple[str, Setting], TableField] = {}
    for setting in settings:
        entries = {s: _entry(groups.get((s, setting), []), column) for s in strategies}
        rivals = {s: e for s, e in entries.items() if s not in references}
        marks = _marks(rivals, column)
        for label, entry in entries.items():
            mark = marks.get(label, "")
            table[label, setting] = TableField(entry.values, entry.counts, mark)
    marked = frozenset(references) & set(strategies)
    return Table(column, strategies, settings, table, marked)


def paired_differences(
    rows: Sequence[Row], baseline: str
) -> dict[tuple[str, Setting], tuple[float, ...]]:
    """Return ``strategy - baseline`` of global accuracy, of each common seed.

    By strategy and setting.

    Seeds that are not done on both sides are left out.
    """
    by_seed = {
        key: {row.seed: row.value(GLOBAL.name) for row in _done(runs, GLOBAL)}
        for key, runs in group(rows).items()
    }
    differences = {}
    for (label, setting), values in by_seed.items():
        base = by_seed.get((baseline, setting), {})
        common = [seed for seed in values if seed in base]
        if label != baseline and common:
            pairs = tuple(values[seed] - base[seed] for seed in common)
            differences[label, setting] = pairs
    return differences


def baseline_of(table: Table) -> str | None:
    """Return the strategy others are compared with, of those that have results.

    It is ``fedavg``, else the first competitor, else the first reference.
    """
    with_results = {label for (label, _), entry in table.entries.items() if entry.n}
    rest = [label for label in table.strategies if label not in table.references]
    ranked = ["fedavg", *rest, *table.strategies]
    return next((label for label in ranked if label in with_results), None)


def setting_titles(settings: Sequence[Setting]) -> tuple[tuple[str, ...], str]:
    """Return a short title of every setting, and what they all share.

    Data set and partition are always in the title; models, clients and suite only
    where they differ: ``("digits, dirichlet 0.1", …)`` and ``"models cnn, …"``.
    """
    details = [
        {
            "models": f"models {setting.models}",
            "clients": counted(setting.clients, "client"),
            "suite": f"suite {setting.suite}" if setting.suite else "",
        }
        for setting in settings
    ]
    differing = {
        key for detail in details for key in detail if detail[key] != details[0][key]
    }
    titles = []
    for setting, detail in zip(settings, details, strict=True):
        split = with_alpha(setting.partition, setting.alpha)
        extra = [text for key, text in detail.items() if key in differing]
        titles.append(", ".join([setting.dataset, split, *extra]))
    shared = [text for key, text in details[0].items() if key not in differing and text]
    return tuple(titles), ", ".join(shared)


def split_conflicts(rows: Sequence[Row]) -> list[tuple[Setting, int]]:
    """Return the settings and seeds whose runs did not all see the same data split."""
    hashes: dict[tuple[Setting, int], set[str]] = {}
    for (_, setting), runs in group(rows).items():
        for row in runs:
            if row.split_hash:
                hashes.setdefault((setting, row.seed), set()).add(row.split_hash)
    return [key for key, seen in hashes.items() if len(seen) > 1]


def _ordered(items: Iterable[_T]) -> tuple[_T, ...]:
    return tuple(dict.fromkeys(items))


def _done(runs: Sequence[Row], column: Column) -> list[Row]:
    done = (row for row in runs if row.status == "done")
    return [row for row in done if row.value(column.name) is not None]


def _entry(runs: Sequence[Row], column: Column) -> TableField:
    values = tuple(row.value(column.name) for row in _done(runs, column))
    return TableField(values, dict(Counter(_status(row, column) for row in runs)))


def _status(row: Row, column: Column) -> str:
    """Return what became of a run, as far as a column is concerned."""
    asked = column.name in row.metrics
    lacks = asked and row.metrics[column.name] is None
    return UNDEFINED if lacks and row.status == "done" else row.status


def _marks(entries: Mapping[str, TableField], column: Column) -> dict[str, Mark]:
    """Mark the best and the second best mean of the strategies that compete."""
    means = {
        label: round(entry.mean, column.decimals)
        for label, entry in entries.items()
        if entry.mean is not None and set(entry.counts) == {"done"}
    }
    ranks = sorted(set(means.values()), reverse=column.higher_is_better)
    if len(ranks) < 2:
        return {}
    names: dict[float, Mark] = dict(zip(ranks, ("best", "second"), strict=False))
    return {label: names[mean] for label, mean in means.items() if mean in names}
