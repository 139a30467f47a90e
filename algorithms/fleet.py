"""Weights of a federation with one architecture or several: what averages with what.

Clients of one architecture average with each other (as FedDF does before it distils, Lin
et al., arXiv:2006.07242v3, Algorithm 3). With one architecture that is FedAvg, bit for
bit; the server's model is then the average of all. With several, once it has been
distilled from all clients, it stays in its average in the place of those of the round that
cannot train it, as if they had sent it back unchanged: a few clients do not undo what all
have taught. Nested sub-models of one family average by coordinate (see
:mod:`fedkd.algorithms.nested`), and there is one model: the server's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from fedkd.algorithms.averaging import Aggregate, Update, average
from fedkd.algorithms.nested import Nested, nest
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
    nested: Nested | None = None
    """The sub-models of the clients, all of which then count as the architecture 0."""
    heard: tuple[int, ...] = ()
    """The architectures of which a client has sent a model so far, ascending."""
    distilled: bool = False
    """Whether all clients have taught the server's model."""

    @property
    def mixed(self) -> bool:
        """Whether the clients have several architectures that do not nest."""
        return len(set(self.kinds)) > 1

    @property
    def server_is_new(self) -> bool:
        """Whether no client has sent a model of the server's architecture so far.

        Then the server's model has its initial weights, and no statistics of data.
        """
        return SERVER not in self.heard

    @property
    def whole(self) -> Weights:
        """The weights of the server's model."""
        return self.weights[SERVER]

    def of(self, k: int, round: int) -> Weights:
        """Return what client ``k`` starts from in round ``round``."""
        if self.nested is not None:
            return self.nested.broadcast(self.whole, k, round)
        return self.weights[self.kinds[k]]

    def with_whole(self, weights: Weights) -> Fleet:
        """Return the fleet with other weights of the server's model."""
        return replace(self, weights={**self.weights, SERVER: weights})

    def taught(self, weights: Weights) -> Fleet:
        """Return the fleet after distillation: ``weights`` are the server's model."""
        return replace(self.with_whole(weights), distilled=True)

    def averaged(self, ups: Mapping[int, Update], round: int) -> Fleet:
        """Return the fleet after round ``round``: sum_k n_k w_k / sum_k n_k.

        The mean runs over an architecture, or over those who hold a coordinate. What
        nobody sent keeps its weights. In the mean of the server's architecture, a
        distilled model stands for each client of another: w_k is then that model.
        """
        heard = tuple(sorted({*self.heard, *(self.kinds[k] for k in ups)}))
        if self.nested is not None:
            models = {k: up.weights for k, up in ups.items()}
            shares = {k: up.examples for k, up in ups.items()}
            whole = self.nested.average(self.whole, models, shares, round)
            return replace(self.with_whole(whole), heard=heard)
        weights = dict(self.weights)
        for kind in sorted({self.kinds[k] for k in ups}):
            members = {k: up for k, up in ups.items() if self.kinds[k] == kind}
            if kind == SERVER and self.distilled:
                members |= self._others(ups)
            weights[kind] = {**weights[kind], **average(members)}
        return replace(self, weights=weights, heard=heard)

    def _others(self, ups: Mapping[int, Update]) -> dict[int, Update]:
        """Return the server's model as the update of clients that cannot train it."""
        sent = next(up.weights for k, up in ups.items() if self.kinds[k] == SERVER)
        whole = {name: self.whole[name] for name in sent}
        return {
            k: Update(whole, up.examples)
            for k, up in ups.items()
            if self.kinds[k] != SERVER
        }


def assemble(server: Server, aggregate: Aggregate = "plain") -> Fleet:
    """Return the fleet before the first round, with initial weights.

    Args:
        server: The server's side.
        aggregate: ``plain``, or which channels nested sub-models hold.

    Raises:
        ConfigError: If sub-models are asked for and the models do not nest.
    """
    if aggregate != "plain":
        kinds = (SERVER,) * len(server.clients)
        return Fleet(kinds, {SERVER: server.initial}, nest(server, aggregate))
    numbers = {server.spec.key: SERVER}
    weights: dict[int, Weights] = {SERVER: server.initial}
    for k, spec in enumerate(server.clients):
        if spec.key not in numbers:
            numbers[spec.key] = len(numbers)
            weights[numbers[spec.key]] = read_weights(server.client_model(k))
    return Fleet(tuple(numbers[spec.key] for spec in server.clients), weights)
