"""A second network at a client: small, shared, trained beside the client's own.

The server's model is the shared one, whatever the clients' models are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from fedkd.algorithms.averaging import private_buffers
from fedkd.ops.averaging import buffer_entries
from fedkd.ops.training import Objective
from fedkd.party import ModelSpec
from fedkd.payload import Weights
from fedkd.strategy import Client, Server, copy_weights, read_weights

_BUFFERS = "shared buffers"
"""Where a client keeps the shared network's buffers if they stay with it."""


@dataclass(frozen=True)
class Shared:
    """A network that all clients train, as the server keeps and sends it."""

    model: ModelSpec
    """Its architecture, the server's; a text in the header of the message."""
    weights: Weights
    """Its parameters and shared buffers."""


def companion(client: Client, model: ModelSpec, weights: Weights) -> nn.Module:
    """Return the shared network at a client, with the buffers that stay with it.

    Args:
        client: Builds it.
        model: Its architecture.
        weights: What it holds.
    """
    # Its weights are drawn and not used: that must not move the client's stream.
    with torch.random.fork_rng(devices=[]):
        network = client.build(model.name, **model.options)
    copy_weights(weights, network)
    kept: Mapping[str, Tensor] = client.memory.get(_BUFFERS, {})
    copy_weights(kept, network)
    return network


def sendable(client: Client, network: nn.Module) -> dict[str, Tensor]:
    """Return the shared network's weights but for buffers that stay; keep those."""
    weights = read_weights(network)
    if client.buffers == "local":
        stay = sorted(buffer_entries(network))
        client.memory[_BUFFERS] = {name: weights.pop(name) for name in stay}
    return weights


def shared_predictor(server: Server, weights: Weights) -> dict[str, nn.Module]:
    """Return the shared network as the global model, unless part of it stays."""
    return {} if private_buffers(server) else {"global": server.load(weights)}


def train_together(
    client: Client, networks: Mapping[str, nn.Module], objective: Objective
) -> None:
    """Train the client's network and the shared one, each with its gradients clipped apart.

    Args:
        client: Whose data and settings are used.
        networks: These two by name, and what else is trained that sees no image; the
            objective is given them as a ``ModuleDict``.
        objective: Of all of them: the first part is logged as the client's loss.
    """
    training = client.training
    bound = training.clip_norm

    def clipped(together: nn.Module) -> None:
        for network in members(together).values():
            nn.utils.clip_grad_norm_(network.parameters(), cast(float, bound))

    report = client.train(
        objective=objective,
        model=nn.ModuleDict(dict(networks)),
        gradient=None if bound is None else clipped,
        training=training.model_copy(update={"clip_norm": None}),
    )
    client.count_examples(report.examples)  # each image goes through both


def members(together: nn.Module) -> dict[str, Any]:
    """Return the networks that are trained together, by name."""
    return dict(together.named_children())
