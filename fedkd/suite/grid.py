"""From a suite to its cells: every run, with its whole configuration and its hash."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fedkd._version import __version__
from fedkd.base.runname import Axes, RunName, with_alpha
from fedkd.config import build
from fedkd.data.shift import NO_SHIFT, ShiftConfig
from fedkd.errors import ConfigError
from fedkd.hookspecs import GROUP
from fedkd.metrics.columns import Column
from fedkd.ops.training import TrainingConfig
from fedkd.plugins.options import Resolved, resolve
from fedkd.plugins.registry import Registry
from fedkd.simulation.faults.config import NO_FAULTS
from fedkd.simulation.protocol import AcceptConfig, Protocol
from fedkd.suite.axes import require_few
from fedkd.suite.entries import AMOUNTS, Listed, ListedStrategy, without_amounts
from fedkd.suite.metrics import columns_of, fault_columns, metrics_of
from fedkd.suite.models import Models, models_of
from fedkd.suite.public import Public, public_of, refuse_same
from fedkd.suite.sound import sound
from fedkd.suite.spread import spread, spread_mixes, spread_strategies
from fedkd.suite.suite import Suite

MOST_CELLS = 100_000
"""Cells of a suite at one point of its axes."""
TEST_FRACTION = "test_fraction"
"""The option of a data set that says which part of its test set is measured on."""


@dataclass(frozen=True)
class Parts:
    """What a run is put together from, with every option checked."""

    strategy: Resolved
    dataset: Resolved
    partition: Resolved
    models: Models
    protocol: Protocol
    metrics: Mapping[str, Resolved] = field(default_factory=dict)
    """What is measured beside accuracy, by label."""
    public: Public | None = None
    """Where public images come from; None without any."""

    @property
    def datasets(self) -> tuple[Resolved, ...]:
        """The data sets that the run reads, the clients' first."""
        other = None if self.public is None else self.public.dataset
        return (self.dataset,) if other is None else (self.dataset, other)

    shift: ShiftConfig = NO_SHIFT
    """How clients differ beside their labels."""
    validation: float | None = None
    """Share of every client's training images that is held out; None for none."""
    blind: bool = False
    """Whether nothing is measured on the test set, as in a trial of a search."""


@dataclass(frozen=True)
class Cell:
    """One run of a suite."""

    run: RunName
    """What it is called."""
    config_hash: str
    """16 hexadecimal digits; equal for equal ``config``."""
    run_id: str
    """Name of the run's folder."""
    checkpoint_every: int
    """Rounds between checkpoints; not part of ``config``: it changes no result."""
    parts: Parts = field(compare=False, repr=False)
    """What it is put together from."""
    config: Mapping[str, Any] = field(compare=False, repr=False)
    """Everything that can change the result, as plain values."""
    columns: tuple[Column, ...] = ()
    """Of the metrics beside accuracy."""
    pause_at: int | None = None
    """Round after which it waits to be gone on with; None for none. Not part of
    ``config``."""


def grid(suite: Suite, registry: Registry, blind: bool = False) -> list[Cell]:
    """Return the cells of ``suite``; options are checked, defaults filled in.

    The order is that of the suite, seeds outside strategies, so that the strategies of
    one setting can be compared as early as possible.

    Args:
        suite: What is run; its search is not.
        registry: Where names are looked up.
        blind: Whether nothing is measured on the test set, but on validation images.

    Raises:
        ConfigError: Naming the suite and the path of what cannot be used.
    """
    points = sound(suite, registry).points
    cells = [cell for axes, at in points for cell in _at(at, registry, axes, blind)]
    return arranged(cells, suite)


def arranged(cells: list[Cell], suite: Suite) -> list[Cell]:
    """Return the cells of all points of a suite's axes in their order.

    Raises:
        ConfigError: If an axis changes nothing for a strategy.
    """
    if not suite.axes:
        return cells
    # The cells of a data set stay together: only one is kept in memory.
    places = {name: i for i, name in enumerate(dict.fromkeys(map(_data_of, cells)))}
    cells.sort(key=lambda cell: places[_data_of(cell)])
    return _without_twins(cells, suite.where)


def _data_of(cell: Cell) -> str:
    return cell.run.dataset


def _without_twins(cells: Sequence[Cell], where: str) -> list[Cell]:
    """Return the cells without those of a strategy that has rounds of its own.

    Raises:
        ConfigError: If another axis changes nothing for a strategy.
    """
    first: dict[str, Cell] = {}
    for cell in cells:
        other = first.setdefault(cell.run_id, cell)
        pairs = zip(other.run.axes, cell.run.axes, strict=True)
        same = [one[0] for one, two in pairs if one != two and one[0] != "rounds"]
        if same:
            raise ConfigError(
                f"{where}: {same[0]} is an axis, and changes nothing for the strategy "
                f"{cell.run.strategy!r}, which has one of its own. Remove one of both."
            )
    return list(first.values())


