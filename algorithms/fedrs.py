"""FedRS: restricted softmax, so that missing classes are pushed away less.

Paper: Li, Zhan, "FedRS: Federated Learning with Restricted Softmax for Label
    Distribution Non-IID Data", KDD 2021, doi:10.1145/3447548.3467254.
Algorithm: FedAvg with the restricted softmax in the local loss. Besides the model a client
    gets the number of the round, which the variant ``mosaic`` needs.
Code: FedRepo by the first author (``algorithms/fedrs.py``); released Mosaic code, commit
    a7f8b5b, for the variant of that name.
Deviations: by variant. ``paper``: none known; the scale is 1 for classes that the client
    has and alpha for the others, and of whole logits, the bias included. ``official``:
    the scale follows the label distribution and the classifier has no bias; the released
    training settings (SGD 0.03, momentum 0.9, clipping at 100) are the suite's to choose.
    ``mosaic``: the scale looks at each mini-batch and alpha grows with the rounds; that
    code also draws a random number of clients in every round, which is the simulator's
    business and not reproduced.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from fedkd.algorithms.averaging import (
    AverageConfig,
    Averaging,
    Choices,
    Global,
    initial,
)
from fedkd.config import refuse_idle
from fedkd.ops.training import LossFunction
from fedkd.strategy import Client, Round, Server


class FedRSConfig(AverageConfig):
    """Hyper-parameters of FedRS."""

    variant: Literal["paper", "official", "mosaic"] = "paper"
    """Which rule gives the scale of a class: see the deviations."""
    alpha: float = Field(0.5, ge=0, le=1)
    """Scale of a missing class; 0.5 is recommended by the paper. Use 0.1 with the
    variant ``mosaic``, which starts there. 1 is FedAvg, bit for bit, but for the variant
    ``official``: there it is FedAvg without a bias in the classifier."""
    growth: float = Field(0.01, ge=0)
    """Variant ``mosaic``: in round t (from 0) alpha grows by ``growth * t``."""
    cap: float = Field(0.8, ge=0, le=1)
    """Variant ``mosaic``: alpha grows no further than this."""

    @model_validator(mode="after")
    def _every_option_has_an_effect(self) -> FedRSConfig:
        if self.variant != "mosaic":
            why = f"alpha does not grow with variant: {self.variant}"
            refuse_idle(self, why, "growth", "cap")
        return self


class FedRS(Averaging):
    """FedAvg with a restricted softmax at the clients."""

    Config = FedRSConfig
    config: FedRSConfig

    def __init__(self, config: FedRSConfig | None = None) -> None:
        super().__init__(config)
        official = self.config.variant == "official"
        first = without_head_bias if official else initial
        self.choices = Choices(first=first, sent=number_of)

    def train(self, client: Client, sent: int) -> None:
        """Train with the restricted softmax; ``sent`` is the number of the round."""
        if self.config.variant == "official":
            for name in _head_bias(client.model, client.num_classes):
                client.model.get_parameter(name).requires_grad_(False)
        client.train(self._loss(sent, client))

    def _loss(self, round: int, client: Client) -> LossFunction | None:
        alpha = self.config.alpha
        if self.config.variant == "mosaic":
            before = float(client.memory.get("alpha", alpha))
            alpha = grown(before, round, self.config.growth, self.config.cap)
            client.memory["alpha"] = alpha
            client.log("fedrs_alpha", alpha)
        if alpha == 1:
            return None
        if self.config.variant == "mosaic":
            return lambda logits_BC, y: restricted_cross_entropy(
                logits_BC, y, batch_scale(y, logits_BC.shape[1], alpha)
            )
        rule = paper_scale if self.config.variant == "paper" else official_scale
        scale_C = rule(client.data.label_counts(), alpha).to(client.device)
        return lambda logits_BC, y: restricted_cross_entropy(logits_BC, y, scale_C)


def without_head_bias(server: Server) -> Global:
    """Return the initial state: the official classifier's bias starts and stays 0."""
    state = initial(server)
    names = _head_bias(server.model, server.num_classes)
    zeros = {name: torch.zeros_like(state.weights[name]) for name in names}
    return replace(state, weights={**state.weights, **zeros})


def number_of(state: Global, client_id: int, round: Round) -> int:
    """Return the number of the round, from 0, which the variant ``mosaic`` needs."""
    del state, client_id
    return round.index


def restricted_cross_entropy(logits_BC: Tensor, y: Tensor, scale_C: Tensor) -> Tensor:
    """Return CE(softmax(a_c z_c), y), the mean over the batch; a scalar."""
    return F.cross_entropy(logits_BC * scale_C.to(logits_BC.dtype), y)


def paper_scale(counts_C: Tensor, alpha: float) -> Tensor:
    """Return a_c = 1 where the client has class c, alpha where not; ``[C]``."""
    return torch.where(counts_C > 0, 1.0, alpha)


def official_scale(counts_C: Tensor, alpha: float) -> Tensor:
    """Return a_c = alpha + (1 - alpha) n_c / max_j n_j; ``[C]`` (FedRepo)."""
    return alpha + (1 - alpha) * counts_C / counts_C.max()


def batch_scale(y: Tensor, num_classes: int, alpha: float) -> Tensor:
    """Return a_c = 1 for classes of this batch, alpha for others; ``[C]`` (Mosaic)."""
    scale_C = torch.full((num_classes,), alpha, device=y.device)
    scale_C[y] = 1.0
    return scale_C


def grown(alpha: float, round: int, growth: float, cap: float) -> float:
    """Return min(cap, alpha + growth * round), alpha of round t (Mosaic); 1 stays 1."""
    return alpha if alpha == 1 else min(cap, alpha + growth * round)


def _head_bias(model: nn.Module, num_classes: int) -> list[str]:
    """Return the entry of the classifier's bias: the last linear layer to C classes."""
    heads = [
        f"{name}.bias"
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear)
        and layer.out_features == num_classes
        and layer.bias is not None
    ]
    return heads[-1:]
