"""The one loop over steps or epochs of local training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from fedkd.config import Config
from fedkd.data.images import ClientData, Draw
from fedkd.errors import ContractError, DivergedError, counted
from fedkd.ops.optimisers import Optimiser, Sgd
from fedkd.ops.schedules import Rates, Schedule

LossFunction: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""``loss(logits [B, C], labels [B]) -> scalar``."""
Objective: TypeAlias = Callable[
    [nn.Module, Tensor, Tensor], tuple[Tensor, Tensor | None]
]
"""``objective(model, images [B, C, H, W], labels [B]) -> (criterion, term)``, two scalars
whose sum is minimised; only the first is reported as the loss. The term is None in all
steps or in none."""
Penalty: TypeAlias = Callable[[nn.Module], Tensor]
"""``penalty(model) -> scalar``, a term on the weights."""
GradientHook: TypeAlias = Callable[[nn.Module], None]
"""``gradient(model)``: changes ``p.grad`` of the model's parameters in place. It is None
where the loss does not reach a parameter."""


class TrainingConfig(Config):
    """Local training of a client. A new SGD optimiser starts in every round."""

    local_steps: int | None = Field(None, ge=1)
    """Optimiser steps a round; the client's data is passed over as often as needed."""
    local_epochs: int | None = Field(None, ge=1)
    """Passes over the client's data a round. Give this or ``local_steps``."""
    batch_size: int = Field(64, ge=1)
    """Images in a step; a client with fewer uses all it has."""
    drop_last: Literal["singleton", "always", "never"] = "singleton"
    """Which short batch at the end of a pass is left out: one of a single image
    (batch normalisation cannot use it), any, or none."""
    lr: float = Field(0.01, gt=0)
    """Learning rate of SGD."""
    momentum: float = Field(0.0, ge=0, lt=1)
    """Momentum of SGD; it starts at zero in every round."""
    weight_decay: float = Field(1e-4, ge=0)
    """L2 weight decay of SGD."""
    clip_norm: float | None = Field(None, gt=0)
    """Largest gradient norm; None for no clipping."""
    lr_decay: float = Field(1.0, gt=0, le=1)
    """Factor on the learning rate per round."""
    lr_from_round: Rates = Field(default_factory=dict)
    """Learning rates that take over from a round on, from 0: ``{60: 0.001}``."""
    augment: bool = True
    """Whether training images are augmented as their data set prescribes."""

    @model_validator(mode="after")
    def _exactly_one_amount(self) -> TrainingConfig:
        if (self.local_steps is None) == (self.local_epochs is None):
            raise ValueError(
                "expected exactly one of local_steps and local_epochs, found "
                f"local_steps={self.local_steps} and local_epochs={self.local_epochs}"
            )
        return self

    def at_round(self, index: int) -> TrainingConfig:
        """Return these settings with the learning rate of round ``index``."""
        schedule = Schedule(decay=self.lr_decay, rates=self.lr_from_round)
        return self.model_copy(update={"lr": schedule.rate(self.lr, index)})

    @property
    def optimiser(self) -> Sgd:
        """These settings' optimiser, at the rate ``lr``."""
        return Sgd(lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay)


def steps_of(training: TrainingConfig, images: int) -> int:
    """Return the optimiser steps of a round of a client with so many images."""
    if training.local_steps is not None:
        return training.local_steps
    batches, short = divmod(images, training.batch_size)
    dropped = training.drop_last == "always" or (
        training.drop_last == "singleton" and short == 1
    )
    if short and not (dropped and batches):
        batches += 1
    return batches * (training.local_epochs or 1)


@dataclass(frozen=True)
class TrainingReport:
    """What a call to :func:`train` did."""

    loss: float
    """Mean over the steps of the criterion alone, without the penalty."""
    examples: int
    """Images that went through a step."""
    steps: int
    """Optimiser steps."""
    penalty: float | None = None
    """Mean penalty over the steps; None if there was none."""


