"""The settings of a suite that is searched, its trials, and its grid as it was tuned."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from fedkd.base.runname import Axes, RunName
from fedkd.errors import ConfigError, listing, suggestion
from fedkd.metrics.columns import VALIDATION, Column
from fedkd.metrics.metric_set import MetricSet
from fedkd.plugins.registry import Registry
from fedkd.simulation.protocol import EvaluationConfig
from fedkd.suite.axes import axis_text
from fedkd.suite.entries import AMOUNTS, ListedStrategy, without_amounts
from fedkd.suite.grid import Cell, arranged, grid
from fedkd.suite.metrics import built, columns_of, metrics_of
from fedkd.suite.search import Range, SearchConfig, Space, space_of
from fedkd.suite.spread import spread, spread_mixes, spread_strategies
from fedkd.suite.suite import Suite

Values: TypeAlias = Mapping[str, Any]
"""What a trial sets, by path: ``{"training.lr": 0.05, "strategy.mu": 1}``."""
RUNGS = 4
"""Parts of a trial's rounds, after each of which it may be ended early."""


@dataclass(frozen=True, eq=False)
class Study:
    """What is searched: the values of one strategy in one setting."""

    suite: Suite
    """The suite of that setting alone, with all of its strategies and seeds."""
    axes: Axes
    """Where the setting is in the grid."""
    entry: ListedStrategy
    """The strategy."""
    space: Space
    """What is searched; empty if nothing is."""

    @property
    def search(self) -> SearchConfig:
        """The search of the suite."""
        assert self.suite.search is not None, "only what is searched has studies"
        return self.suite.search

    @property
    def dataset(self) -> str:
        """Registered name of the setting's data set."""
        return self.suite.datasets[0].name

    def setting_of(self, run: RunName) -> str:
        """Return what ``chosen.json`` calls the setting, of which ``run`` is a run."""
        return ", ".join([run.dataset, run.split, self.beside_data(run)])

    def beside_data(self, run: RunName) -> str:
        """Return the end of it: what settings of a family have in common."""
        axes = (f"{name} {value}" for name, value in self.axes)
        return ", ".join([run.models, *axes])

    @property
    def rounds(self) -> int:
        """Rounds of a trial."""
        usual = self.entry.rounds or self.suite.rounds
        asked = self.search.rounds
        if asked is None or self.entry.rounds is None:
            return asked or usual
        return min(asked, usual)

    @property
    def rungs(self) -> tuple[int, ...]:
        """Rounds after which a trial may be ended early, and its last one."""
        if not self.search.prune:
            return (self.rounds,)
        return (*range(self.rung, self.rounds, self.rung), self.rounds)

    @property
    def rung(self) -> int:
        """Rounds between two measurements of a trial."""
        return max(1, self.rounds // RUNGS) if self.search.prune else self.rounds

    def check(self, registry: Registry, known: Sequence[Values]) -> None:
        """Make the runs of what will be tried, as far as that is known.

        Those are the ends of each range and all that lists hold, one at a time with the
        first of the others; and trials whose values hang on no score.

        Args:
            registry: Where names are looked up.
            known: The values of these trials.

        Raises:
            ConfigError: If the strategy or its training cannot have some of these values.
        """
        ends = {path: _ends(one) for path, one in self.space.items()}
        first = {path: values[0] for path, values in ends.items()}
        alone = [{**first, path: v} for path, values in ends.items() for v in values]
        # By their text: 1 and 1.0 are equal, and an option may take one of them only.
        for values in {repr(one): one for one in (*alone, *known)}.values():
            self.cells(values, registry)

    def cells(self, values: Values, registry: Registry) -> list[Cell]:
        """Return the runs of a trial, one for each seed of the search.

        Raises:
            ConfigError: If the strategy or its training cannot have these values.
        """
        usual, usual_points = (
            self.suite.evaluation.batch_size,
            self.suite.checkpoint_every,
        )
        column = objective(self.suite, registry)
        suite = self.suite.model_copy(
            update={
                "strategies": (with_values(self.entry, values, self.rounds),),
                "seeds": self.search.seeds,
                "search": None,
                "metrics": _needed(self.suite, registry, column),
                "evaluation": EvaluationConfig(every=self.rung, batch_size=usual),
                "checkpoint_every": self.rung if self.search.prune else usual_points,
            }
        )
        words = [(path, axis_text(value)) for path, value in values.items()]
        try:
            cells = grid(suite, registry, blind=True)
        except ConfigError as error:
            tried = ", ".join(f"{path} {value}" for path, value in words)
            raise ConfigError(f"{error} Tried by the search: {tried}.") from None
        axes = (*self.axes, *words)
        return [replace(cell, run=replace(cell.run, axes=axes)) for cell in cells]


def _ends(values: Range | tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the ends of a range, or what a list holds."""
    return (values.low, values.high) if isinstance(values, Range) else values


def with_values(
    entry: ListedStrategy, values: Values, rounds: int | None = None
) -> ListedStrategy:
    """Return a strategy with other values of what was searched."""
    own: dict[str, Any] = {
        "training": dict(entry.training),
        "strategy": dict(entry.options),
    }
    if any(f"training.{key}" in values for key in AMOUNTS):
        own["training"] = without_amounts(own["training"])
    for path, value in values.items():
        _put(own, path.split("."), value)
    changed = {"options": own["strategy"], "training": own["training"], "search": {}}
    if rounds is not None:
        changed["rounds"] = rounds
    return entry.model_copy(update=changed)


def _put(inner: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    """Set a value below keys; mappings on the way are copied."""
    for key in keys[:-1]:
        inner[key] = dict(inner.get(key) or {})
        inner = inner[key]
    inner[keys[-1]] = value


def studies_of(suite: Suite, registry: Registry) -> list[Study]:
    """Return each setting of a suite with each of its strategies, in its order."""
    return [
        Study(there, axes, entry, _space(registry, there, entry))
        for axes, point in suite.points
        for there in _settings(point, registry)
        for entry in there.strategies
    ]


def sources_of(studies: Sequence[Study], where: str) -> list[Study]:
    """Return for each study the one whose values its strategy takes: often itself.

    Args:
        studies: Of all settings of a suite, in its order.
        where: How messages call the suite.

    Raises:
        ConfigError: If the first data set of a family is not in the suite, and another
            of it is.
    """
    first: dict[object, Study] = {}
    for study in studies:
        # Settings are in order: of several partitions, the first one stays.
        first.setdefault(_family_key(study, study.dataset), study)
    sources = []
    for study in studies:
        family = next((f for f in study.search.families if study.dataset in f), None)
        source = study if family is None else first.get(_family_key(study, family[0]))
        if source is None:
            assert family is not None, "what is in no family is its own source"
            raise ConfigError(
                f"{where}: search.families: {study.dataset} takes what is chosen on "
                f"{family[0]}, which is not in the suite. Add it to the data sets, or "
                "leave the search out with --set search=null and give values by --set."
            )
        sources.append(source)
    return sources


def _family_key(study: Study, dataset: str) -> object:
    """Return what studies of one strategy share, apart from data set and partition."""
    there = study.suite
    mix, shift = (str(one) for one in (there.models[0].plain(), there.shifts[0]))
    return (study.axes, dataset, shift, mix, study.entry.label)


def _space(registry: Registry, suite: Suite, entry: ListedStrategy) -> Space:
    assert suite.search is not None, "only what is searched has studies"
    return space_of(registry, suite.search, entry.name, entry.search)


def _settings(suite: Suite, registry: Registry) -> list[Suite]:
    """Return a suite for each setting of one without axes."""
    product = itertools.product(
        spread(registry, "datasets", suite.datasets),
        spread(registry, "partitioners", suite.partitions),
        suite.shifts,
        spread_mixes(registry, suite.models),
    )
    strategies = tuple(spread_strategies(registry, suite.strategies))
    return [
        suite.model_copy(
            update={
                "datasets": (dataset,),
                "partitions": (partition,),
                "shifts": (shift,),
                "models": (mix,),
                "strategies": strategies,
            }
        )
        for dataset, partition, shift, mix in product
    ]


def tuned_grid(
    suite: Suite, registry: Registry, chosen: Sequence[tuple[Study, Values]]
) -> list[Cell]:
    """Return the cells of a suite with the values that were chosen.

    Args:
        suite: The whole one; its seeds are those of the cells.
        registry: Where names are looked up.
        chosen: All of its studies, in their order, each with its values.
    """
    by_setting: dict[int, list[tuple[Study, Values]]] = {}
    for study, values in chosen:
        by_setting.setdefault(id(study.suite), []).append((study, values))
    cells: list[Cell] = []
    for pairs in by_setting.values():
        first = pairs[0][0]
        entries = tuple(with_values(study.entry, values) for study, values in pairs)
        own = {"strategies": entries, "seeds": suite.seeds}
        there = first.suite.model_copy(update=own)
        cells += [
            replace(cell, run=replace(cell.run, axes=first.axes))
            for cell in grid(there, registry)
        ]
    return arranged(cells, suite)


def objective(suite: Suite, registry: Registry) -> Column:
    """Return the column by which values are chosen.

    Raises:
        ConfigError: If the search names one that is not measured on validation images.
    """
    assert suite.search is not None, "only what is searched has an objective"
    metrics = metrics_of(registry, suite.metrics, suite.where)
    declared = columns_of(registry, metrics, suite.where, validated=True)
    known = {one.name: one for one in declared if one.half == VALIDATION}
    asked = f"{VALIDATION}_{suite.search.metric}"
    if asked not in known:
        names = [name.removeprefix(f"{VALIDATION}_") for name in known]
        raise ConfigError(
            f"{suite.where}: search.metric: found {suite.search.metric!r}, which is not "
            f"measured on validation images.{suggestion(suite.search.metric, names)} "
            f"These are: {listing(names)}."
        )
    return known[asked]


def _needed(suite: Suite, registry: Registry, column: Column) -> tuple[Any, ...]:
    """Return the metrics of a suite without those that the choice does not hang on."""
    kept = []
    for entry in suite.metrics:
        metric = built(registry, metrics_of(registry, [entry], suite.where))
        try:
            names = MetricSet(metric, validated=True).columns
        except ConfigError:
            continue  # it reads what another one measures: rounds, not models
        if metric and column.name in names and column.name not in _usual():
            kept.append(entry)
    return tuple(kept)


def _usual() -> frozenset[str]:
    return frozenset(MetricSet(validated=True).columns)