def _at(suite: Suite, registry: Registry, axes: Axes, blind: bool) -> list[Cell]:
    """Return the cells of a suite at one point of its axes."""
    where = suite.where
    datasets = listed(registry, "datasets", "datasets", suite.datasets, where)
    partitions = listed(registry, "partitioners", "partitions", suite.partitions, where)
    _no_twins("shifts", [shift.model_dump() for shift in suite.shifts], where)
    mixes = _mixes(registry, suite)
    strategies = _strategies(registry, suite)
    _require_few(suite, datasets, partitions, mixes, strategies)
    metrics = metrics_of(registry, suite.metrics, where)
    public = _public(registry, suite, datasets)
    columns = columns_of(registry, metrics, where, suite.validation is not None)
    cells = [
        _cell(
            registry,
            suite,
            _Called(label, named, dealt, axes),
            Parts(
                strategy,
                dataset,
                partition,
                mix,
                protocol,
                metrics,
                public,
                shift,
                suite.validation,
                blind,
            ),
            seed,
        )
        for (named, dataset), (dealt, partition), shift, mix in itertools.product(
            datasets, partitions, suite.shifts, mixes
        )
        for seed in suite.seeds
        for label, strategy, protocol in strategies
    ]
    return [replace(c, columns=(*columns, *fault_columns(suite))) for c in cells]


def _public(
    registry: Registry, suite: Suite, datasets: Sequence[tuple[str | None, Resolved]]
) -> Public | None:
    public = public_of(registry, suite.public, suite.where)
    for _, dataset in datasets:
        refuse_same(public, dataset, suite.where)
    return public


def _require_few(suite: Suite, *listed: Sequence[Any]) -> None:
    every = (*listed, suite.shifts, suite.seeds)
    require_few(map(len, every), suite.where, MOST_CELLS)


def _mixes(registry: Registry, suite: Suite) -> list[Models]:
    where, listed = suite.where, spread_mixes(registry, suite.models)
    mixes = [models_of(registry, mix, suite.clients, where) for mix in listed]
    _no_twins("models", [mix.plain() for mix in mixes], where)
    _no_twin_labels("models", [mix.label for mix in listed if mix.label], where)
    return mixes


def _strategies(
    registry: Registry, suite: Suite
) -> list[tuple[str, Resolved, Protocol]]:
    entries = spread_strategies(registry, suite.strategies)
    _no_twin_labels("strategies", [entry.label for entry in entries], suite.where)
    return [_strategy(registry, suite, entry) for entry in entries]


def _strategy(
    registry: Registry, suite: Suite, entry: ListedStrategy
) -> tuple[str, Resolved, Protocol]:
    """Return the label of a strategy, the strategy and its protocol."""
    where = f"{suite.where}: strategies.{entry.label}"
    resolved = resolve(registry, "strategies", entry.name, entry.options, where)
    protocol = suite.protocol(
        rounds=entry.rounds or suite.rounds,
        training=_training(suite.training, entry.training, where),
    )
    try:
        protocol.clients_per_round()
    except ConfigError as error:
        raise ConfigError(f"{suite.where}: {error}") from None
    return entry.label, resolved, protocol


def _training(
    usual: TrainingConfig, own: Mapping[str, Any], where: str
) -> TrainingConfig:
    if not own:
        return usual
    merged = usual.model_dump()
    if any(key in own for key in AMOUNTS):
        merged = without_amounts(merged)
    return build(TrainingConfig, {**merged, **own}, f"{where}.training")


def listed(
    registry: Registry, kind: str, key: str, entries: Sequence[Listed], where: str
) -> list[tuple[str | None, Resolved]]:
    """Return labels and things; the label is None where the suite gives none."""
    things = [
        (entry.label, resolve(registry, kind, entry.name, entry.options, at))
        for entry in spread(registry, kind, entries)
        for at in [f"{where}: {key}.{entry.name}"]
    ]
    _no_twins(key, [thing.plain() for _, thing in things], where)
    _no_twin_labels(key, [label for label, _ in things if label], where)
    return things


def _no_twin_labels(key: str, labels: Sequence[str], where: str) -> None:
    twins = [label for label in labels if labels.count(label) > 1]
    if twins:
        raise ConfigError(
            f"{where}: {key}: the label {twins[0]!r} comes twice. Give one of them another."
        )


@dataclass(frozen=True)
class _Called:
    """What a suite calls a cell's strategy, data set and partition, and where it is."""

    strategy: str
    dataset: str | None
    partition: str | None
    axes: Axes


