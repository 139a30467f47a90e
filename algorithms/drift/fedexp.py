"""FedExP: the server goes further than the mean, the more the clients disagree.

Paper: Jhunjhunwala, Wang, Joshi, "FedExP: Speeding Up Federated Averaging via
    Extrapolation", ICLR 2023, arXiv:2301.09604v2.
Algorithm: Algorithm 1: eta_g = max(1, sum_k ||D_k||^2 / (2 M (||mean D||^2 + eps))) for
    the moves D_k of the M clients of a round; what is offered is the mean of the last
    two models of the server (section 3, "averaging last two iterates"); after the first
    round with an answer it is, as in the code, the only one that was trained.
Code: github.com/Divyansh03/FedExP, commit 34b05a2.
Deviations: norms are over parameters; buffers (BatchNorm) are averaged. The code adds eps
    times the number of the round's clients, and shrinks eps by 0.998^2 in each round; here
    it is added as Algorithm 1 has it. The code weighs moves, and their squared norms, by
    images: ``weights: examples``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
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
    """eps, added to the squared norm of the mean move; the paper tunes it, and the code
    has 0.001, for EMNIST 0.1, times the number of the round's clients."""
    average_last: bool = True
    """Measure the mean of the server's last two models, after the first round with an
    answer its only trained one; clients go on from the last."""


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
        eta = step_size(before, mean, ups, names, self.config)
        server.log("server_step", eta)
        last = dict(mean)
        for n in names:
            last[n] = before[n] + eta * (mean[n] - before[n])
        offered = dict(last)
        trained = any(not torch.equal(before[n], server.initial[n]) for n in names)
        if self.config.average_last and trained:
            for n in names:
                offered[n] = (before[n] + last[n]) / 2
        return Global(offered, besides=last)


def step_size(
    before: Weights,
    mean: Weights,
    ups: Mapping[int, Update],
    names: list[str],
    config: FedExPConfig,
) -> float:
    """Return eta_g of Algorithm 1, 1 or more; squared norms weigh as the moves do.

    Args:
        before: The model that clients started from.
        mean: The clients' average.
        ups: What they sent.
        names: The parameters.
        config: Weights of clients, and eps.
    """
    shares = config.shares(ups)
    own = 0.0
    for k, up in ups.items():
        squares = ((up.weights[n] - before[n]).square().sum() for n in names)
        own += shares[k] * sum(float(square) for square in squares)
    joint = sum(float((mean[n] - before[n]).square().sum()) for n in names)
    return max(1.0, own / (2 * sum(shares.values()) * (joint + config.epsilon)))


def _first(server: Server) -> Global:
    return Global(server.initial, besides=server.initial)


def _last(state: Global) -> Weights:
    """Return what clients start from: the server's last model."""
    last: Weights = state.besides
    return last
