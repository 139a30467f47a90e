"""Weights in and out of a module, without walking through its layers each time.

``state_dict`` builds names and runs hooks anew at each call, which for a small network
costs as much as a training step. Here the entries of a module are found once; later calls
look up its parameters and buffers where they are kept.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from fedkd.errors import ContractError, listing, suggestion
from fedkd.payload import Weights

_Slot = tuple[str, MutableMapping[str, Tensor | None], str]
"""Name of an entry, and the mapping and key where the module keeps it."""


class _Layout:
    """Where a module keeps its entries."""

    def __init__(self, module: nn.Module) -> None:
        # Not the module itself: the cache below would keep it alive.
        self._layers = [
            (layer._parameters, layer._buffers, layer._modules)
            for layer in module.modules()
        ]
        self._shape = self._measured()
        self.slots = _slots(module)
        """None if the module's state is more than its parameters and buffers."""

    def holds(self) -> bool:
        """Say whether no layer, parameter or buffer came, went or was exchanged."""
        return self._shape == self._measured()

    def _measured(self) -> list[Any]:
        return [
            (len(parameters), len(buffers), *children.values())
            for parameters, buffers, children in self._layers
        ]


_layouts: WeakKeyDictionary[nn.Module, _Layout] = WeakKeyDictionary()


def _slots(module: nn.Module) -> list[_Slot] | None:
    """Return the entries of ``state_dict`` in its order; None if they are not all there.

    Hooks and extra state may put anything into a state.
    """
    slots: dict[str, _Slot] = {}
    for path, layer in module.named_modules(remove_duplicate=False):
        front = f"{path}." if path else ""
        passing = layer._non_persistent_buffers_set
        for group, left_out in ((layer._parameters, ()), (layer._buffers, passing)):
            held = [key for key, value in group.items() if value is not None]
            slots |= {
                front + key: (front + key, group, key)
                for key in held
                if key not in left_out
            }
    state = module.state_dict(keep_vars=True)
    same = list(slots) == list(state) and all(
        group[key] is state[name] for name, group, key in slots.values()
    )
    return list(slots.values()) if same else None


def entries(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield ``(name, tensor)`` as ``module.state_dict(keep_vars=True)`` has them."""
    layout = _layouts.get(module)
    if layout is None or not layout.holds():
        layout = _layouts[module] = _Layout(module)
    if layout.slots is None:
        yield from module.state_dict(keep_vars=True).items()
        return
    for name, group, key in layout.slots:
        value = group[key]
        if value is not None:
            yield name, value


@torch.no_grad()
def copy_weights(weights: Weights, model: nn.Module) -> None:
    """Copy entries into a model, in place; of none if one does not fit.

    Raises:
        ContractError: If ``weights`` is no mapping, or has an entry that the model has
            not, or one of another shape.
    """
    if not isinstance(weights, Mapping):
        raise ContractError(
            f"found {type(weights).__name__} in the place of weights; expected a mapping "
            "of entry names to tensors. Give it the payload's field that holds them."
        )
    own = dict(entries(model))
    for name, value in weights.items():
        if name not in own or own[name].shape != value.shape:
            raise ContractError(_misfit(name, value, own, type(model).__name__))
    for name, value in weights.items():
        # Without waiting for the device, which on the way back would be unsafe.
        own[name].copy_(value, non_blocking=value.device.type == "cpu")


def _misfit(name: str, value: Tensor, own: dict[str, Tensor], model: str) -> str:
    """Return a sentence on an entry that a model cannot take."""
    if name not in own:
        return (
            f"the weights have an entry {name!r}, which the model {model} has not."
            f"{suggestion(name, own)} It has: {listing(own)}. Give it weights of a model "
            "like it."
        )
    return (
        f"the weights have {name} of shape {list(value.shape)}; the model {model} "
        f"expects {list(own[name].shape)}. Give it weights of a model like it."
    )


def read_weights(model: nn.Module) -> dict[str, Tensor]:
    """Return a detached copy of a model's state on the CPU: ``{entry: tensor}``."""
    return {name: value.detach().to("cpu", copy=True) for name, value in entries(model)}


def frozen_copy(model: nn.Module, weights: Weights | None = None) -> nn.Module:
    """Return a copy of a model, in eval mode, whose parameters do not learn.

    Args:
        model: What is copied; it does not change.
        weights: What the copy holds in place of the model's; these are the model's own
            where None, or where they lack an entry.

    Raises:
        ContractError: If ``weights`` has an entry that the model has not, or one of
            another shape.
    """
    frozen = copy.deepcopy(model).eval().requires_grad_(False)
    if weights is not None:
        copy_weights(weights, frozen)
    return frozen


@contextmanager
def buffers_kept(model: nn.Module) -> Iterator[None]:
    """Put a model's buffers back at the end: passes inside move no running statistics."""
    kept = [buffer.clone() for buffer in model.buffers()]
    yield
    with torch.no_grad():
        for buffer, value in zip(model.buffers(), kept, strict=True):
            buffer.copy_(value)
