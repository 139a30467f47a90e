"""What a model says of the test set, and BatchNorm statistics for that."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fedkd.data.images import ClientData, LabelledSet
from fedkd.errors import ContractError, DivergedError
from fedkd.metrics.base import Predictions


@torch.inference_mode()
def predictions(
    model: nn.Module, data: LabelledSet, batch_size: int, indices: Tensor | None = None
) -> Predictions:
    """Return what ``model`` says of the test inputs.

    Args:
        model: Maps normalised inputs, ``[B, C, H, W]`` or ``[B, D]``, to logits
            ``[B, classes]``.
        data: The set whose test half is used.
        batch_size: Images at once.
        indices: Test positions ``[n]``; all of them if None.

    Raises:
        ContractError: If it gives anything but logits ``[B, classes]``.
        DivergedError: If a logit is not finite.
    """
    x, y = data.x_test, data.y_test
    if indices is not None:
        chosen = indices.to(x.device)
        x, y = x[chosen], y[chosen]
    if not len(y):
        return Predictions.of([torch.zeros(0, data.num_classes)], y)
    was_training = model.training
    model.eval()
    batches = []
    for inputs in x.split(batch_size):
        logits = model(data.normalise(inputs))
        _check_logits(logits, len(inputs), data.num_classes)
        batches.append(logits)
    model.train(was_training)
    return Predictions.of(batches, y)


def _check_logits(logits: object, number: int, num_classes: int) -> None:
    """Refuse what are no finite logits ``[number, num_classes]``."""
    shape = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if not isinstance(logits, Tensor) or shape != [number, num_classes]:
        raise ContractError(
            f"the measured model gives {shape} for {number} images; expected logits "
            f"[{number}, {num_classes}], one for each of the {num_classes} classes. "
            "Build the model with num_classes of the data."
        )
    if not torch.isfinite(logits).all():
        raise DivergedError("the measured model gives logits that are not finite.")


@dataclass(frozen=True)
class Reestimated:
    """A model with new BatchNorm statistics, and what they cost each client."""

    model: nn.Module
    bytes_up: int
    """For each layer a number of values, sums and sums of squares, in float64."""
    bytes_down: int
    """The model, and the new statistics of every layer but the last."""


@torch.no_grad()
def reestimated(
    model: nn.Module, clients: Iterable[ClientData], batch_size: int
) -> Reestimated:
    """Return a copy of ``model`` with BatchNorm statistics of the clients' data.

    Layer by layer, in the order in which they are called: every client runs the model
    up to the layer, with the new statistics in the layers before it, and sends the
    moments of what the layer is given; their mean and (biased) variance over all
    clients' images are the layer's statistics from then on. So each layer has those of
    its own input, as in one train-mode pass over the pooled data as a single batch. It
    takes a pass, and an exchange, for each layer. Weights stay; without clients all
    does, and that is a warning if there are such layers.

    Args:
        model: Maps normalised images ``[B, C, H, W]`` to logits ``[B, classes]``.
        clients: Whose training images count.
        batch_size: Images at once; the result does not depend on it.
    """
    measured, shards = copy.deepcopy(model).eval(), list(clients)
    waiting = {m for m in measured.modules() if _has_statistics(m)}
    if waiting and not shards:
        text = (
            "in a round for which nobody could be sampled nobody re-estimates BatchNorm "
            "statistics: the model is measured with averaged ones."
        )
        warnings.warn(text, RuntimeWarning, stacklevel=2)
    down = sum(t.numel() * t.element_size() for t in measured.state_dict().values())
    up = last = 0
    while waiting and (layer := _next_layer(measured, waiting, shards, batch_size)):
        waiting.remove(layer)
        up += 8 * (1 + 2 * layer.num_features)
        last = 2 * 4 * layer.num_features
        down += last
    return Reestimated(measured, up, down - last)


def _has_statistics(layer: nn.Module) -> bool:
    return isinstance(layer, _BatchNorm) and layer.running_mean is not None


class _Reached(Exception):
    """The forward pass is at the layer that is measured; the rest is not needed."""


def _next_layer(
    model: nn.Module,
    waiting: Iterable[nn.Module],
    shards: Iterable[ClientData],
    batch_size: int,
) -> _BatchNorm | None:
    """Measure the first of the waiting layers that is called; None if none is."""
    moments: dict[nn.Module, list[Tensor]] = {}

    def add(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        rows = inputs[0].transpose(0, 1).flatten(1).double()
        new = [rows.new_tensor(rows.shape[1]), rows.sum(1), rows.pow(2).sum(1)]
        before = moments.get(layer, [torch.zeros_like(moment) for moment in new])
        moments[layer] = [a + b for a, b in zip(before, new, strict=True)]
        raise _Reached

    handles = [layer.register_forward_pre_hook(add) for layer in waiting]
    for shard in shards:
        for x, _ in shard.inputs(batch_size):
            with contextlib.suppress(_Reached):
                model(x)
    for handle in handles:
        handle.remove()
    for layer, (number, total, squares) in moments.items():
        assert isinstance(layer, _BatchNorm)
        assert layer.running_mean is not None
        assert layer.running_var is not None
        mean = total / number
        layer.running_mean.copy_(mean)
        layer.running_var.copy_((squares / number - mean.pow(2)).clamp(min=0))
        return layer
    return None
