"""APFL: a client predicts with a mixture of its own weights and the global ones.

Paper: Deng, Kamani, Mahdavi, "Adaptive Personalized Federated Learning", 2020,
    arXiv:2003.13461v3.
Algorithm: Algorithm 1. In each local step a client moves its copy w of the global model by
    the gradient at w, as in FedAvg, and its own weights v by the gradient at the mixture
    alpha v + (1 - alpha) w, with respect to v; alpha goes down its own gradient,
    <v - w, gradient at the mixture>.
Code: github.com/MLOPTPSU/FedTorch (``comms/trainings/federated/apfl.py``).
Deviations: clients predict with the mixture of v and the newest global model, with which
    a client starts its round. BatchNorm's statistics, of which the paper has none, are
    those that the mixture has seen. Each of the two sums of gradients is clipped by
    itself. The code mixes outputs, not weights, moves w before v, and adds 0.02 alpha to
    the gradient of alpha, which ``alpha_decay`` does. A client that has not taken part
    yet has the initial weights as v.
"""

from __future__ import annotations

import copy
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from fedkd.algorithms.averaging import Averaging, Choices, Global, PlainConfig
from fedkd.config import refuse_idle
from fedkd.payload import Weights
from fedkd.strategy import Client, copy_weights, read_weights

_OWN, _ALPHA = "weights", "alpha"
_SHARED, _MINE = "shared", "own"


class APFLConfig(PlainConfig):
    """Hyper-parameters of APFL."""

    alpha: float = Field(0.5, ge=0, le=1)
    """alpha, the share of a client's own weights at the start; 0.5 is the default of the
    released code. 0 is the global model but for BatchNorm's statistics,
    which are the client's, 1 local training, if it does not adapt."""
    adapts: Literal["round", "step", "never"] = "round"
    """When alpha moves: with the first step of each round, as in the code, with every
    step, as in the paper's equation, or never. Its rate is that of local training."""
    alpha_decay: float = Field(0.0, ge=0)
    """Times alpha, added to the gradient of alpha; nothing in the paper, 0.02 in the
    code. Not with ``adapts: never``."""

    @model_validator(mode="after")
    def _every_option_has_an_effect(self) -> APFLConfig:
        if self.adapts == "never":
            refuse_idle(self, "alpha does not move with adapts: never", "alpha_decay")
        return self


class APFL(Averaging):
    """FedAvg beside which each client trains its part of a mixture."""

    Config = APFLConfig
    config: APFLConfig

    def __init__(self, config: APFLConfig | None = None) -> None:
        super().__init__(config)
        self.choices = Choices(own=self._mixed)

    def train(self, client: Client, sent: None) -> None:
        """Train w and v on the same batches; maybe move alpha."""
        own = copy.deepcopy(client.model)
        copy_weights(client.memory.get(_OWN, client.initial), own)
        mixing = _Mixing(self._alpha(client), client, self.config)
        report = client.train(
            objective=mixing.losses,
            gradient=mixing.after_gradients,
            training=client.training.model_copy(update={"clip_norm": None}),
            model=nn.ModuleDict({_SHARED: client.model, _MINE: own}),
        )
        client.count_examples(report.examples)  # each image goes through both
        client.memory[_OWN] = read_weights(own)
        client.memory[_ALPHA] = mixing.alpha.detach().item()
        client.log("apfl_alpha", client.memory[_ALPHA])

    def _alpha(self, client: Client) -> float:
        return float(client.memory.get(_ALPHA, self.config.alpha))

    def _mixed(self, state: Global, client: Client) -> nn.Module:
        """Return the client's mixture with the global model."""
        names = {name for name, _ in client.model.named_parameters()}
        shared = {n: w for n, w in state.weights.items() if n in names}
        own = client.memory.get(_OWN, client.initial)
        alpha = torch.tensor(self._alpha(client), dtype=torch.float64)
        return client.load(mixture(own, shared, alpha))


class _Mixing:
    """The steps of one client's round."""

    def __init__(self, alpha: float, client: Client, config: APFLConfig) -> None:
        # In float64, which changes no type of weights: it is a number, not a vector.
        self.alpha = torch.tensor(alpha, dtype=torch.float64, device=client.device)
        self.alpha.requires_grad_(config.adapts != "never")
        self._config = config
        self._training = client.training

    def losses(self, pair: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of w and that of the mixture, whose gradient w does not get."""
        shared, own = (pair.get_submodule(name) for name in (_SHARED, _MINE))
        loss = functional.cross_entropy(shared(x), y)
        w = {n: p.detach() for n, p in shared.named_parameters()}
        mixed = mixture(dict(own.named_parameters()), w, self.alpha)
        logits_BC = functional_call(own, mixed, (x,))
        return loss, functional.cross_entropy(logits_BC, y)

    def after_gradients(self, pair: nn.Module) -> None:
        """Move alpha, if it is its turn, and clip the gradients of w and of v."""
        if self.alpha.grad is not None:
            how, slope = self._config, self.alpha.grad
            moved = next_alpha(self.alpha, slope, self._training.lr, how.alpha_decay)
            self.alpha = moved.requires_grad_(how.adapts == "step")
        if self._training.clip_norm is not None:
            for part in pair.children():
                nn.utils.clip_grad_norm_(part.parameters(), self._training.clip_norm)


def mixture(own: Weights, shared: Weights, alpha: Tensor) -> dict[str, Tensor]:
    """Return alpha v + (1 - alpha) w of the entries that are shared, the others of v."""
    # Exact at 0 and 1; and in the layout of the weights, which sums by hand may lose.
    mixed = {n: torch.lerp(w, own[n], alpha.to(w)) for n, w in shared.items()}
    return {**own, **mixed}


def next_alpha(alpha: Tensor, gradient: Tensor, lr: float, decay: float) -> Tensor:
    """Return alpha - lr (gradient + decay alpha), within 0 and 1; a scalar."""
    moved = alpha.detach() - lr * (gradient + decay * alpha.detach())
    return moved.clamp(0, 1)