def _no_twins(key: str, items: Sequence[Any], where: str) -> None:
    seen: set[str] = set()
    for item in items:
        text = canonical(item)
        if text in seen:
            raise ConfigError(
                f"{where}: {key}: {text} is listed twice, defaults included. Remove one."
            )
        seen.add(text)


def _cell(
    registry: Registry, suite: Suite, called: _Called, parts: Parts, seed: int
) -> Cell:
    dataset, partition = parts.dataset, parts.partition
    config = {
        "strategy": parts.strategy.plain(),
        "dataset": dataset.plain(),
        "partition": partition.plain(),
        **parts.models.plain(),
        "protocol": _plain_protocol(parts.protocol),
        **_plain_metrics(parts.metrics),
        **({} if parts.public is None else {"public": parts.public.plain()}),
        **_plain_shift(parts.shift),
        **({} if parts.validation is None else {"validation": parts.validation}),
        **({"blind": True} if parts.blind else {}),
        "seed": seed,
        "plugins": _third_party(registry, parts),
        "fedkd": __version__,
    }
    run = _name(suite, called, parts, seed)
    digest = hashlib.sha256(canonical(config).encode()).hexdigest()[:16]
    split = with_alpha(partition.name, split_of(partition)[1], "-a")
    return Cell(
        run=run,
        config_hash=digest,
        run_id=f"{run.strategy}-{dataset.name}-{split}-s{seed}-{digest[:8]}",
        checkpoint_every=suite.checkpoint_every,
        parts=parts,
        config=config,
    )


def _name(suite: Suite, called: _Called, parts: Parts, seed: int) -> RunName:
    """Return what a cell is called in results."""
    partition = parts.partition
    split = (called.partition, None) if called.partition else split_of(partition)
    return RunName(
        suite=suite.name,
        strategy=called.strategy,
        dataset=shown_data(parts.dataset, parts.shift, called.dataset),
        partition=split[0],
        alpha=split[1],
        models=parts.models.shown,
        clients=suite.clients,
        rounds=parts.protocol.rounds,
        seed=seed,
        axes=called.axes,
    )


def split_of(partition: Resolved) -> tuple[str, float | None]:
    """Return the two columns of results that say how data was split, without a label."""
    alpha = partition.options.get("alpha")
    shown = partition.shown(leave_out=("alpha",))
    return shown, float(alpha) if isinstance(alpha, int | float) else None


def _plain_protocol(protocol: Protocol) -> dict[str, Any]:
    plain = protocol.model_dump(mode="json")
    # Younger than the first results: runs in float32 keep the names that they have.
    if plain["precision"] == "fp32":
        del plain["precision"]
    if protocol.accept == AcceptConfig():
        del plain["accept"]
    del plain["faults"], plain["clock"]
    if protocol.faults != NO_FAULTS:
        plain["faults"] = protocol.faults.plain()
    if protocol.clock is not None:
        plain["clock"] = protocol.clock.model_dump(mode="json", exclude_none=True)
    return plain


def _plain_metrics(metrics: Mapping[str, Resolved]) -> dict[str, Any]:
    # Younger than the first results too: runs of accuracy alone keep their names.
    plain = {label: metric.plain() for label, metric in metrics.items()}
    return {"metrics": plain} if plain else {}


def _plain_shift(shift: ShiftConfig) -> dict[str, Any]:
    # Younger than the first results too: runs without a shift keep their names.
    return {} if shift.is_none else {"shift": shift.model_dump(mode="json")}


def shown_data(dataset: Resolved, shift: ShiftConfig, label: str | None) -> str:
    """Return what tables call the data: ``digits with rotation 0.5``."""
    shown = dataset.shown()
    if label is not None:
        part = dataset.changed.get(TEST_FRACTION)
        # What accuracy is of must be said, whatever the set is called.
        shown = label if part is None else f"{label}[{TEST_FRACTION}={part}]"
    return shown if shift.is_none else f"{shown} with {shift.shown}"


def canonical(value: Any) -> str:
    """Return the one JSON text of a plain value: equal values, equal texts."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _third_party(registry: Registry, parts: Parts) -> dict[str, str]:
    """Return plug-in and version of every entry used that fedkd does not bring itself."""
    used = [
        ("strategies", parts.strategy),
        *(("datasets", dataset) for dataset in parts.datasets),
        ("partitioners", parts.partition),
        *(("models", model) for model in parts.models.every),
        *(("metrics", metric) for metric in parts.metrics.values()),
    ]
    owners = {}
    for kind, item in used:
        entry = registry.entries(kind)[item.name]
        if entry.owner != GROUP:
            owners[f"{kind}.{item.name}"] = f"{entry.owner} {entry.version}"
    return dict(sorted(owners.items()))
