"""FedOpt: the clients' mean move is a gradient for an optimiser of the server.

Paper: Reddi, Charles, Zaheer, Garrett, Rush, Konecny, Kumar, McMahan, "Adaptive Federated
    Optimization", ICLR 2021, arXiv:2003.00295v5; FedAvgM: Hsu, Qi, Brown, "Measuring the
    Effects of Non-Identical Data Distribution for Federated Visual Classification",
    arXiv:1909.06335v1.
Algorithm: Algorithm 2 (FedAdagrad, FedYogi, FedAdam), without bias correction.
Code: part of TensorFlow Federated.
Deviations: see the presets. The mean move is weighted by images; in Algorithm 2 all
    clients count alike (``weights: uniform``). Buffers (BatchNorm) never go through the
    optimiser; they are averaged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from fedkd.algorithms.averaging import (
    Averaging,
    Choices,
    Global,
    PlainConfig,
    Update,
    zeros,
)
from fedkd.config import refuse_idle
from fedkd.payload import Weights
from fedkd.strategy import Client, Preset, Round, Server


class FedOptConfig(PlainConfig):
    """Hyper-parameters of FedOpt."""

    optimiser: Literal["sgd", "adagrad", "adam", "yogi"] = "adam"
    """Which optimiser the server has; ``sgd`` with momentum is FedAvgM."""
    server_lr: float = Field(0.01, gt=0)
    """eta, the server's learning rate. The paper tunes it over powers of ten; 1 with
    ``sgd`` and no momentum is FedAvg."""
    beta1: float = Field(0.9, ge=0, lt=1)
    """beta_1, the share of the last mean move that is kept; with ``sgd`` the momentum."""
    beta2: float = Field(0.99, ge=0, lt=1)
    """beta_2, the share of the last mean square that is kept (``adam``, ``yogi``)."""
    tau: float = Field(1e-3, gt=0)
    """tau, the adaptivity: added to the root; v starts at tau^2; not with ``sgd``."""

    @model_validator(mode="after")
    def _every_option_has_an_effect(self) -> FedOptConfig:
        if self.optimiser == "sgd":
            refuse_idle(self, "optimiser: sgd has no mean square", "beta2", "tau")
        if self.optimiser == "adagrad":
            refuse_idle(self, "optimiser: adagrad sums all squares", "beta2")
        return self


@dataclass(frozen=True)
class Moments:
    """What the server's optimiser remembers, by parameter."""

    first: Weights
    """m, the running mean of moves; with ``sgd`` the velocity."""
    second: Weights
    """v, the running mean square; empty with ``sgd``."""


class FedOpt(Averaging):
    """FedAvg whose server takes adaptive steps."""

    Config = FedOptConfig
    config: FedOptConfig

    def __init__(self, config: FedOptConfig | None = None) -> None:
        super().__init__(config)
        self.choices = Choices(first=self._first, moved=self._moved)

    def train(self, client: Client, sent: None) -> None:
        """Train as FedAvg does."""
        client.train()

    def _first(self, server: Server) -> Global:
        shapes = {n: p.shape for n, p in server.model.named_parameters()}
        first = zeros(server.model)
        second: dict[str, Tensor] = {}
        if self.config.optimiser != "sgd":
            least = self.config.tau**2
            second = {n: torch.full(shape, least) for n, shape in shapes.items()}
        return Global(server.initial, besides=Moments(first, second))

    def _moved(
        self,
        state: Global,
        mean: Weights,
        ups: Mapping[int, Update],
        server: Server,
        round: Round,
    ) -> Global:
        """Return x + eta m / (sqrt(v) + tau), and averaged buffers."""
        del ups, server, round
        old: Moments = state.besides
        moved, firsts, seconds = dict(mean), {}, {}
        for n, m in old.first.items():
            move = mean[n] - state.weights[n]
            step, firsts[n], second = stepped(move, m, old.second.get(n), self.config)
            if second is not None:
                seconds[n] = second
            moved[n] = state.weights[n] + step
        return Global(moved, besides=Moments(firsts, seconds))


def stepped(
    move: Tensor, m: Tensor, v: Tensor | None, how: FedOptConfig
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return a server's step, and what it remembers then (Algorithm 2).

    Args:
        move: Delta_t, the clients' mean move of one parameter.
        m: m_{t-1}.
        v: v_{t-1}; None with ``sgd``.
        how: The optimiser.

    Returns:
        The step, m_t and v_t.
    """
    if v is None:
        m = how.beta1 * m + move
        return how.server_lr * m, m, None
    m = how.beta1 * m + (1 - how.beta1) * move
    square = move.square()
    if how.optimiser == "adagrad":
        v = v + square
    elif how.optimiser == "adam":
        v = how.beta2 * v + (1 - how.beta2) * square
    else:
        v = v - (1 - how.beta2) * square * (v - square).sign()
    return how.server_lr * m / (v.sqrt() + how.tau), m, v


FEDAVGM = Preset(
    FedOpt,
    {"optimiser": "sgd", "server_lr": 1.0, "beta1": 0.9},
    deviations=(
        "Momentum 0.9 is a usual value; the paper of FedAvgM tunes it.",
        "The mean move is not scaled by 1 - beta_1: m = beta_1 m + Delta, x = x + m.",
    ),
    doc="FedAvgM: FedAvg with momentum at the server.",
)
FEDADAM = Preset(
    FedOpt,
    {"optimiser": "adam"},
    deviations=("The server's rate 0.01 is ours; the paper tunes it for each task.",),
    doc="FedAdam of Algorithm 2.",
)
FEDYOGI = Preset(
    FedOpt,
    {"optimiser": "yogi"},
    deviations=("The server's rate 0.01 is ours; the paper tunes it for each task.",),
    doc="FedYogi of Algorithm 2.",
)
FEDADAGRAD = Preset(
    FedOpt,
    {"optimiser": "adagrad", "beta1": 0.0},
    deviations=("The server's rate 0.01 is ours; the paper tunes it for each task.",),
    doc="FedAdagrad of Algorithm 2, with beta_1 = 0 as in the paper's experiments.",
)
