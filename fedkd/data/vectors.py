"""Vectors, such as embeddings of texts or rows of a table, as float32 on the device.

The counterpart of :mod:`fedkd.data.images` for inputs that are no images: a batch is one
gather and a shift and scale by training mean and deviation. Nothing is augmented.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from fedkd.base.shown import brief
from fedkd.data.checks import VECTORS, Inputs
from fedkd.data.labelled import LabelledInputs


@dataclass(frozen=True, repr=False)
class VectorSet(LabelledInputs):
    """A whole data set: ``x_*`` float32 ``[N, D]``, ``y_*`` int64 ``[N]``.

    :func:`vector_moments` has mean and deviation of the training vectors.
    """

    kind: ClassVar[Inputs] = VECTORS
    noun: ClassVar[str] = VECTORS.noun

    def __repr__(self) -> str:
        """Return name, sizes, shape and classes: not the vectors."""
        sizes = f"{len(self.y_train):,} training and {len(self.y_test):,} test vectors"
        length = f"length {self.shape[0]}"
        return brief(self, self.name, sizes, length, f"{self.num_classes} classes")

    @property
    def shape(self) -> tuple[int]:
        """``(D,)`` of one vector."""
        return (self.x_train.shape[1],)

    @property
    def info(self) -> VectorInfo:
        """The public facts: shape, classes, normalisation."""
        return VectorInfo(self.shape, self.num_classes, self.mean, self.std)

    def normalise(self, vectors: Tensor) -> Tensor:
        """Map vectors ``[B, D]`` to what classifiers see."""
        return self.normaliser(vectors.device)(vectors)

    def normaliser(self, device: torch.device) -> Callable[[Tensor], Tensor]:
        """Return what maps float32 ``[B, D]`` on ``device`` to what classifiers see."""
        mean = torch.tensor(self.mean, device=device)
        std = torch.tensor(self.std, dtype=torch.float64)
        return partial(_standardised, mean, (1 / std).float().to(device))


@dataclass(frozen=True)
class VectorInfo:
    """What both sides may know of the vectors: public facts of the data set."""

    shape: tuple[int]
    """``(D,)``."""
    num_classes: int
    """Number of classes."""
    mean: tuple[float, ...]
    """Of each of the D values."""
    std: tuple[float, ...]
    """Of each of the D values."""

    def __repr__(self) -> str:
        """Return length and classes: not mean and deviation of each value."""
        return brief(self, f"length {self.shape[0]}", f"{self.num_classes} classes")


def vector_moments(x_train: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and deviation of each value of training vectors ``[N, D]``.

    The deviation divides by N, and is 1 for a value that never changes, which is 0 then.
    """
    x = x_train.double()
    std = x.std(dim=0, correction=0)
    constant = (x == x[:1]).all(dim=0)
    # Rounding gives a value that never changes a tiny deviation, not always 0.
    std = torch.where(constant, torch.ones_like(std), std)
    return tuple(x.mean(dim=0).tolist()), tuple(std.tolist())


def _standardised(mean: Tensor, scale: Tensor, x: Tensor) -> Tensor:
    # The mean first: values far from 0 with little spread would lose their digits.
    return (x - mean) * scale
