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

import warnings

from fedkd.algorithms.averaging import (
    Averaging,
    Choices,
    Global,
    Parted,
    private_buffers,
)
from fedkd.ops.averaging import batch_norm_entries
from fedkd.strategy import Client, Party, Server


def stays_local(party: Party) -> frozenset[str]:
    """Return BatchNorm's parameters and buffers, and what the buffer policy adds."""
    return batch_norm_entries(party.model) | private_buffers(party)


def started(server: Server) -> Global:
    """Return the initial weights of what is shared; warn where that is all."""
    if not batch_norm_entries(server.model):
        warnings.warn(
            "the model has no batch normalisation, so no layer stays at the clients and "
            "this is FedAvg. Choose another model, or leave fedbn out.",
            RuntimeWarning,
            stacklevel=2,
        )
    return Parted(stays_local).first(server)


class FedBN(Averaging):
    """FedAvg without the BatchNorm layers, which stay at the clients."""

    choices = Choices(first=started, stays=stays_local)

    def train(self, client: Client, sent: None) -> None:
        """Train with the client's own BatchNorm (Algorithm 1, client)."""
        client.train()
