"""Hooks on modules, which batched and replayed calls would run otherwise, or not at all."""

from __future__ import annotations

from torch import nn


def has_hooks(model: nn.Module) -> bool:
    """Say whether anybody listens to a layer of ``model``, forward or backward."""
    return any(
        layer._forward_hooks
        or layer._forward_pre_hooks
        or layer._backward_hooks
        or layer._backward_pre_hooks
        for layer in model.modules()
    )
