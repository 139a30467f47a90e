"""The head of a classifier, for methods that share it alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from fedkd.config import Config
from fedkd.errors import ConfigError, NotApplicableError
from fedkd.ops.optimisers import Sgd
from fedkd.payload import Weights


class HeadTraining(Config):
    """How a head is trained on features that do not change."""

    steps: int = Field(500, ge=0)
    """Steps of SGD on the last layer; 0 leaves the model as it was."""
    batch_size: int = Field(64, ge=1)
    """Features in a step."""
    lr: float = Field(0.01, ge=0)
    """Learning rate of these steps."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Their momentum."""
    weight_decay: float = Field(0.0, ge=0)
    """Their L2 penalty."""


def head_of(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return what maps features ``[B, D]`` to logits ``[B, classes]``."""
    head: Callable[[Tensor], Tensor] = model.head  # type: ignore[assignment]
    return head


def features_of(model: nn.Module, x: Tensor) -> Tensor:
    """Map images ``[B, C, H, W]`` to a classifier's features ``[B, D]``."""
    features_BD: Tensor = model.features(x)  # type: ignore[operator]
    return features_BD


def feature_size(model: nn.Module) -> int:
    """Return D, the length of a feature vector.

    Raises:
        NotApplicableError: If the model is not made of features and a head.
    """
    size = getattr(model, "feature_size", None)
    if not isinstance(size, int) or not hasattr(model, "head"):
        raise NotApplicableError(
            "this strategy",
            "needs models made of features and a head, but "
            f"{type(model).__name__} is of one piece; give it feature_size, features and "
            "head.",
        )
    return size


def nonnegative_features(model: nn.Module) -> bool:
    """Return whether no entry of the model's features is ever negative.

    A model that does not say so may have features of both signs.
    """
    return bool(getattr(model, "nonnegative_features", False))


def head_entries(model: nn.Module) -> list[str]:
    """Return the names of the head's parameters, in the order of the model.

    They are those that the logits of given features depend on, whatever their names.
    """
    named = dict(model.named_parameters())
    like = next(iter(named.values()))
    with torch.enable_grad():
        logits_BC = head_of(model)(like.new_zeros(2, feature_size(model)))
        gradients = torch.autograd.grad(
            logits_BC.sum(), list(named.values()), allow_unused=True
        )
    used = zip(named, gradients, strict=True)
    return [name for name, gradient in used if gradient is not None]


def read_head(model: nn.Module) -> dict[str, Tensor]:
    """Return the head's parameters by position, ``"0"`` first, on the CPU.

    Positions and not names, so that heads of different architectures have equal entries.
    """
    parameters = [model.get_parameter(name) for name in head_entries(model)]
    return {
        str(i): value.detach().to("cpu", copy=True)
        for i, value in enumerate(parameters)
    }


@torch.no_grad()
def load_head(model: nn.Module, weights: Weights) -> nn.Module:
    """Copy parameters by position into the model's head, in place; return the model.

    Raises:
        ConfigError: If the heads have not the same parameters.
    """
    own = [model.get_parameter(name) for name in head_entries(model)]
    theirs = [weights[str(i)] for i in range(len(weights))]
    if [p.shape for p in own] != [value.shape for value in theirs]:
        raise ConfigError(
            f"cannot share the head: {type(model).__name__} has parameters of the shapes "
            f"{[tuple(p.shape) for p in own]}, the shared head of "
            f"{[tuple(value.shape) for value in theirs]}. Give all models heads of one "
            "kind."
        )
    for parameter, value in zip(own, theirs, strict=True):
        parameter.copy_(value)
    return model


def train_head(
    model: nn.Module,
    features: Tensor,
    labels: Tensor,
    how: HeadTraining,
    classes: Tensor | None = None,
) -> int:
    """Train a model's head, in place, by the cross-entropy on features and labels.

    Batches go through the features in an order that is shuffled anew for every pass.

    Args:
        model: Made of features and a head; the features are left alone. It is put into
            eval mode.
        features: ``[N, D]``.
        labels: Int64 ``[N]``.
        how: Amounts and rates.
        classes: Those of the softmax, ascending, int64 ``[c]``; the rows of others get no
            gradient. All of them if None.

    Returns:
        The features that went through a step.
    """
    parameters = [model.get_parameter(name) for name in head_entries(model)]
    device = parameters[0].device
    features, labels = features.to(device), labels.to(device)
    if classes is not None:
        classes = classes.to(device)
        labels = torch.searchsorted(classes, labels)
    sgd = Sgd(lr=how.lr, momentum=how.momentum, weight_decay=how.weight_decay)
    stepper = sgd.start(parameters)
    head = head_of(model)
    model.eval()
    number = 0
    for chosen in _chosen(len(labels), how.batch_size, how.steps):
        logits = head(features[chosen])
        if classes is not None:
            logits = logits[:, classes]
        stepper.step(functional.cross_entropy(logits, labels[chosen]))
        number += len(chosen)
    stepper.zero_grad()
    return number


def _chosen(number: int, size: int, steps: int) -> Iterator[Tensor]:
    """Yield positions of ``steps`` batches, pass after pass, each shuffled anew."""
    done = 0
    while done < steps:
        for chosen in torch.randperm(number).split(size)[: steps - done]:
            yield chosen
            done += 1
