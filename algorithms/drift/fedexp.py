"""FedExP: the server goes further than the mean, the more the clients disagree.

Paper: Jhunjhunwala, Wang, Joshi, "FedExP: Speeding Up Federated Averaging via
    Extrapolation", ICLR 2023, arXiv:2301.09604v2.
Algorithm: Algorithm 1: eta_g = max(1, sum_k ||D_k||^2 / (2 M (||mean D||^2 + eps))) for
    the moves D_k of the M clients of a round; what is offered is the mean of the last
    two models of the server (section 3, "averaging last two iterates").
Code: github.com/Divyansh03/FedExP.
Deviations: norms are over parameters; buffers (BatchNorm) are averaged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from fedkd.algorithms.averaging import (
    Averaging,
    Choices,
    Global,
    PlainConfig,
    Update,
)
from fedkd.payload import Weights
from fedkd.strategy import Client, Round, Server


class FedExPConfig(PlainConfig):
    """Hyper-parameters of FedExP."""

    weights: Literal["examples", "uniform"] = "uniform"
    """The weight of a client in the mean: 1 as in Algorithm 1, or its images."""
    epsilon: float = Field(1e-3, ge=0)
    """eps, added to the squared norm of the mean move; the paper tunes it."""
    average_last: bool = True
    """Measure the mean of the server's last two models; clients go on from the last."""


class FedExP(Averaging):
    """FedAvg with an extrapolated step of the server."""

    no_average = (
        "its step is as long as single moves make it, which one client can stretch"
    )
    Config = FedExPConfig
    config: FedExPConfig

    def __init__(self, config: FedExPConfig | None = None) -> None:
        super().__init__(config)
        self.choices = Choices(first=_first, starts=_last, moved=self._moved)

    def train(self, client: Client, sent: None) -> None:
        """Train as FedAvg does."""
        client.train()

    def _moved(
        self,
        state: Global,
        mean: Weights,
        ups: Mapping[int, Update],
        server: Server,
        round: Round,
    ) -> Global:
        """Return w + eta_g mean(D_k), or what is offered in its place."""
        del round
        before: Weights = state.besides
        names = [n for n, _ in server.model.named_parameters()]
        eta = step_size(before, mean, [up.weights for up in ups.values()], names, self)
        server.log("server_step", eta)
        last = dict(mean)
        for n in names:
            last[n] = before[n] + eta * (mean[n] - before[n])
        offered = dict(last)
        if self.config.average_last:
            for n in names:
                offered[n] = (before[n] + last[n]) / 2
        return Global(offered, besides=last)


def step_size(
    before: Weights,
    mean: Weights,
    models: list[Weights],
    names: list[str],
    method: FedExP,
) -> float:
    """Return eta_g of Algorithm 1, 1 or more."""
    own = 0.0
    for weights in models:
        own += sum(float((weights[n] - before[n]).square().sum()) for n in names)
    joint = sum(float((mean[n] - before[n]).square().sum()) for n in names)
    return max(1.0, own / (2 * len(models) * (joint + method.config.epsilon)))


def _first(server: Server) -> Global:
    return Global(server.initial, besides=server.initial)


def _last(state: Global) -> Weights:
    """Return what clients start from: the server's last model."""
    last: Weights = state.besides
    return last
