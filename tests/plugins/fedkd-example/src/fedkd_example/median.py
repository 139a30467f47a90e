"""Median averaging: the server takes the median of each weight.

Paper: Yin, Chen, Ramchandran, Bartlett, "Byzantine-Robust Distributed Learning: Towards
    Optimal Statistical Rates", ICML 2018, arXiv:1803.01498v2.
Algorithm: Algorithm 1, option I, with local training in place of one gradient.
Code: none.
Deviations:
    - clients train locally before they answer
    - integer buffers are taken from the first client
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import nn

from fedkd import (
    Client,
    Config,
    Requires,
    Round,
    Server,
    Strategy,
    Weights,
    read_weights,
)


class MedianConfig(Config):
    """Options of the median."""

    step: float = Field(1.0, gt=0, le=1)
    """How far the server goes from the old weights to the median."""


@dataclass(frozen=True)
class Global:
    """The global model."""

    weights: Weights
    """Parameters and buffers by entry name."""


class MedianAvg(Strategy[Global, Global, Global]):
    """Each weight of the next model is the median of the clients'."""

    Config = MedianConfig
    requires = Requires(one_architecture=True)

    def init(self, server: Server) -> Global:
        return Global(dict(server.initial))

    def broadcast(self, state: Global, client_id: int, round: Round) -> Global:
        return state

    def local(self, down: Global, client: Client) -> Global:
        client.load(down.weights)
        client.train()
        return Global(read_weights(client.model))

    def aggregate(
        self, state: Global, ups: Mapping[int, Global], server: Server, round: Round
    ) -> Global:
        answers = [up.weights for up in ups.values()]
        return Global(
            {
                name: towards(old, [a[name] for a in answers], self.config.step)
                for name, old in state.weights.items()
            }
        )

    def predictors(self, state: Global, server: Server) -> Mapping[str, nn.Module]:
        return {"global": server.load(state.weights)}


def towards(
    old: torch.Tensor, answers: list[torch.Tensor], step: float
) -> torch.Tensor:
    """Return ``old`` moved by ``step`` to the element-wise median of ``answers``."""
    if not old.is_floating_point():
        return answers[0]
    middle = torch.stack(answers).quantile(0.5, dim=0)
    return old + step * (middle - old)
