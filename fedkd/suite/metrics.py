"""What a suite measures beside accuracy: from its list to metrics and their columns."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence

from fedkd.errors import ConfigError
from fedkd.metrics.base import Metric
from fedkd.metrics.columns import Column
from fedkd.metrics.metric_set import ACCURACY, MetricSet
from fedkd.plugins.options import Resolved, made, resolve
from fedkd.plugins.registry import Registry
from fedkd.simulation.faults.clock import SECONDS
from fedkd.simulation.faults.poisoning import ATTACK
from fedkd.simulation.protocol import Protocol
from fedkd.suite.entries import MetricEntry
from fedkd.suite.suite import Suite


def metrics_of(
    registry: Registry, entries: Sequence[MetricEntry], where: str
) -> dict[str, Resolved]:
    """Return what a suite measures beside accuracy, by label.

    Raises:
        ConfigError: If a name or an option cannot be used, or a label comes twice.
    """
    metrics: dict[str, Resolved] = {}
    for entry in entries:
        at = f"{where}: metrics.{entry.label or entry.name}"
        metric = resolve(registry, "metrics", entry.name, entry.options, at)
        label = entry.label or _label(metric)
        if label in metrics:
            raise ConfigError(
                f"{where}: metrics: the label {label!r} comes twice. Give one of them a "
                "'label' of its own."
            )
        metrics[label] = metric
    if ACCURACY in metrics and metrics[ACCURACY].name == ACCURACY:
        del metrics[ACCURACY]
    return metrics


def built(registry: Registry, metrics: Mapping[str, Resolved]) -> dict[str, Metric]:
    """Return new metrics, by label."""
    return {label: made(registry, "metrics", one) for label, one in metrics.items()}


def columns_of(
    registry: Registry,
    metrics: Mapping[str, Resolved],
    where: str,
    validated: bool = False,
) -> tuple[Column, ...]:
    """Return the columns that results.csv has of metrics, beside accuracy on the test set.

    Args:
        registry: Where metrics are registered.
        metrics: By label.
        where: How messages call the suite.
        validated: Whether there are validation images.

    Raises:
        ConfigError: If they do not fit together.
    """
    try:
        asked = MetricSet(built(registry, metrics), validated)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    own = MetricSet().columns
    return tuple(c for n, c in asked.columns.items() if c.shown and n not in own)


def every_column(
    registry: Registry, metrics: Mapping[str, Resolved], suite: Suite, where: str
) -> dict[str, Column]:
    """Return the columns of a whole suite by name, those of faults at any point too.

    Raises:
        ConfigError: As :func:`columns_of`.
    """
    columns = columns_of(registry, metrics, where, suite.validation is not None)
    faults = (fault_columns(point) for _, point in suite.points)
    return {one.name: one for one in itertools.chain(columns, *faults)}


def fault_columns(protocol: Protocol) -> tuple[Column, ...]:
    """Return the columns of results.csv where things go wrong, or time is simulated."""
    columns = []
    if protocol.faults.backdoor is not None:
        columns.append(SUCCESS)
    if protocol.clock is not None:
        columns.append(SIMULATED)
    return tuple(columns)


SUCCESS = Column(
    ATTACK,
    "Attack success",
    "The share of test images of other classes, with the patch of a backdoor, that are "
    "taken for its target: of the global model, or the mean over the clients' own.",
    "%",
    2,
    higher_is_better=False,
    shown=True,
    scope="global",
)
SIMULATED = Column(
    SECONDS,
    "Simulated seconds",
    "Over the rounds, the sum of what the slowest client that answered took to compute "
    "and to send, at the speeds of the suite's clock.",
    "s",
    1,
    higher_is_better=False,
    shown=True,
    scope="rounds",
)


def _label(metric: Resolved) -> str:
    """Return the name with the options that differ: ``rounds_to_80``."""
    values = [
        f"{value:g}".replace("-", "minus ") if isinstance(value, float) else str(value)
        for value in metric.changed.values()
    ]
    words = re.sub(r"[^a-z0-9]+", "_", " ".join(values).lower()).strip("_")
    return f"{metric.name}_{words}" if words else metric.name
