"""What data sets of images and of vectors have in common: two halves with labels."""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass, field, replace
from typing import ClassVar, TypeVar

import torch
from torch import Tensor

from fedkd.data.checks import Inputs, labels_of, require_sound
from fedkd.data.groups import Groups

_Set = TypeVar("_Set", bound="LabelledInputs")


@dataclass(frozen=True, repr=False)
class LabelledInputs(ABC):
    """A whole data set: ``x_*`` as its kind of inputs has them, ``y_*`` int64 ``[N]``."""

    kind: ClassVar[Inputs]
    """What its inputs are, and how they are checked."""
    noun: ClassVar[str]
    """What messages call one input."""

    name: str
    x_train: Tensor
    y_train: Tensor
    x_test: Tensor
    y_test: Tensor
    classes: tuple[str, ...]
    """Class names; label ``c`` is ``classes[c]``."""
    mean: tuple[float, ...]
    """Of images per channel, scaled to [0, 1]; of vectors for each of the D values."""
    std: tuple[float, ...]
    """Likewise; 1 for a value of vectors that never changes."""
    notes: tuple[str, ...] = field(default=(), kw_only=True)
    """What a reader of results should know of the data: a sentence each."""
    groups: Groups | None = field(default=None, kw_only=True)
    """Whose, or of which domain, each input is; None if nobody knows."""

    def __post_init__(self) -> None:
        """Check it; labels of other whole numbers, or ``[N, 1]``, become int64 ``[N]``.

        Raises:
            DataError: If it is not what its fields say.
        """
        for key in ("y_train", "y_test"):
            object.__setattr__(self, key, labels_of(getattr(self, key)))
        halves = {
            "train": (self.x_train, self.y_train),
            "test": (self.x_test, self.y_test),
        }
        require_sound(self.kind, self.name, halves, self.classes, (self.mean, self.std))
        if self.groups is not None:
            self.groups.require_fit(self.name, len(self.x_train), len(self.x_test))

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    def to(self: _Set, device: torch.device) -> _Set:
        """Return the set with its tensors on ``device``; no copy if they are there."""
        return replace(
            self,
            x_train=self.x_train.to(device),
            y_train=self.y_train.to(device),
            x_test=self.x_test.to(device),
            y_test=self.y_test.to(device),
        )
