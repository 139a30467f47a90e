"""Rows by strategy and setting, in order of appearance, and what settings are called."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from fedkd.base.partial import parts_named
from fedkd.base.runname import Axes, RunName, with_alpha
from fedkd.errors import counted
from fedkd.metrics.columns import Column
from fedkd.metrics.metric_set import MetricSet
from fedkd.report.results import Row

GLOBAL, LOCAL = MetricSet().columns.values()
"""The columns of accuracy, which all results have."""


UNDEFINED = "undefined"
"""What counts for a run that is done and whose metric has no value."""
APART = ("rounds", "precision")
"""Columns that may be axes of a grid and are no part of a setting otherwise."""


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
    axes: Axes = ()
    """What a grid goes through beside these; rounds only where runs differ in nothing
    else."""

    @classmethod
    def of(cls, run: RunName, suite: str = "", apart: Collection[str] = ()) -> Setting:
        """Return the setting that a run belongs to.

        Args:
            run: What the run is called.
            suite: What its suite is called, if suites are kept apart.
            apart: Columns that are kept apart too.
        """
        shared = {name: getattr(run, name) for name in cls.__dataclass_fields__}
        axes = [axis for axis in run.axes if axis[0] not in (*shared, *APART)]
        axes += [(name, str(getattr(run, name))) for name in apart]
        return cls(**{**shared, "suite": suite, "axes": tuple(axes)})


Groups = dict[tuple[str, Setting], list[Row]]
"""Rows by strategy and setting, both in order of appearance."""


def group(rows: Sequence[Row], beside: Sequence[Row] = ()) -> Groups:
    """Return the rows of every strategy and setting.

    Rounds and precision are kept apart where runs of one suite, strategy and setting
    differ in them; suites where two of them hold the same strategy and setting, for only
    runs of one suite are held to be seeds of one thing.

    Args:
        rows: What is grouped.
        beside: Rows of another side, whose groups these are held against: what must be
            told apart on either side is on both.
    """
    sides = (rows, beside)
    told = [name for name in APART if any(_differs(side, name) for side in sides)]
    by_suite = any(_suites_meet(side, told) for side in sides)
    groups: Groups = {}
    for row in rows:
        setting = Setting.of(row, row.suite if by_suite else "", told)
        groups.setdefault((row.strategy, setting), []).append(row)
    return groups


def _differs(rows: Sequence[Row], name: str) -> bool:
    """Say whether runs of a suite's strategy and setting differ in a column."""
    first: dict[object, object] = {}
    for row in rows:
        key = (row.suite, row.strategy, Setting.of(row))
        value = getattr(row, name)
        if first.setdefault(key, value) != value:
            return True
    return False


def _suites_meet(rows: Sequence[Row], apart: Collection[str]) -> bool:
    """Say whether two suites hold the same strategy and setting."""
    first: dict[object, str] = {}
    for row in rows:
        key = (row.strategy, Setting.of(row, apart=apart))
        if first.setdefault(key, row.suite) != row.suite:
            return True
    return False


def done(runs: Sequence[Row], column: Column) -> list[Row]:
    """Return the runs that are done and have a value of a column."""
    finished = (row for row in runs if row.status == "done")
    return [row for row in finished if row.value(column.name) is not None]


def without_global(runs: Sequence[Row]) -> bool:
    """Say whether runs have no global model, so that their global values are means."""
    return any(row.status == "done" and row.global_of == "clients" for row in runs)


def nowhere_global(groups: Groups) -> frozenset[str]:
    """Return the strategies that have no global model wherever their runs are done."""
    found: dict[str, bool] = {}
    for (label, _), runs in groups.items():
        # Runs that are not done do not say whether there is one.
        if any(row.status == "done" for row in runs):
            found[label] = found.get(label, True) and without_global(runs)
    return frozenset(label for label, lacks in found.items() if lacks)


def is_of_global(column: Column) -> bool:
    """Say whether a column is of the global model, or of when that reached a target."""
    if column.scope == "rounds":
        return any(name.startswith("global_") for name in column.reads)
    return column.scope == "global"


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
            **{name: f"{name} {value}" for name, value in setting.axes},
        }
        for setting in settings
    ]
    differing = {
        key
        for detail in details
        for key in detail
        if any(one.get(key) != detail[key] for one in details)
    }
    titles = []
    for setting, detail in zip(settings, details, strict=True):
        split = with_alpha(setting.partition, setting.alpha)
        extra = [text for key, text in detail.items() if key in differing]
        titles.append(", ".join([setting.dataset, split, *extra]))
    shared = [text for key, text in details[0].items() if key not in differing and text]
    return tuple(titles), ", ".join(shared)


def column_titles(settings: Sequence[Setting]) -> tuple[tuple[str, ...], str]:
    """Return what :func:`setting_titles` does, shorter where columns are data sets.

    A partition that several data sets share is among what they all share:
    ``("mnist", "cifar10")`` and ``"dirichlet 0.1, models cnn, …"``.
    """
    titles, shared = setting_titles(settings)
    splits = {with_alpha(setting.partition, setting.alpha) for setting in settings}
    if len(splits) != 1 or len({setting.dataset for setting in settings}) == 1:
        return titles, shared
    (split,) = splits
    short = [
        title.replace(f"{setting.dataset}, {split}", setting.dataset, 1)
        for setting, title in zip(settings, titles, strict=True)
    ]
    return tuple(short), ", ".join(filter(None, [split, shared]))


def titles_of(settings: Iterable[Setting]) -> dict[Setting, str]:
    """Return the short title of every setting, each once, in their order."""
    every = list(dict.fromkeys(settings))
    return dict(zip(every, setting_titles(every)[0], strict=True)) if every else {}


def split_conflicts(rows: Sequence[Row]) -> list[tuple[Setting, int]]:
    """Return the settings and seeds whose runs did not all see the same data split.

    Equal positions in different files are different splits, too.
    """
    seen: dict[tuple[Setting, int], tuple[set[str], set[str]]] = {}
    for (_, setting), runs in group(rows).items():
        for row in runs:
            splits, parts = seen.setdefault((setting, row.seed), (set(), set()))
            splits.update(filter(None, [row.split_hash]))
            parts.update(filter(None, [parts_named(row.notes)]))
    return [key for key, both in seen.items() if any(len(one) > 1 for one in both)]


def changed_parts(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Return the digests of the parts of each data set whose runs saw several."""
    found: dict[str, list[str]] = {}
    for row in rows:
        part = parts_named(row.notes)
        if part and part not in found.setdefault(row.dataset, []):
            found[row.dataset].append(part)
    return {dataset: parts for dataset, parts in found.items() if len(parts) > 1}
