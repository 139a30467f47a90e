"""The metrics that a run is asked for: checked together, and taken in their places."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor

from fedkd.base.forms import require
from fedkd.base.runname import AXIS_COLUMNS
from fedkd.errors import (
    ConfigError,
    ContractError,
    counted,
    listing,
    raised_in,
    suggestion,
)
from fedkd.metrics.base import PLACES, Line, Metric, Predictions
from fedkd.metrics.classification import Accuracy
from fedkd.metrics.columns import Column

Value: TypeAlias = float | list[float | None] | None
"""One number, one a class, or nothing that is defined."""

ACCURACY = "accuracy"
"""The metric that every run has; the clients' values of it go to metrics over clients."""
BY_CLIENT = f"local_{ACCURACY}_by_client"
"""Key of metrics.jsonl: each client's accuracy on its own test shard, in percent."""
TAKEN = AXIS_COLUMNS | {
    "suite", "strategy", "dataset", "partition", "alpha", "models", "clients", "rounds",
    "seed", "status", "reason", "bytes_up", "bytes_down", "client_examples",
    "server_examples", "personal_examples", "seconds", "seconds_local", "seconds_data",
    "seconds_transport", "seconds_server", "seconds_evaluation", "seconds_bookkeeping",
    "peak_memory_bytes", "split_hash", "config_hash", "run_id", "precision", "engine",
    "notes", "global_of", "round", "train_loss", "phases", "measured", "logged", BY_CLIENT,
    "rejected", "faults", "attack_success", "simulated_seconds",
    "faults_drop", "faults_straggle", "faults_late", "faults_corrupt", "faults_duplicate",
    "faults_label_flip", "faults_backdoor", "faults_availability", "faults_arrived",
    "faults_outdated",
}  # fmt: skip
"""Names in results.csv and metrics.jsonl that mean something else."""


class MetricSet:
    """What a run measures: accuracy, and what else it is asked for, by label."""

    def __init__(
        self, metrics: Mapping[str, Metric] | None = None, validated: bool = False
    ) -> None:
        """Check the metrics.

        Args:
            metrics: By label, which names their columns: lower case with underscores.
            validated: Whether what is measured after a round is also measured on
                validation images, in columns of their own.

        Raises:
            ConfigError: If these are no metrics by label, a label cannot name a column,
                or a metric reads what is not measured.
            ContractError: If a metric does not implement one of its four methods.
        """
        _require_metrics({} if metrics is None else metrics)
        self.metrics: dict[str, Metric] = {ACCURACY: Accuracy(), **(metrics or {})}
        self.columns: dict[str, Column] = {}
        """What is measured, by name; accuracy first."""
        if type(self.metrics[ACCURACY]) is not Accuracy:
            raise ConfigError(
                f"metrics.{ACCURACY}: is always measured; give this metric another label."
            )
        self._at: dict[str, dict[str, Metric]] = {place: {} for place in PLACES}
        for label, metric in self.metrics.items():
            self._at[metric.place()][label] = metric
            for column in metric.columns(label):
                _check_name(column.name, label, self.columns)
                self.columns[column.name] = column
        for column in list(self.columns.values()) if validated else ():
            if column.scope != "rounds" and column.name not in self._of_trained:
                more = column.on_validation()
                _check_name(more.name, more.name, self.columns)
                self.columns[more.name] = more
        for label, metric in self.metrics.items():
            self._check_reads(label, metric)
            metric.check(self.columns)

    def of_test_set(self, predictions: Predictions) -> dict[str, Value]:
        """Measure a model on a test set; by label."""
        return self._taken("of_test_set", predictions)

    def of_clients(self, accuracies: Sequence[float]) -> dict[str, Value]:
        """Reduce the clients' accuracies, in percent; by label. None of no client."""
        if not accuracies:
            return dict.fromkeys(self._at["of_clients"])
        return self._taken("of_clients", accuracies)

    @property
    def _of_trained(self) -> set[str]:
        """The columns of the models as clients trained them, on their test shards."""
        metrics = self._at["of_trained"]
        return {c.name for label in metrics for c in metrics[label].columns(label)}

    @property
    def asks_trained(self) -> bool:
        """Whether a metric is of the models as clients trained them."""
        return bool(self._at["of_trained"])

    def of_trained(
        self, accuracies: Sequence[float], sizes: Sequence[int]
    ) -> dict[str, Value]:
        """Reduce what trained models are worth, in percent; by label. None of no client."""
        if not accuracies:
            return dict.fromkeys(self._at["of_trained"])
        return self._taken("of_trained", accuracies, sizes)

    def of_rounds(self, lines: Sequence[Line]) -> dict[str, Value]:
        """Reduce the lines of the rounds so far; by label."""
        return self._taken("of_rounds", lines, self.columns)

    def _taken(self, place: str, *given: Any) -> dict[str, Value]:
        """Return what the metrics of a place make of what they are given; by label."""
        values: dict[str, Value] = {}
        for label, metric in self._at[place].items():
            with raised_in(f"metric {label!r}"):
                value = plain(getattr(metric, place)(*given), label)
                _require_shape(value, label, place, *given)
                values[label] = value
        return values

    def _check_reads(self, label: str, metric: Metric) -> None:
        for name in metric.reads():
            column = self.columns.get(name)
            if column is None or not column.by_round:
                known = [c.name for c in self.columns.values() if c.by_round]
                raise ConfigError(
                    f"metrics.{label}: reads {name!r}, which this run does not measure."
                    f"{suggestion(name, known)} It measures {listing(known)}; add "
                    "another to its metrics."
                )


