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

from fedkd.algorithms.averaging import AverageConfig, Averaging
from fedkd.strategy import Client


class FedAvg(Averaging):
    """Federated averaging."""

    Config = AverageConfig

    def train(self, client: Client, sent: None) -> None:
        """Minimise F_k by plain SGD (ClientUpdate of Algorithm 1)."""
        client.train()
