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

from fedkd.algorithms.averaging import Averaging
from fedkd.strategy import Client, Requires


class Central(Averaging):
    """Training on the union of the clients' data."""

    is_reference = True
    pools_clients = True
    requires = Requires()
    no_average = "it has one client, in which all data are"

    def train(self, client: Client, sent: None) -> None:
        """Train on all data: the client is the only one."""
        client.train()
