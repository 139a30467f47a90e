"""Weights of a federation with one architecture or several: what averages with what.

Clients of one architecture average with each other (as FedDF does before it distils, Lin
et al., arXiv:2006.07242v3, Algorithm 3). With one architecture that is FedAvg, bit for
bit; the server's model is then the average of all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from fedkd.algorithms.fedavg import Update, average
from fedkd.payload import Weights
from fedkd.strategy import Server, read_weights

SERVER = 0
"""The number of the server's architecture."""


@dataclass(frozen=True)
class Fleet:
    """The weights of every architecture of a federation."""

    kinds: tuple[int, ...]
    """The number of each client's architecture, by client; 0 is the server's."""
    weights: Mapping[int, Weights]
    """By architecture: the average of its clients, at first the initial weights."""

    @property
    def mixed(self) -> bool:
        """Whether the clients have several architectures."""
        return len(set(self.kinds)) > 1

    @property
    def server_is_alone(self) -> bool:
        """Whether no client has the server's architecture."""
        return SERVER not in self.kinds

    @property
    def whole(self) -> Weights:
        """The weights of the server's model."""
        return self.weights[SERVER]

    def of(self, k: int) -> Weights:
        """Return what client ``k`` starts from."""
        return self.weights[self.kinds[k]]

    def with_whole(self, weights: Weights) -> Fleet:
        """Return the fleet with other weights of the server's model."""
        return replace(self, weights={**self.weights, SERVER: weights})

    def averaged(self, ups: Mapping[int, Update]) -> Fleet:
        """Return the fleet after a round: sum_k n_k w_k / sum_k n_k by architecture.

        An architecture of which no client took part keeps its weights.
        """
        weights = dict(self.weights)
        for kind in sorted({self.kinds[k] for k in ups}):
            members = {k: up for k, up in ups.items() if self.kinds[k] == kind}
            weights[kind] = {**weights[kind], **average(members)}
        return replace(self, weights=weights)


def assemble(server: Server) -> Fleet:
    """Return the fleet before the first round, with initial weights."""
    numbers = {server.spec.key: SERVER}
    weights: dict[int, Weights] = {SERVER: server.initial}
    for k, spec in enumerate(server.clients):
        if spec.key not in numbers:
            numbers[spec.key] = len(numbers)
            weights[numbers[spec.key]] = read_weights(server.client_model(k))
    return Fleet(tuple(numbers[spec.key] for spec in server.clients), weights)
