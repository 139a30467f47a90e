"""From a suite to its cells: every run, with its whole configuration and its hash."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fedkd._version import __version__
from fedkd.base.runname import RunName, with_alpha
from fedkd.config import build
from fedkd.data.shift import NO_SHIFT, ShiftConfig
from fedkd.errors import ConfigError
from fedkd.hookspecs import GROUP
from fedkd.metrics.columns import Column
from fedkd.ops.training import TrainingConfig
from fedkd.plugins.options import Resolved, resolve
from fedkd.plugins.registry import Registry
from fedkd.simulation.protocol import Protocol
from fedkd.suite.entries import ListedStrategy
from fedkd.suite.metrics import columns_of, metrics_of
from fedkd.suite.models import Models, models_of
from fedkd.suite.public import Public, public_of, refuse_same
from fedkd.suite.suite import Suite


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


def grid(suite: Suite, registry: Registry) -> list[Cell]:
    """Return the cells of ``suite``; options are checked, defaults filled in.

    The order is that of the suite, seeds outside strategies, so that the strategies of
    one setting can be compared as early as possible.

    Raises:
        ConfigError: Naming the suite and the path of what cannot be used.
    """
    where = suite.where
    datasets = _listed(registry, "datasets", "datasets", suite.datasets, where)
    partitions = _listed(
        registry, "partitioners", "partitions", suite.partitions, where
    )
    _no_twins("shifts", [shift.model_dump() for shift in suite.shifts], where)
    mixes = [models_of(registry, mix, suite.clients, where) for mix in suite.models]
    _no_twins("models", [mix.plain() for mix in mixes], where)
    strategies = [_strategy(registry, suite, entry) for entry in suite.strategies]
    metrics = metrics_of(registry, suite.metrics, where)
    public = public_of(registry, suite.public, where)
    for dataset in datasets:
        refuse_same(public, dataset, where)
    columns = columns_of(registry, metrics, where)
    cells = [
        _cell(
            registry,
            suite,
            label,
            Parts(strategy, dataset, partition, mix, protocol, metrics, public, shift),
            seed,
        )
        for dataset, partition, shift, mix in itertools.product(
            datasets, partitions, suite.shifts, mixes
        )
        for seed in suite.seeds
        for label, strategy, protocol in strategies
    ]
    return [replace(cell, columns=columns) for cell in cells]


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
    if "local_steps" in own or "local_epochs" in own:
        # One amount of work replaces the other.
        merged.pop("local_steps")
        merged.pop("local_epochs")
    return build(TrainingConfig, {**merged, **own}, f"{where}.training")


def _listed(
    registry: Registry, kind: str, key: str, entries: Sequence[Any], where: str
) -> list[Resolved]:
    things = [
        resolve(
            registry, kind, entry.name, entry.options, f"{where}: {key}.{entry.name}"
        )
        for entry in entries
    ]
    _no_twins(key, [thing.plain() for thing in things], where)
    return things


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
    registry: Registry, suite: Suite, label: str, parts: Parts, seed: int
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
        "seed": seed,
        "plugins": _third_party(registry, parts),
        "fedkd": __version__,
    }
    alpha = partition.options.get("alpha")
    run = RunName(
        suite=suite.name,
        strategy=label,
        dataset=_shown(dataset, parts.shift),
        partition=partition.shown(leave_out=("alpha",)),
        alpha=float(alpha) if isinstance(alpha, int | float) else None,
        models=parts.models.shown,
        clients=suite.clients,
        rounds=parts.protocol.rounds,
        seed=seed,
    )
    digest = hashlib.sha256(canonical(config).encode()).hexdigest()[:16]
    split = with_alpha(partition.name, run.alpha, "-a")
    return Cell(
        run=run,
        config_hash=digest,
        run_id=f"{run.strategy}-{dataset.name}-{split}-s{seed}-{digest[:8]}",
        checkpoint_every=suite.checkpoint_every,
        parts=parts,
        config=config,
    )


def _plain_protocol(protocol: Protocol) -> dict[str, Any]:
    plain = protocol.model_dump(mode="json")
    # Younger than the first results: runs in float32 keep the names that they have.
    if plain["precision"] == "fp32":
        del plain["precision"]
    return plain


def _plain_metrics(metrics: Mapping[str, Resolved]) -> dict[str, Any]:
    # Younger than the first results too: runs of accuracy alone keep their names.
    plain = {label: metric.plain() for label, metric in metrics.items()}
    return {"metrics": plain} if plain else {}


def _plain_shift(shift: ShiftConfig) -> dict[str, Any]:
    # Younger than the first results too: runs without a shift keep their names.
    return {} if shift.is_none else {"shift": shift.model_dump(mode="json")}


def _shown(dataset: Resolved, shift: ShiftConfig) -> str:
    """Return what tables call the data: ``digits with rotation 0.5``."""
    return dataset.shown() if shift.is_none else f"{dataset.shown()} with {shift.shown}"


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
