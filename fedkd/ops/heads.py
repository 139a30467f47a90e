"""The head of a classifier, for methods that share it alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from fedkd.errors import ConfigError
from fedkd.payload import Weights


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
        ConfigError: If the model is not made of features and a head.
    """
    size = getattr(model, "feature_size", None)
    if not isinstance(size, int) or not hasattr(model, "head"):
        raise ConfigError(
            f"model {type(model).__name__} has no feature_size and head; this strategy "
            "works on features. Choose a model that is made of features and a head."
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
