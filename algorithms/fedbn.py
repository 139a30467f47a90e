"""FedBN: every client keeps its batch normalisation; the rest is FedAvg.

Paper: Li, Jiang, Zhang, Kamp, Dou, "FedBN: Federated Learning on Non-IID Features via
    Local Batch Normalization", ICLR 2021, arXiv:2102.07623v2.
Algorithm: Algorithm 1.
Code: github.com/med-air/FedBN (``fed_digits.py``).
Deviations: the mean is weighted by sample counts (the released code averages uniformly).
    There is no global model: the global accuracy is the mean over the clients' own models
    on the whole test set. Layers are found by type, not by a "bn" in their name, which
    misses the BatchNorm of shortcuts. The "FedBN" in the released Mosaic code, which
    gives every client fresh BatchNorm layers in every round, is not reproduced.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from fedkd.algorithms.fedavg import (
    FedAvg,
    Global,
    Update,
    local_update,
    own_model,
    private_buffers,
)
from fedkd.ops.averaging import batch_norm_entries
from fedkd.strategy import Client, Requires, Round, Server, Strategy


class FedBN(Strategy[Global, Global, Update]):
    """FedAvg without the BatchNorm layers, which stay at the clients."""

    requires = Requires(one_architecture=True)

    def __init__(self, config: object = None) -> None:
        super().__init__(config)
        self._fedavg = FedAvg()

    def init(self, server: Server) -> Global:
        """Start from the initial weights without BatchNorm entries."""
        kept = stays_local(server)
        return Global({n: w for n, w in server.initial.items() if n not in kept})

    def broadcast(self, state: Global, client_id: int, round: Round) -> Global:
        """Send everything but BatchNorm."""
        return self._fedavg.broadcast(state, client_id, round)

    def local(self, down: Global, client: Client) -> Update:
        """Train with the client's own BatchNorm (Algorithm 1, client)."""
        return local_update(down.weights, client, stays_local(client))

    def aggregate(
        self, state: Global, ups: Mapping[int, Update], server: Server, round: Round
    ) -> Global:
        """Average every layer but BatchNorm (Algorithm 1, server)."""
        return self._fedavg.aggregate(state, ups, server, round)

    def predictors(self, state: Global, server: Server) -> Mapping[str, nn.Module]:
        """No model is global, unless there is no BatchNorm: then this is FedAvg."""
        return {} if stays_local(server) else {"global": server.load(state.weights)}

    def personal(self, state: Global, client: Client) -> nn.Module | None:
        """Return the shared layers with the client's BatchNorm."""
        return own_model(state.weights, client, stays_local(client))


def stays_local(party: Client | Server) -> frozenset[str]:
    """Return BatchNorm's parameters and buffers, and what the buffer policy adds."""
    return batch_norm_entries(party.model) | private_buffers(party)
