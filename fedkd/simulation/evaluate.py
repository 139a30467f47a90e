"""What a model says of the test set, and BatchNorm statistics for that."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fedkd.data.images import ClientData, ImageSet
from fedkd.errors import ContractError, DivergedError
from fedkd.metrics.base import Predictions


@torch.inference_mode()
def predictions(
    model: nn.Module, data: ImageSet, batch_size: int, indices: Tensor | None = None
) -> Predictions:
    """Return what ``model`` says of the test images.

    Args:
        model: Maps normalised images ``[B, C, H, W]`` to logits ``[B, classes]``.
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
    for images in x.split(batch_size):
        logits = model(data.normalise(images))
        _check_logits(logits, len(images), data.num_classes)
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


@torch.no_grad()
def reestimated(
    model: nn.Module, clients: Iterable[ClientData], batch_size: int
) -> nn.Module:
    """Return a copy of ``model`` with BatchNorm statistics of the clients' data.

    One pass over the training images of the clients with the running statistics, in
    which every BatchNorm layer's inputs are counted, summed and squared; the mean and
    (biased) variance of all of them together take the place of the statistics. Weights
    stay. This is what clients that each send three moments would give.
    """
    measured = copy.deepcopy(model).eval()
    layers = [m for m in measured.modules() if isinstance(m, _BatchNorm)]
    moments: dict[nn.Module, list[Tensor]] = {}

    def add(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        rows = inputs[0].transpose(0, 1).flatten(1).double()
        new = [rows.new_tensor(rows.shape[1]), rows.sum(1), rows.pow(2).sum(1)]
        before = moments.get(layer, [torch.zeros_like(moment) for moment in new])
        moments[layer] = [a + b for a, b in zip(before, new, strict=True)]

    handles = [layer.register_forward_pre_hook(add) for layer in layers]
    for client in clients:
        for x, _ in client.images(batch_size):
            measured(x)
    for handle in handles:
        handle.remove()
    for layer in layers:
        if layer in moments and layer.running_mean is not None:
            number, total, squares = moments[layer]
            mean = total / number
            layer.running_mean.copy_(mean)
            assert layer.running_var is not None
            layer.running_var.copy_((squares / number - mean.pow(2)).clamp(min=0))
    return measured