def _require_metrics(metrics: Mapping[str, Metric]) -> None:
    """Refuse what is no mapping of labels to metrics."""
    require(metrics, (Mapping,), "metrics", "a mapping of labels to metrics")
    for label, metric in metrics.items():
        made = f"a metric, as fedkd.load_registry().metric({label!r})[0] makes one"
        require(metric, (Metric,), f"metrics.{label}", made)


def _check_name(name: str, label: str, columns: Mapping[str, Column]) -> None:
    if not re.fullmatch(r"[a-z0-9]+(_[a-z0-9]+)*", label):
        raise ConfigError(
            f"metrics.{label}: found a label that is not lower-case words joined by "
            "underscores; give the metric one like 'macro_f1'."
        )
    if name in TAKEN or name in columns:
        raise ConfigError(
            f"metrics.{label}: the name {name!r} is taken; give the metric another label."
        )


def plain(value: Any, label: str = "") -> Value:
    """Return what a metric has measured as JSON has it; what is not finite is None.

    Raises:
        ContractError: If it is neither a number, nor a sequence of them, nor None.
    """
    if isinstance(value, Tensor | np.ndarray):
        value = value.tolist()
    if isinstance(value, str) or not isinstance(value, Sequence):
        return _number(value, label)
    return [_number(one, label) for one in value]


def _require_shape(value: Value, label: str, place: str, given: Any, *_: Any) -> None:
    """Refuse several numbers where there is one, or that are not one for each class."""
    if not isinstance(value, list):
        return
    if place != "of_test_set":
        raise ContractError(
            f"metric {label!r} returned {value!r}; expected one number, or None: {place} "
            "reduces what it is given."
        )
    if len(value) != given.num_classes:
        raise ContractError(
            f"metric {label!r} returned {counted(len(value), 'number')}; expected one, or "
            f"one for each of {given.num_classes} classes."
        )


def _number(value: Any, label: str) -> float | None:
    if value is None:
        return None
    try:
        if isinstance(value, str):
            raise TypeError
        number = value if isinstance(value, int) else float(value)
    except (TypeError, ValueError):
        raise ContractError(
            f"metric {label!r} returned {value!r}; expected a number, one for each "
            "class, or None."
        ) from None
    return number if math.isfinite(number) else None


def mean(values: Sequence[Value]) -> Value:
    """Return the mean of what several models have, class by class where it is by class.

    What is not defined is left out; None if nothing is defined.
    """
    defined = [value for value in values if value is not None]
    if not defined:
        return None
    by_class = [value for value in defined if isinstance(value, list)]
    if by_class:
        columns = zip(*by_class, strict=True)
        means = (mean(column) for column in columns)
        return [one if isinstance(one, float | int) else None for one in means]
    numbers = [value for value in defined if not isinstance(value, list)]
    return sum(numbers) / len(numbers)
