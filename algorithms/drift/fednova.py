"""FedNova: clients' moves are divided by how much work they stand for.

Paper: Wang, Liu, Liang, Joshi, Poor, "Tackling the Objective Inconsistency Problem in
    Heterogeneous Federated Optimization", NeurIPS 2020, arXiv:2007.07481v1.
Algorithm: Eqs. 6 and 7: x+ = x - tau_eff sum_k p_k d_k with d_k = (x - y_k) / ||a_k||_1
    and tau_eff = sum_k p_k ||a_k||_1.
Code: github.com/JYWa/FedNova.
Deviations: with local momentum rho, ||a_k||_1 is that of the momentum buffer's weights,
    (tau - rho (1 - rho^tau) / (1 - rho)) / (1 - rho) (section 4 of the paper). Weight
    decay changes a_k a little and is left out of it. Buffers (BatchNorm) are averaged as
    FedAvg does. It differs from FedAvg only where clients take different numbers of
    steps: give a suite ``local_epochs``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from fedkd.algorithms.averaging import (
    Averaging,
    Choices,
    Global,
    PlainConfig,
    Update,
)
from fedkd.payload import Weights
from fedkd.robust.rule import Mean
from fedkd.strategy import Client, Round, Server


class FedNovaConfig(PlainConfig):
    """Hyper-parameters of FedNova."""


class FedNova(Averaging):
    """FedAvg of moves that are normalised by the clients' work."""

    Config = FedNovaConfig
    config: FedNovaConfig

    def __init__(self, config: FedNovaConfig | None = None) -> None:
        super().__init__(config)
        self.choices = Choices(moved=self._moved)

    def train(self, client: Client, sent: None) -> float:
        """Train as FedAvg does; return ||a_k||_1."""
        report = client.train()
        return work(report.steps, client.training.momentum)

    def _moved(
        self,
        state: Global,
        mean: Weights,
        ups: Mapping[int, Update],
        server: Server,
        round: Round,
    ) -> Global:
        """Return x - tau_eff sum_k p_k d_k, and averaged buffers.

        With another average, it is that of x - tau_eff d_k.
        """
        del round
        shares = self.how.shares(ups)
        total = sum(shares.values())
        norms = {k: float(up.besides) for k, up in ups.items()}
        effective = sum(shares[k] / total * norms[k] for k in ups)
        names = [n for n, _ in server.model.named_parameters()]
        if not isinstance(self.rule, Mean):
            steps = [
                _stepped(state.weights, up.weights, names, effective / norms[k])
                for k, up in ups.items()
            ]
            weights = [shares[k] for k in ups]
            return Global({**mean, **self.rule.combine(steps, weights, state.weights)})
        factors = {k: effective * shares[k] / total / norms[k] for k in ups}
        moved = dict(mean)
        for n in names:
            x = state.weights[n]
            moved[n] = x - _sum_of_moves(x, n, ups, factors)
        return Global(moved)


def work(steps: int, momentum: float) -> float:
    """Return ||a||_1 of ``steps`` SGD steps with momentum: how far a gradient goes.

    Args:
        steps: tau, the number of steps.
        momentum: rho; 0 gives tau.
    """
    if not momentum:
        return float(steps)
    rest = momentum * (1 - momentum**steps) / (1 - momentum)
    return (steps - rest) / (1 - momentum)


def _stepped(
    before: Weights, after: Weights, names: Sequence[str], factor: float
) -> dict[str, Tensor]:
    """Return x - factor (x - y_k), by parameter."""
    return {n: before[n] - factor * (before[n] - after[n]) for n in names}


def _sum_of_moves(
    x: Tensor, name: str, ups: Mapping[int, Update], factors: Mapping[int, float]
) -> Tensor:
    total = x.new_zeros(x.shape)
    for k, up in ups.items():
        total += factors[k] * (x - up.weights[name])
    return total
