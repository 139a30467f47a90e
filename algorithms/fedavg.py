"""FedAvg: clients train, the server averages.

Paper: McMahan, Moore, Ramage, Hampson, Aguera y Arcas, "Communication-Efficient
    Learning of Deep Networks from Decentralized Data", AISTATS 2017, arXiv:1602.05629v4.
Algorithm: Algorithm 1 (FederatedAveraging), with local steps or local epochs.
Code: none by the authors.
Deviations: BatchNorm statistics, which the paper does not treat, follow the run's buffer
    policy; the mean runs over the round's clients, weighted by their sample counts. With
    ``aggregate`` other than ``plain``, clients hold nested sub-models, and each coordinate
    is averaged over those who hold it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from fedkd.algorithms.nested import Nested, nest
from fedkd.config import Config
from fedkd.ops.averaging import buffer_entries, weighted_average
from fedkd.ops.training import LossFunction
from fedkd.payload import Weights
from fedkd.strategy import Client, Requires, Round, Server, Strategy, read_weights

Aggregate = Literal["plain", "static", "rolling", "rolling-back", "random"]
"""Averages of one architecture, or of nested sub-models that hold such channels."""


class AverageConfig(Config):
    """How clients' weights become the server's."""

    aggregate: Aggregate = "plain"
    """``plain`` averages one architecture. Otherwise clients may have nested widths, and
    hold the first channels of the global model (HeteroFL), a window that moves up or down
    by one channel a round (FedRolex), or channels drawn in every round."""
    weights: Literal["examples", "uniform"] = "examples"
    """The weight of a client in the mean: its number of images (FedAvg), or 1."""

    def requires(self) -> Requires:
        """Return what this kind of average needs of the models."""
        if self.aggregate == "plain":
            return Requires(one_architecture=True)
        # What stays at a client fits only the channels that it always has.
        fixed = ("average", "local", "reestimate")
        moving = ("average", "reestimate")
        return Requires(
            nested_widths=True, buffers=fixed if self.aggregate == "static" else moving
        )

    def shares(self, ups: Mapping[int, Update]) -> dict[int, float]:
        """Return the weight of each client."""
        uniform = self.weights == "uniform"
        return {k: 1 if uniform else up.examples for k, up in ups.items()}


@dataclass(frozen=True)
class Global:
    """The server's state, and what it broadcasts."""

    weights: Weights
    """The global model: parameters and shared buffers; for a client, its sub-model."""
    nested: Nested | None = None
    """The sub-models of the clients; not sent, and None with ``aggregate: plain``."""


@dataclass(frozen=True)
class Update:
    """What a client sends back."""

    weights: Weights
    """The locally trained model, without what stays at the client."""
    examples: int
    """n_k, the client's number of training images."""


class FedAvg(Strategy[Global, Global, Update]):
    """Federated averaging."""

    requires = Requires(one_architecture=True)
    Config = AverageConfig
    config: AverageConfig

    def __init__(self, config: AverageConfig | None = None) -> None:
        super().__init__(config)
        self.requires = self.config.requires()

    def init(self, server: Server) -> Global:
        """Start from the initial weights (Algorithm 1: "initialize w_0")."""
        if self.config.aggregate == "plain":
            return Global(server.initial)
        return Global(server.initial, nest(server, self.config.aggregate))

    def broadcast(self, state: Global, client_id: int, round: Round) -> Global:
        """Send the global model, or the client's sub-model."""
        if state.nested is None:
            return state
        return Global(state.nested.broadcast(state.weights, client_id, round.index))

    def local(self, down: Global, client: Client) -> Update:
        """ClientUpdate of Algorithm 1."""
        return local_update(down.weights, client, private_buffers(client))

    def aggregate(
        self, state: Global, ups: Mapping[int, Update], server: Server, round: Round
    ) -> Global:
        """w_{t+1} = sum_k n_k w_k / sum_k n_k over the clients of the round."""
        del server
        shares = self.config.shares(ups)
        if state.nested is None:
            return Global({**state.weights, **average(ups, shares)})
        models = {k: up.weights for k, up in ups.items()}
        weights = state.nested.average(state.weights, models, shares, round.index)
        return Global(weights, state.nested)

    def predictors(self, state: Global, server: Server) -> Mapping[str, nn.Module]:
        """Measure the global model, unless part of it stays at the clients."""
        if private_buffers(server):
            return {}
        return {"global": server.load(state.weights)}

    def personal(self, state: Global, client: Client) -> nn.Module | None:
        """Under the buffer policy ``local``, a client has its own statistics."""
        private = private_buffers(client)
        if state.nested is None or not private:
            return own_model(state.weights, client, private)
        # Only static sub-models have statistics of their own: round 0 is any round.
        weights = state.nested.broadcast(state.weights, client.id, 0)
        return own_model(weights, client, private)


def private_buffers(party: Client | Server) -> frozenset[str]:
    """Return the entries that the buffer policy keeps at the clients."""
    return buffer_entries(party.model) if party.buffers == "local" else frozenset()


def local_update(
    weights: Weights,
    client: Client,
    private: frozenset[str] = frozenset(),
    loss: LossFunction | None = None,
) -> Update:
    """Train from ``weights`` and report; entries in ``private`` stay at the client."""
    recall(weights, client, private)
    client.train(loss)
    return report(client, private)


def recall(weights: Weights, client: Client, private: frozenset[str]) -> nn.Module:
    """Load the received weights and the client's own entries into its model."""
    client.load(weights)
    if private:
        first = {name: client.initial[name] for name in private}
        client.load(client.memory.get("private", first))
    return client.model


def report(client: Client, private: frozenset[str] = frozenset()) -> Update:
    """Store the private entries and return the others."""
    weights = read_weights(client.model)
    if private:
        client.memory["private"] = {name: weights.pop(name) for name in sorted(private)}
    return Update(weights, len(client.data))


def own_model(
    weights: Weights, client: Client, private: frozenset[str]
) -> nn.Module | None:
    """Return the model with the client's own entries; None if there are none."""
    return recall(weights, client, private) if private else None


def average(
    ups: Mapping[int, Update], shares: Mapping[int, float] | None = None
) -> dict[str, Tensor]:
    """Return sum_k n_k w_k / sum_k n_k (Algorithm 1, server), or with other weights."""
    weights = {k: up.examples for k, up in ups.items()} if shares is None else shares
    return weighted_average(
        (up.weights for up in ups.values()), [weights[k] for k in ups]
    )
