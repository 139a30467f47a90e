"""What is measured after a round: the global model, the clients', and named others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from torch import Tensor, nn

from fedkd.errors import ContractError
from fedkd.metrics.base import Predictions
from fedkd.metrics.classification import Accuracy
from fedkd.metrics.metric_set import ACCURACY, BY_CLIENT, MetricSet, Value, mean
from fedkd.simulation.evaluate import predictions, reestimated
from fedkd.simulation.sides import Sides
from fedkd.strategy import Round, Strategy

Scores = dict[str, Value]
"""What one model scores on one test set, by the label of the metric."""


@dataclass(frozen=True)
class Measured:
    """What a round's models are worth, and the bytes that measuring itself cost."""

    values: Mapping[str, Any] = field(default_factory=dict)
    """By key of metrics.jsonl: ``global_accuracy``, ``local_accuracy`` and so on."""
    others: Mapping[str, float] = field(default_factory=dict)
    """Accuracy, in percent, of whatever else the strategy names."""
    bytes_up: int = 0
    bytes_down: int = 0


def measure(
    strategy: Strategy[Any, Any, Any],
    state: Any,
    sides: Sides,
    round: Round,
    name: str,
    asked: MetricSet,
) -> Measured:
    """Measure the strategy's predictors: one forward pass a model and test set.

    Logits are held, where they were computed, until all metrics have had them; they are
    put together and moved only if a metric reads them.

    Raises:
        ContractError: If there is nothing to measure.
        DivergedError: If a predictor gives logits that are not finite.
    """
    federation, protocol = sides.federation, sides.protocol
    data, size = federation.data, protocol.evaluation.batch_size
    models = dict(strategy.predictors(state, sides.server()))
    up = down = 0
    if protocol.buffers == "reestimate" and "global" in models:
        model = models["global"]
        shards = [federation.clients[k] for k in round.clients]
        models["global"] = reestimated(model, shards, protocol.training.batch_size)
        down = len(shards) * _bytes(list(model.state_dict().values()))
        up = len(shards) * _bytes(list(model.buffers()))
    whole: Predictions | None = None
    others = {}
    for title, model in models.items():
        said = predictions(model, data, size)
        if title == "global":
            whole = said
        else:
            others[title] = Accuracy().of_test_set(said)
    everywhere, local = _of_clients(strategy, state, sides, whole, name, asked)
    return Measured(_values(everywhere, local, asked), others, up, down)


def _of_clients(
    strategy: Strategy[Any, Any, Any],
    state: Any,
    sides: Sides,
    whole: Predictions | None,
    name: str,
    asked: MetricSet,
) -> tuple[list[Scores], list[Scores]]:
    """Return scores on the whole test set, and each client's on its own shard of it.

    A client predicts with its personal model if it has one, else with the global one.
    The whole test set is the global model's; where no model is global, each client's.
    """
    federation, protocol = sides.federation, sides.protocol
    data, size = federation.data, protocol.evaluation.batch_size
    everywhere = [] if whole is None else [asked.of_test_set(whole)]
    local = []
    for k, shard in enumerate(federation.test_shards):
        own = _personal(strategy, state, sides, k)
        if own is not None and whole is not None:
            local.append(asked.of_test_set(predictions(own, data, size, shard)))
            continue
        mine = whole if own is None else predictions(own, data, size)
        if mine is None:
            raise ContractError(
                f"{name} offers neither a 'global' predictor nor a personal model for "
                f"client {k}; return one of them."
            )
        local.append(asked.of_test_set(mine.part(shard)))
        if whole is None:
            everywhere.append(asked.of_test_set(mine))
    return everywhere, local


def _values(
    everywhere: Sequence[Scores], local: Sequence[Scores], asked: MetricSet
) -> dict[str, Any]:
    """Return the means over models, and what is said of the clients together."""
    values: dict[str, Any] = {}
    for label in local[0]:
        values[f"global_{label}"] = mean([scores[label] for scores in everywhere])
        values[f"local_{label}"] = mean([scores[label] for scores in local])
    by_client = [cast("float", scores[ACCURACY]) for scores in local]
    values[BY_CLIENT] = dict(enumerate(by_client))
    return values | asked.of_clients(by_client)


def _personal(
    strategy: Strategy[Any, Any, Any], state: Any, sides: Sides, k: int
) -> nn.Module | None:
    client = sides.client(k, sides.protocol.training)
    return strategy.personal(state, client)


def _bytes(tensors: list[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)
