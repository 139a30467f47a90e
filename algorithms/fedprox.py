"""FedProx: FedAvg with a quadratic pull towards the round's global model.

Paper: Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith, "Federated Optimization in
    Heterogeneous Networks", MLSys 2020, arXiv:1812.06127v5.
Algorithm: Algorithm 2; the local objective is Eq. (2).
Code: github.com/litian96/FedProx (TensorFlow 1; ``pgd.py`` applies the same gradient).
Deviations: every client does the protocol's full local work (the paper's experiment on
    stragglers with partial work is not part of the method's table rows here); the mean
    is weighted by sample counts with uniform sampling of clients.
"""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field
from torch import Tensor, nn

from fedkd.algorithms.averaging import AverageConfig, Averaging
from fedkd.strategy import Client


class FedProxConfig(AverageConfig):
    """Hyper-parameters of FedProx."""

    mu: float = Field(0.01, ge=0)
    """mu in Eq. (2), the strength of the pull; the paper tunes over {0.001, 0.01, 0.1,
    1}; 0.01 is also the value of the released Mosaic code. 0 is FedAvg, bit for bit."""


class FedProx(Averaging):
    """FedAvg with a proximal term in the local objective."""

    Config = FedProxConfig
    config: FedProxConfig

    def train(self, client: Client, sent: None) -> None:
        """Minimise h_k(w; w^t) = F_k(w) + mu/2 ||w - w^t||^2 (Eq. 2)."""
        mu = self.config.mu
        anchor = [p.detach().clone() for p in client.model.parameters()]

        def pull(model: nn.Module) -> Tensor:
            return proximal(list(model.parameters()), anchor, mu)

        client.train(penalty=pull if mu else None)


def proximal(
    parameters: Sequence[Tensor], anchor: Sequence[Tensor], mu: float
) -> Tensor:
    """Return mu/2 sum_p ||p - p^t||^2 over trainable parameters (Eq. 2); a scalar."""
    pulls = [(p - a).pow(2).sum() for p, a in zip(parameters, anchor, strict=True)]
    return mu / 2 * sum(pulls[1:], pulls[0])
