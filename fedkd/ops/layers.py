"""Layers with weights whose axes are known: convolutions, linear ones, normalisation."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def entries_by_layer(model: nn.Module) -> list[list[str]]:
    """Return the names of the entries of a model's state, layer by layer, from below.

    A layer is a module with parameters of its own, in the order in which the model has
    them. A normalisation, and what has buffers alone, belongs to the layer before it.
    """
    known = model.state_dict().keys()
    layers: list[list[str]] = []
    for path, module in model.named_modules():
        front = f"{path}." if path else ""
        weights = [front + n for n, _ in module.named_parameters(recurse=False)]
        own = weights + [front + n for n, _ in module.named_buffers(recurse=False)]
        own = [name for name in own if name in known]
        if not own:
            continue
        if layers and (is_norm(module) or not weights):
            layers[-1] += own
        else:
            layers.append(own)
    return layers


def is_known(layer: nn.Module) -> bool:
    """Say whether it is clear what the axes of this layer's weights are."""
    if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return (
            layer.groups == 1 or layer.groups == layer.in_channels == layer.out_channels
        )
    if isinstance(layer, nn.LayerNorm):
        return len(layer.normalized_shape) == 1
    return isinstance(layer, nn.Linear | nn.GroupNorm | _BatchNorm)


def is_by_channel(layer: nn.Module) -> bool:
    """Say whether output channel i of a known layer is made of input channel i alone.

    Normalisation over channels mixes their values, but not their weights.
    """
    if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return layer.groups > 1
    return not isinstance(layer, nn.Linear)


def is_norm(layer: nn.Module) -> bool:
    """Say whether a layer is a normalisation."""
    return isinstance(layer, nn.LayerNorm | nn.GroupNorm | _BatchNorm)


def sizes(layer: Any) -> tuple[int, int]:
    """Return the number of input and of output channels of a known layer."""
    if isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return layer.in_channels, layer.out_channels
    if isinstance(layer, nn.Linear):
        return layer.in_features, layer.out_features
    if isinstance(layer, nn.LayerNorm):
        return layer.normalized_shape[0], layer.normalized_shape[0]
    size: int = (
        layer.num_channels if isinstance(layer, nn.GroupNorm) else layer.num_features
    )
    return size, size


def channels_last(x: Tensor, layer: nn.Module) -> Tensor:
    """Return a view of a known layer's input or output with the channels last."""
    return x if isinstance(layer, nn.Linear | nn.LayerNorm) else x.movedim(1, -1)
