"""FedAvg: clients train, the server averages.

Paper: McMahan, Moore, Ramage, Hampson, Aguera y Arcas, "Communication-Efficient
    Learning of Deep Networks from Decentralized Data", AISTATS 2017, arXiv:1602.05629v4.
Algorithm: Algorithm 1 (FederatedAveraging), with local steps or local epochs.
Code: none by the authors.
Deviations: BatchNorm statistics, which the paper does not treat, follow the run's buffer
    policy; the mean runs over the round's clients, weighted by their sample counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from fedkd.ops.averaging import buffer_entries, weighted_average
from fedkd.ops.training import LossFunction
from fedkd.payload import Weights
from fedkd.strategy import Client, Requires, Round, Server, Strategy, read_weights


@dataclass(frozen=True)
class Global:
    """The server's state, and what it broadcasts."""

    weights: Weights
    """The global model: parameters and shared buffers."""


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

    def init(self, server: Server) -> Global:
        """Start from the initial weights (Algorithm 1: "initialize w_0")."""
        return Global(server.initial)

    def broadcast(self, state: Global, client_id: int, round: Round) -> Global:
        """Send the global model."""
        del client_id, round
        return state

    def local(self, down: Global, client: Client) -> Update:
        """ClientUpdate of Algorithm 1."""
        return local_update(down.weights, client, private_buffers(client))

    def aggregate(
        self, state: Global, ups: Mapping[int, Update], server: Server, round: Round
    ) -> Global:
        """w_{t+1} = sum_k n_k w_k / sum_k n_k over the clients of the round."""
        del server, round
        return Global({**state.weights, **average(ups)})

    def predictors(self, state: Global, server: Server) -> Mapping[str, nn.Module]:
        """Measure the global model, unless part of it stays at the clients."""
        if private_buffers(server):
            return {}
        return {"global": server.load(state.weights)}

    def personal(self, state: Global, client: Client) -> nn.Module | None:
        """Under the buffer policy ``local``, a client has its own statistics."""
        return own_model(state.weights, client, private_buffers(client))


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


def average(ups: Mapping[int, Update]) -> dict[str, Tensor]:
    """Return sum_k n_k w_k / sum_k n_k (Algorithm 1, server)."""
    return weighted_average(
        [up.weights for up in ups.values()], [up.examples for up in ups.values()]
    )
