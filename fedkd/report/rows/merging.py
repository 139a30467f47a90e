"""Rows of several benches made one table: a run is in it once, and so is a seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from fedkd.base.phases import PHASES
from fedkd.base.runname import RunName
from fedkd.errors import ConfigError
from fedkd.report.results import Row

OUTCOMES = ("", "diverged", "done")
"""What training came to, the one that counts most last; ``failed`` and ``skipped`` are
none, and stand for the first."""


def merge_results(
    tables: Mapping[str, Sequence[Row]], measured: Callable[[Row], int] = lambda _: 0
) -> list[Row]:
    """Join the rows of several benches; the same run may be in more than one.

    A run that was made twice is equal but for its times, its memory and its engine; the
    first of them counts. Two runs of one strategy, setting and seed with equal results
    are one as well, with all metrics of both: a seed counts once. One that failed or was
    skipped gives way to one that did not; of two such ones the first counts.

    Args:
        tables: Rows by where they came from, for messages.
        measured: Says how much a run has measured; of two that are one, the one with
            more counts.

    Raises:
        ConfigError: If two places hold different results, or labels, under one
            ``run_id``, or two runs of one strategy, setting and seed have different
            results.
    """
    merged: dict[str, Row] = {}
    owner: dict[str, str] = {}
    for place, rows in tables.items():
        for row in rows:
            old = merged.setdefault(row.run_id, row)
            first = owner.setdefault(row.run_id, place)
            if _can_disagree(old, row) and _result(old) != _result(row):
                raise ConfigError(f"{first} and {place} {_conflict(old, row)}")
            merged[row.run_id] = _joined(old, row, measured)
            if outcome(row) > outcome(old):
                owner[row.run_id] = place
    return _one_a_seed(merged.values(), owner, measured)


def _conflict(one: Row, other: Row) -> str:
    """Return what two places hold of a run whose rows differ, and what to do."""
    names = ("dataset", "partition", "alpha", "models")
    called = replace(one, **{name: getattr(other, name) for name in names})
    difference = _difference(one, other)
    if _result(called) == _result(other):
        return (
            f"have run {one.run_id!r} under two labels ({difference}); expected one. Give "
            "it the same label in both suites: what is done is not run again."
        )
    return (
        f"hold different results of run {one.run_id!r} ({difference}). "
        "Report them apart, or remove one."
    )


def _one_a_seed(
    rows: Iterable[Row], owner: Mapping[str, str], measured: Callable[[Row], int]
) -> list[Row]:
    """Return one row of each strategy, setting and seed.

    Metrics, how often is measured and the version of a plug-in change what a run is told,
    and need not change what it gives.
    """
    joined: dict[tuple[object, ...], Row] = {}
    for row in rows:
        key = (row.precision, *(getattr(row, one.name) for one in fields(RunName)))
        old = joined.setdefault(key, row)
        if old is row:
            continue
        one, other = _trained(old, row), _trained(row, old)
        if _can_disagree(old, row) and one != other:
            raise ConfigError(
                f"{old.run_id} of {owner[old.run_id]} and {row.run_id} of "
                f"{owner[row.run_id]} are both {row.title}, and their results differ "
                f"({_difference(one, other)}); expected one result a seed. Report them "
                "apart, or remove one."
            )
        joined[key] = _joined(old, row, measured)
    return list(joined.values())


def outcome(row: Row) -> int:
    """Return how much what became of a run counts, as its place in :data:`OUTCOMES`."""
    return OUTCOMES.index(row.status) if row.status in OUTCOMES else 0


def _can_disagree(one: Row, other: Row) -> bool:
    """Say whether two runs are to have one result: training of both came to something."""
    return min(outcome(one), outcome(other)) > 0


def _joined(old: Row, row: Row, measured: Callable[[Row], int]) -> Row:
    """Return the row that counts of two that are one, with what only the other says."""
    if row is old or outcome(row) < outcome(old):
        return old
    if outcome(row) > outcome(old):
        return row
    is_more = row.status == "done" and measured(row) > measured(old)
    kept, less = (row, old) if is_more else (old, row)
    return replace(
        kept,
        notes=kept.notes or less.notes,
        global_of=kept.global_of or less.global_of,
        metrics={**less.metrics, **kept.metrics},
    )


def _trained(row: Row, other: Row) -> Row:
    """Return the result of a run, with metrics that another was asked for as well."""
    common = {k: v for k, v in row.metrics.items() if k in other.metrics}
    return _result(replace(row, config_hash="", run_id="", metrics=common))


def _result(row: Row) -> Row:
    """Return a row without what may differ between two runs of one configuration."""
    empty: dict[str, Any] = {f"seconds_{name}": None for name in PHASES}
    if row.status == "done":
        empty["reason"] = ""  # it started anew, and gave the same
    row = replace(row, engine="", notes="", global_of="", axes=())
    return replace(row, seconds=None, peak_memory_bytes=None, **empty)


def _difference(one: Row, other: Row) -> str:
    """Name the first column in which two rows differ, with both values."""
    one, other = _result(one), _result(other)
    names = dict.fromkeys((*one.plain(), *other.plain()))
    name = next(n for n in names if one.value(n) != other.value(n))
    return f"{name} is {one.value(name)!r} and {other.value(name)!r}"
