"""Central training: all data in one place. A reference, not a competitor.

Paper: none; the upper reference of federated learning.
Algorithm: the clients' data are put together in one client, which trains the server's
    model by the protocol's local training; with one client FedAvg is just that.
Code: none.
Deviations: none. A round has as many steps as the round's clients have together, so that
    it costs as many images; with ``local_epochs`` it has as many epochs as each of them.
    The optimiser starts anew in every round, as the clients' does. It breaks the one rule
    of federated learning, so its bytes mean nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from fedkd.algorithms.fedavg import FedAvg, Global, Update
from fedkd.strategy import Client, Round, Server, Strategy


class Central(Strategy[Global, Global, Update]):
    """Training on the union of the clients' data."""

    is_reference = True
    pools_clients = True

    def __init__(self, config: object = None) -> None:
        super().__init__(config)
        self._fedavg = FedAvg()

    def init(self, server: Server) -> Global:
        """Start from the initial weights."""
        return self._fedavg.init(server)

    def broadcast(self, state: Global, client_id: int, round: Round) -> Global:
        """Hand over the model."""
        return self._fedavg.broadcast(state, client_id, round)

    def local(self, down: Global, client: Client) -> Update:
        """Train it."""
        return self._fedavg.local(down, client)

    def aggregate(
        self, state: Global, ups: Mapping[int, Update], server: Server, round: Round
    ) -> Global:
        """Take it back."""
        return self._fedavg.aggregate(state, ups, server, round)

    def predictors(self, state: Global, server: Server) -> Mapping[str, nn.Module]:
        """Measure it."""
        return self._fedavg.predictors(state, server)

    def personal(self, state: Global, client: Client) -> nn.Module | None:
        """As FedAvg's; there is one client."""
        return self._fedavg.personal(state, client)
