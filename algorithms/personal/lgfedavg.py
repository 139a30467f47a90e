"""LG-FedAvg: every client keeps its lower layers; those above are FedAvg's.

Paper: Liang, Liu, Ziyin, Allen, Auerbach, Brent, Salakhutdinov, Morency, "Think Locally,
    Act Globally: Federated Learning with Local and Global Representations", 2020,
    arXiv:2001.01523v3.
Algorithm: Algorithm 1 without the auxiliary losses on local representations: a client's
    local model feeds the global one, both are trained together, and only the global one
    crosses and is averaged.
Code: github.com/pliang279/LG-FedAvg (``main_lg.py``).
Deviations: training starts from the initial weights; the code goes on from a checkpoint
    of FedAvg, averages without weights (``weights: uniform``) and reports the models that
    were best on the test set. Clients may have different local models, as in the paper,
    where the global layers have the same names and shapes in all of them: with
    ``layers: 1``, models whose features are of one size. There is no global model: the
    global accuracy is the mean over the clients' own models on the whole test set, not
    that of their ensemble.
"""

from __future__ import annotations

from pydantic import Field

from fedkd.algorithms.averaging import Averaging, Parted
from fedkd.algorithms.personal.parts import PartsConfig
from fedkd.strategy import Client, Requires


class LgFedAvgConfig(PartsConfig):
    """Hyper-parameters of LG-FedAvg."""

    layers: int = Field(1, ge=0)
    """Number of global layers, the upper ones; 1 by the code's default, where its commands
    keep 3 of 5 for MNIST and 2 of 5 for CIFAR-10. All layers are FedAvg, bit for bit; 0
    is local training."""


class LgFedAvg(Averaging):
    """FedAvg without the lower layers, which stay at the clients."""

    Config = LgFedAvgConfig
    config: LgFedAvgConfig

    def __init__(self, config: LgFedAvgConfig | None = None) -> None:
        super().__init__(config)
        self.requires = Requires(shared_layers=self.config.layers)
        self.choices = Parted(self.config.lower).choices

    def train(self, client: Client, sent: None) -> None:
        """Train local and global layers together (Algorithm 1)."""
        client.train()
