"""Whose rows may be joined: folders whose suites mean the same by the same names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from fedkd.base.folders import ResultsFolder
from fedkd.errors import ConfigError, FedKDError
from fedkd.plugins.options import resolve
from fedkd.plugins.registry import Registry
from fedkd.report.text import numbered
from fedkd.report.tuning import read_tuning
from fedkd.simulation.protocol import Protocol
from fedkd.suite.entries import Listed
from fedkd.suite.grid import listed
from fedkd.suite.search import space_of
from fedkd.suite.spread import spread_strategies
from fedkd.suite.suite import Suite

_PROTOCOL = (key for key in Protocol.model_fields if key != "evaluation")
PROTOCOL = (*_PROTOCOL, "public", "validation")
"""What runs of one suite share, whatever their seeds and when they are measured. What is
held out, for all to see or for validation, no client trains on."""


def check_protocols(suites: Mapping[ResultsFolder, Suite]) -> None:
    """Refuse folders of one suite name whose runs are no seeds of the same thing.

    Raises:
        ConfigError: Naming the folders and the first key in which they differ.
    """
    _check_same(suites, lambda _, suite: {key: getattr(suite, key) for key in PROTOCOL})


def check_things(suites: Mapping[ResultsFolder, Suite], registry: Registry) -> None:
    """Refuse folders of one suite name that call different things by one name.

    Strategies have a label, which does not tell their options; data sets, partitions and
    models may have one.

    Raises:
        ConfigError: Naming the folders and the first thing in which they differ, or the
            seed of one that is of the search of the other.
        DataError: If ``chosen.json`` of one of several folders is damaged.
    """
    _check_same(suites, lambda _, suite: _asked(suite, registry))
    _check_same(suites, lambda _, suite: _labelled(suite, registry))
    # What a search chose hangs on the setting.
    _check_same(suites, _chosen)
    _refuse_searched_seeds(suites)


def _check_same(
    suites: Mapping[ResultsFolder, Suite],
    said: Callable[[ResultsFolder, Suite], Mapping[str, object]],
) -> None:
    """Refuse folders of one suite name that say different things under one key."""
    names = Counter(suite.name for suite in suites.values())
    first: dict[tuple[str, str], tuple[ResultsFolder, object]] = {}
    for folder, suite in suites.items():
        for key, value in said(folder, suite).items() if names[suite.name] > 1 else ():
            other, known = first.setdefault((suite.name, key), (folder, value))
            if known != value:
                raise ConfigError(
                    f"{other.path} and {folder.path} ran suite {suite.name!r} with "
                    f"different '{key}'; their runs are no seeds of one thing. Report "
                    "them apart, or give one of the suites another name."
                )


def _asked(suite: Suite, registry: Registry) -> dict[str, object]:
    """Return how each strategy of a suite was asked for, defaults and all, by key."""
    asked: dict[str, object] = {}
    usual = suite.training.model_dump()
    for entry in suite.strategies:
        at = f"{suite.where}: strategies.{entry.label}"
        try:
            for one in spread_strategies(registry, [entry]):
                thing = resolve(registry, "strategies", one.name, one.options, at)
                space = suite.search and space_of(
                    registry, suite.search, one.name, one.search
                )
                asked[f"strategies.{one.label}"] = (
                    thing.plain(),
                    one.rounds or suite.rounds,
                    {**usual, **one.training},
                    bool(space),
                )
        except FedKDError:  # without its plug-in, defaults are not known
            asked[f"strategies.{entry.label}"] = entry.plain()
    return asked


def _labelled(suite: Suite, registry: Registry) -> dict[str, object]:
    """Return the options of what has a label in place of them, defaults and all, by key."""
    found: dict[str, object] = {}
    kinds = {
        "datasets": ("datasets", suite.datasets),
        "partitions": ("partitioners", suite.partitions),
    }
    for key, (kind, entries) in kinds.items():
        for entry in (entry for entry in entries if entry.label):
            plain = _options(registry, kind, key, entry, suite.where)
            found |= {f"{key}.{label}": options for label, options in plain.items()}
    mixes = {f"models.{mix.label}": mix.plain() for mix in suite.models if mix.label}
    return found | mixes


def _options(
    registry: Registry, kind: str, key: str, entry: Listed, where: str
) -> dict[str | None, object]:
    """Return the options of what an entry stands for, by label."""
    try:
        things = listed(registry, kind, key, [entry], where)
    except FedKDError:  # without its plug-in, defaults are not known
        return {entry.label: entry.plain()}
    return {label: thing.plain() for label, thing in things}


def _chosen(folder: ResultsFolder, suite: Suite) -> dict[str, object]:
    """Return what a search chose for each strategy and setting, by key."""
    tuning = read_tuning(folder) if suite.search else None
    return {
        f"strategies.{one.strategy}, as chosen for {one.setting}": one.values
        for one in (tuning.chosen if tuning else ())
    }


def _refuse_searched_seeds(suites: Mapping[ResultsFolder, Suite]) -> None:
    """Refuse runs of the splits that the values of another folder were chosen for."""
    searched = {folder: suite for folder, suite in suites.items() if suite.search}
    for folder, suite in searched.items() if len(suites) > 1 else ():
        tuning = read_tuning(folder)
        of_search = set(tuning.seeds if tuning else ())
        for other, its in suites.items():
            both = sorted(of_search & set(its.seeds))
            if both and other != folder and its.name == suite.name:
                raise ConfigError(
                    f"{other.path} has runs of {numbered('seed', both)}, with which the "
                    f"search of {folder.path} chose values; a table of both would be run "
                    "on splits that its values were chosen for. Report them apart, or run "
                    "other seeds."
                )
