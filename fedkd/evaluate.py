"""Accuracy on the test set. Nothing else in fedkd measures."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fedkd.data import ClientData, ImageSet
from fedkd.errors import DivergedError


@torch.inference_mode()
def correct(
    model: nn.Module, data: ImageSet, batch_size: int, indices: Tensor | None = None
) -> Tensor:
    """Say for each test image whether ``model`` classifies it rightly.

    Args:
        model: Maps normalised images ``[B, C, H, W]`` to logits ``[B, classes]``.
        data: The set whose test half is used.
        batch_size: Images at once.
        indices: Test positions ``[n]``; all of them if None.

    Returns:
        Booleans ``[n]`` on the CPU.

    Raises:
        DivergedError: If a logit is not finite.
    """
    was_training = model.training
    model.eval()
    x, y = data.x_test, data.y_test
    if indices is not None:
        chosen = indices.to(x.device)
        x, y = x[chosen], y[chosen]
    hits = []
    for images, labels in zip(x.split(batch_size), y.split(batch_size), strict=True):
        logits = model(data.normalise(images))
        if not torch.isfinite(logits).all():
            raise DivergedError(
                "the measured model gives logits that are not finite; lower the "
                "learning rate or set training.clip_norm."
            )
        hits.append(logits.argmax(1) == labels)
    model.train(was_training)
    return torch.cat(hits).cpu()


def percent(hits: Tensor) -> float:
    """Return the share of True in booleans ``[n]``, in percent."""
    return 100.0 * float(hits.sum()) / max(len(hits), 1)


@torch.no_grad()
def reestimated(
    model: nn.Module, clients: Iterable[ClientData], batch_size: int
) -> nn.Module:
    """Return a copy of ``model`` with BatchNorm statistics of the clients' data.

    One pass over the training images of the clients, cumulative averages of the batch
    statistics (``momentum=None``); weights stay. This is what clients that each send
    the moments of their data would give; nothing of the test set enters.
    """
    measured = copy.deepcopy(model).eval()
    layers = [m for m in measured.modules() if isinstance(m, _BatchNorm)]
    if not layers:
        return measured
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
        layer.train()
    for client in clients:
        for x, _ in client.images(batch_size):
            if len(x) > 1:
                measured(x)
    return measured.eval()
