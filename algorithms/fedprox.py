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

from collections.abc import Mapping, Sequence

from pydantic import Field
from torch import Tensor, nn

from fedkd.algorithms.fedavg import (
    AverageConfig,
    FedAvg,
    Global,
    Update,
    private_buffers,
    recall,
    report,
)
from fedkd.strategy import Client, Requires, Round, Server, Strategy


class FedProxConfig(AverageConfig):
    """Hyper-parameters of FedProx."""

    mu: float = Field(0.01, ge=0)
    """mu in Eq. (2), the strength of the pull; the paper tunes over {0.001, 0.01, 0.1,
    1}; 0.01 is also the value of the released Mosaic code. 0 is FedAvg, bit for bit."""


class FedProx(Strategy[Global, Global, Update]):
    """FedAvg with a proximal term in the local objective."""

    requires = Requires(one_architecture=True)
    Config = FedProxConfig
    config: FedProxConfig

    def __init__(self, config: FedProxConfig | None = None) -> None:
        super().__init__(config)
        self._fedavg = FedAvg(self.config)
        self.requires = self._fedavg.requires

    def init(self, server: Server) -> Global:
        """As FedAvg."""
        return self._fedavg.init(server)

    def broadcast(self, state: Global, client_id: int, round: Round) -> Global:
        """As FedAvg."""
        return self._fedavg.broadcast(state, client_id, round)

    def local(self, down: Global, client: Client) -> Update:
        """Minimise h_k(w; w^t) = F_k(w) + mu/2 ||w - w^t||^2 (Eq. 2)."""
        mu = self.config.mu
        if mu == 0:
            return self._fedavg.local(down, client)
        private = private_buffers(client)
        model = recall(down.weights, client, private)
        anchor = [p.detach().clone() for p in model.parameters()]
        client.train(penalty=lambda m: proximal(list(m.parameters()), anchor, mu))
        return report(client, private)

    def aggregate(
        self, state: Global, ups: Mapping[int, Update], server: Server, round: Round
    ) -> Global:
        """As FedAvg."""
        return self._fedavg.aggregate(state, ups, server, round)

    def predictors(self, state: Global, server: Server) -> Mapping[str, nn.Module]:
        """As FedAvg."""
        return self._fedavg.predictors(state, server)

    def personal(self, state: Global, client: Client) -> nn.Module | None:
        """As FedAvg."""
        return self._fedavg.personal(state, client)


def proximal(
    parameters: Sequence[Tensor], anchor: Sequence[Tensor], mu: float
) -> Tensor:
    """Return mu/2 sum_p ||p - p^t||^2 over trainable parameters (Eq. 2); a scalar."""
    pulls = [(p - a).pow(2).sum() for p, a in zip(parameters, anchor, strict=True)]
    return mu / 2 * sum(pulls[1:], pulls[0])
