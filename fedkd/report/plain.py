"""A report as plain values: rows, means, differences and ranks, for programs to read."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict
from typing import Any

from fedkd.metrics.columns import Column
from fedkd.report.grouping import GLOBAL, LOCAL, UNDEFINED, done
from fedkd.report.results import Row
from fedkd.report.stats.ranks import rank
from fedkd.report.summary import Table, TableField, from_baselines, summarise


def plain_report(
    rows: Sequence[Row], references: Collection[str], columns: Sequence[Column]
) -> dict[str, Any]:
    """Return rows and what follows from them.

    Args:
        rows: All rows, in the order that strategies shall have.
        references: Labels of strategies that are no competitors.
        columns: Of metrics beside accuracy.
    """
    table = summarise(rows, references)
    beside = [*((LOCAL,) if done(rows, LOCAL) else ()), *columns]
    ranking = rank(rows, references)
    return {
        "rows": [row.plain() for row in rows],
        "means": _means(table, [summarise(rows, (), column) for column in beside]),
        "differences": _differences(rows, table),
        "ranks": ranking if isinstance(ranking, str) else asdict(ranking),
    }


def _means(table: Table, others: Sequence[Table]) -> list[dict[str, Any]]:
    return [
        {
            "strategy": label,
            **asdict(setting),
            "n": entry.n,
            "global_accuracy_mean": entry.mean,
            "global_accuracy_std": entry.std,
            "global_accuracy_interval": entry.interval and asdict(entry.interval),
            "runs": dict(entry.counts),
            "best": entry.mark == "best",
            "mark": entry.mark,
            "reference": label in table.references,
            "global_model": not entry.is_of_clients,
            **{
                f"{more.column.name}_{what}": value
                for more in others
                for what, value in _of_metric(more.entries[label, setting]).items()
            },
        }
        for setting in table.settings
        for label in table.strategies
        if (entry := table.entries[label, setting]).counts
    ]


def _of_metric(entry: TableField) -> dict[str, float | None]:
    """Return a metric's mean and spread, and over how many of the runs they are."""
    undefined = entry.counts.get(UNDEFINED, 0)
    return {"mean": entry.mean, "std": entry.std, "n": entry.n, "undefined": undefined}


def _differences(rows: Sequence[Row], table: Table) -> list[dict[str, Any]]:
    return [
        {
            "strategy": label,
            **asdict(setting),
            "above": pair.second,
            "metric": column.name,
            "by_seed": dict(pair.differences),
            "mean": pair.mean,
            "std": pair.std,
            "interval": pair.interval and asdict(pair.interval),
            "seeds_needed": pair.seeds_needed,
        }
        for column in (GLOBAL, LOCAL)
        for (label, setting), pair in from_baselines(rows, table, column).items()
    ]
