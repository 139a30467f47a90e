"""FedPer: every client keeps its upper layers; those below are FedAvg's.

Paper: Arivazhagan, Aggarwal, Singh, Choudhary, "Federated Learning with Personalization
    Layers", 2019, arXiv:1912.00818v1.
Algorithm: Algorithms 1 (client) and 2 (server): base layers are averaged by numbers of
    images, personalization layers stay; both are trained together.
Code: none by the authors.
Deviations: the paper's networks are ResNet-34 and MobileNet-v1, and it counts a block of
    theirs as one layer; here each convolution and each linear layer is one. There is no
    global model: the global accuracy is the mean over the clients' own models on the
    whole test set.
"""

from __future__ import annotations

from pydantic import Field

from fedkd.algorithms.averaging import Averaging, Parted
from fedkd.algorithms.personal.parts import PartsConfig
from fedkd.strategy import Client


class FedPerConfig(PartsConfig):
    """Hyper-parameters of FedPer."""

    layers: int = Field(1, ge=0)
    """K_P, the number of personalization layers, the upper ones; the paper tries 1 to 4,
    and 1 is the classifier. 0 is FedAvg, bit for bit; all layers are local training."""


class FedPer(Averaging):
    """FedAvg without the upper layers, which stay at the clients."""

    Config = FedPerConfig
    config: FedPerConfig

    def __init__(self, config: FedPerConfig | None = None) -> None:
        super().__init__(config)
        self.choices = Parted(self.config.upper).choices

    def train(self, client: Client, sent: None) -> None:
        """Train base and personalization layers together (Algorithm 1)."""
        client.train()
