"""What is measured after a round: the global model, the clients', and named others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from fedkd.errors import ContractError
from fedkd.simulation.evaluate import correct, percent, reestimated
from fedkd.simulation.sides import Sides
from fedkd.strategy import Round, Strategy


@dataclass(frozen=True)
class Measured:
    """Accuracies in percent, and the bytes that measuring itself cost."""

    accuracies: dict[str, float] = field(default_factory=dict)
    """``global``, ``local`` and whatever else the strategy names."""
    bytes_up: int = 0
    bytes_down: int = 0


def measure(
    strategy: Strategy[Any, Any, Any],
    state: Any,
    sides: Sides,
    round: Round,
    name: str,
) -> Measured:
    """Measure the strategy's predictors on the test set.

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
    hits = {title: correct(model, data, size) for title, model in models.items()}
    accuracies = {title: percent(found) for title, found in hits.items()}
    accuracies |= _of_clients(strategy, state, sides, hits.get("global"), name)
    return Measured(accuracies, up, down)


def _of_clients(
    strategy: Strategy[Any, Any, Any],
    state: Any,
    sides: Sides,
    hits: Tensor | None,
    name: str,
) -> dict[str, float]:
    """Return the mean local accuracy; the mean global one too where no model is global.

    A client predicts with its personal model if it has one, else with the global one,
    on its own shard of the test set.
    """
    federation, protocol = sides.federation, sides.protocol
    data, size = federation.data, protocol.evaluation.batch_size
    local, everywhere = [], []
    for k, shard in enumerate(federation.test_shards):
        own = _personal(strategy, state, sides, k)
        if own is not None and hits is not None:
            local.append(percent(correct(own, data, size, shard)))
            continue
        mine = hits if own is None else correct(own, data, size)
        if mine is None:
            raise ContractError(
                f"{name} offers neither a 'global' predictor nor a personal model for "
                f"client {k}; return one of them."
            )
        local.append(percent(mine[shard]))
        if hits is None:
            everywhere.append(percent(mine))
    found = {"local": sum(local) / len(local)}
    if hits is None:
        found["global"] = sum(everywhere) / len(everywhere)
    return found


def _personal(
    strategy: Strategy[Any, Any, Any], state: Any, sides: Sides, k: int
) -> nn.Module | None:
    client = sides.client(k, sides.protocol.training)
    return strategy.personal(state, client)


def _bytes(tensors: list[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)
