"""Values that a search chose before, taken in place of a search of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from fedkd.base.bounds import parse_json, read_bytes
from fedkd.errors import ConfigError, DataError, listing
from fedkd.harness.bench import Bench
from fedkd.plugins.registry import Registry
from fedkd.report.text import numbered
from fedkd.report.tuning import Chosen, Tuning, read_tuning, tuning_of
from fedkd.suite.trials import Study, studies_of, tuned_grid

_ELSE = "Take the file of a search of this suite, or leave --chosen out to search."


def with_chosen(bench: Bench, path: Path) -> Bench:
    """Return a bench with the values of ``chosen.json``; nothing is searched or written.

    Args:
        bench: Of the suite as it is written.
        path: The file that the search of a bench left.

    Raises:
        ConfigError: If the suite has no search, the file is missing or damaged, or is of
            a search with a seed of the table; if it has no values for a strategy that the
            suite searches, lacks one of them, or has other ones than the results folder.
    """
    suite, registry = bench.suite, bench.registry
    if suite.search is None:
        raise ConfigError(
            f"--chosen {path}: {suite.where} has no search, which the values would be of. "
            "Leave --chosen out; a suite without a search is given values by --set."
        )
    tuning = _read(path)
    _refuse_seeds(bench, tuning, path)
    _refuse_others(bench, tuning, path)
    chosen = [
        (study, _values(study, tuning, registry, path) if study.space else {})
        for study in studies_of(suite, registry)
    ]
    cells_of = partial(tuned_grid, registry=registry, chosen=chosen)
    made = Bench(suite, registry, bench.settings, cells_of)
    made.taken = replace(tuning, taken=True)
    return made


def _read(path: Path) -> Tuning:
    try:
        raw = parse_json(read_bytes(path))
    except OSError as error:
        raise ConfigError(
            f"--chosen {path}: cannot be read: {error.strerror}. Expected the chosen.json "
            "that the search of a bench left in its results folder."
        ) from None
    except ValueError as error:
        raise ConfigError(f"--chosen {path}: is no JSON: {error}. {_ELSE}") from None
    try:
        return tuning_of(raw, f"--chosen {path}", _ELSE)
    except DataError as error:
        raise ConfigError(str(error)) from None


def _refuse_seeds(bench: Bench, tuning: Tuning, path: Path) -> None:
    """Refuse values that were chosen for a split that the table is run on."""
    both = sorted(set(tuning.seeds) & set(bench.suite.seeds))
    if both:
        raise ConfigError(
            f"--chosen {path}: found {numbered('seed', both)} in its search and in the "
            "table, which would be run on splits that its values were chosen for. Give "
            "the table other seeds, --seeds, or leave --chosen out to search anew."
        )


def _refuse_others(bench: Bench, tuning: Tuning, path: Path) -> None:
    """Refuse values that differ from those that the folder's runs have."""
    there = read_tuning(bench.settings.out)
    if there is not None and _by_key(there) != _by_key(tuning):
        raise ConfigError(
            f"--chosen {path}: {bench.settings.out.chosen} has other values, which its "
            "runs were done with. Give another --out, or leave --chosen out to go on."
        )


def _by_key(tuning: Tuning) -> Mapping[tuple[str, str], Mapping[str, Any]]:
    return {(one.strategy, one.setting): one.values for one in tuning.chosen}


def _values(
    study: Study, tuning: Tuning, registry: Registry, path: Path
) -> Mapping[str, Any]:
    """Return what was chosen for a study: for itself, or for the first of its family."""
    run = study.cells({}, registry)[0].run
    own, end = study.setting_of(run), study.beside_data(run)
    ours = [one for one in tuning.chosen if one.strategy == study.entry.label]
    for one in ours:
        if one.setting == own:
            return _searched(one, study, path)
    first = next((f[0] for f in study.search.families if study.dataset in f), None)
    for one in ours:
        if one.dataset == first and one.setting.endswith(f", {end}"):
            return _searched(one, study, path)
    raise ConfigError(
        f"--chosen {path}: found nothing for {study.entry.label} on {own}, only for "
        f"{_known(ours, tuning)}. {_ELSE}"
    )


def _searched(one: Chosen, study: Study, path: Path) -> Mapping[str, Any]:
    """Return the values of a choice: all that the suite searches, and nothing else."""
    unknown = one.values.keys() - study.space.keys()
    if unknown:
        raise ConfigError(
            f"--chosen {path}: {one.strategy}, {one.setting}: found "
            f"{listing(sorted(unknown))}, and the suite searches "
            f"{listing(sorted(study.space))}. {_ELSE}"
        )
    missing = study.space.keys() - one.values.keys()
    # There are none at all where no trial has a score: the strategy stays as it was.
    if missing and (one.values or one.score is not None):
        raise ConfigError(
            f"--chosen {path}: {one.strategy}, {one.setting}: found no value of "
            f"{listing(sorted(missing))}, which the suite searches. {_ELSE}"
        )
    return one.values


def _known(ours: Sequence[Chosen], tuning: Tuning) -> str:
    if ours:
        return "; ".join(one.setting for one in ours)
    return listing(dict.fromkeys(one.strategy for one in tuning.chosen))
