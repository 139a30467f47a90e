"""Local training: every client alone. A reference, not a competitor.

Paper: none; the lower reference of federated learning.
Algorithm: each client trains its own model by the protocol's local training and goes on
    from it in its next round.
Code: none.
Deviations: none. Nothing crosses, so it has no bytes; the global accuracy is the mean
    over the clients' models on the whole test set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from fedkd.strategy import Client, Round, Server, Strategy, read_weights

OWN = "weights"
"""Where a client keeps its model."""


@dataclass(frozen=True)
class Nothing:
    """What crosses, and what the server remembers."""


class Local(Strategy[Nothing, Nothing, Nothing]):
    """Every client trains on its own data and predicts with its own model."""

    is_reference = True
    no_average = "its clients send nothing"

    def init(self, server: Server) -> Nothing:
        """There is nothing to remember."""
        return Nothing()

    def broadcast(self, state: Nothing, client_id: int, round: Round) -> Nothing:
        """Send nothing."""
        return Nothing()

    def local(self, down: Nothing, client: Client) -> Nothing:
        """Train on from where the client was."""
        go_on(client)
        client.train()
        client.memory[OWN] = read_weights(client.model)
        return Nothing()

    def aggregate(
        self, state: Nothing, ups: Mapping[int, Nothing], server: Server, round: Round
    ) -> Nothing:
        """Learn nothing."""
        return Nothing()

    def predictors(self, state: Nothing, server: Server) -> Mapping[str, nn.Module]:
        """There is no global model."""
        return {}

    def personal(self, state: Nothing, client: Client) -> nn.Module:
        """Predict with the client's own model."""
        return go_on(client)


def go_on(client: Client) -> nn.Module:
    """Load the client's own model, or the initial one if it has none; return it."""
    return client.load(client.memory.get(OWN, client.initial))