def train(  # noqa: PLR0913 - the parts of one loop, each of which may be given
    model: nn.Module,
    data: ClientData,
    training: TrainingConfig,
    loss: LossFunction | None = None,
    penalty: Penalty | None = None,
    *,
    objective: Objective | None = None,
    gradient: GradientHook | None = None,
    optimiser: Optimiser | None = None,
) -> TrainingReport:
    """Train ``model`` in place on ``data``, in train mode, by the settings' SGD.

    Args:
        model: Maps images ``[B, C, H, W]`` to logits ``[B, classes]``.
        data: The client's data.
        training: Amount of work and optimiser settings.
        loss: ``loss(logits, labels)``; cross-entropy if None.
        penalty: ``penalty(model)``, added to each step's loss if not None.
        objective: In place of ``loss``, for what needs the images themselves or more of
            the model than its logits: ``objective(model, images, labels)`` returns the
            criterion and a term beside it, or None throughout. The model may be of any
            kind then, several networks in a ``ModuleDict`` too.
        gradient: ``gradient(model)``, called in each step after the backward pass and
            before clipping; may change the gradients in place.
        optimiser: Used in place of the settings' SGD, its learning rate included.

    Raises:
        ContractError: If both a loss and an objective are given.
        DivergedError: If the mean loss, or the mean penalty, is not finite.
    """
    goal = _goal(loss, penalty, objective)
    how = training.optimiser if optimiser is None else optimiser
    stepper = how.start(p for p in model.parameters() if p.requires_grad)
    hook = None if gradient is None else partial(gradient, model)
    model.train()
    total, pulled = torch.zeros(2, device=data.device)
    examples = steps = 0
    term: Tensor | None = None
    for draw in draws_of(data, training):
        x, y = data.made(draw)
        stepper.zero_grad()  # else they take memory beside the forward pass
        value, term = goal(model, x, y)
        whole = value
        if term is not None:
            whole = value + term
            pulled += term.detach()
        stepper.step(whole, training.clip_norm, hook)
        total += value.detach()
        examples += len(y)
        steps += 1
    mean = _finite_mean("training loss", float(total), steps, how.lr)
    if term is None:
        return TrainingReport(mean, examples, steps)
    added = _finite_mean("penalty", float(pulled), steps, how.lr)
    return TrainingReport(mean, examples, steps, added)


def _goal(
    loss: LossFunction | None, penalty: Penalty | None, objective: Objective | None
) -> Objective:
    """Return what a step minimises, in its two parts.

    Raises:
        ContractError: If both a loss and an objective are given.
    """
    if loss is not None and objective is not None:
        raise ContractError(
            "training was given a loss and an objective; expected one of them. Compute "
            "the loss of the logits inside the objective."
        )
    criterion = F.cross_entropy if loss is None else loss

    def goal(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor | None]:
        if objective is None:
            value, term = criterion(model(x), y), None
        else:
            value, term = objective(model, x, y)
        if penalty is None:
            return value, term
        pull = penalty(model)
        return value, pull if term is None else term + pull

    return goal


def report_of(
    total: float, examples: int, steps: int, training: TrainingConfig
) -> TrainingReport:
    """Return the report of steps whose losses add up to ``total``.

    Raises:
        DivergedError: If the mean loss is not finite.
    """
    mean = _finite_mean("training loss", total, steps, training.lr)
    return TrainingReport(mean, examples, steps)


def _finite_mean(what: str, total: float, steps: int, lr: float) -> float:
    """Return the mean of what the steps add up to.

    Raises:
        DivergedError: If it is not finite.
    """
    mean = total / max(steps, 1)
    if not math.isfinite(mean):
        raise DivergedError(
            f"the {what} became {mean} within {counted(steps, 'step')} at learning rate "
            f"{lr:g}; "
            "lower the rate or set training.clip_norm."
        )
    return mean


def draws_of(data: ClientData, training: TrainingConfig) -> Iterator[Draw]:
    """Draw the batches of a client's round, which :meth:`ClientData.made` makes."""
    return data.draws(
        training.batch_size,
        steps=training.local_steps,
        epochs=training.local_epochs,
        drop_last=training.drop_last,
        augment=training.augment,
    )
