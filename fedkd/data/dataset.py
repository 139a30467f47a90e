"""What a data set is: its files, how they are read, and which part of them is used."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor

from fedkd.config import Config
from fedkd.data.images import Augmentation, ImageSet, ImageShape


class DatasetConfig(Config):
    """Options of every data set: which part of it is used."""

    fraction: float | None = Field(None, gt=0, le=1)
    """Share of the training images that is used, the same of each class; None for all.
    Give this or ``per_class``."""
    per_class: int | None = Field(None, ge=1)
    """Training images of each class that are used; None for all."""
    test_fraction: float | None = Field(None, gt=0, le=1)
    """Share of the test images that is used, the same of each class; None for all."""
    subset_seed: int = Field(0, ge=0)
    """Which images a subset holds; not the seed of a run, so that all runs share it."""

    @model_validator(mode="after")
    def _one_way_to_choose(self) -> DatasetConfig:
        if self.fraction is not None and self.per_class is not None:
            raise ValueError("expected fraction or per_class, found both; remove one")
        return self


@dataclass(frozen=True)
class Split:
    """The training or the test half in its files: images are read in pieces."""

    labels: Tensor
    """int64 ``[N]``."""
    shape: ImageShape
    """``(channels, height, width)`` of one image."""
    read: Callable[[int, int], Tensor]
    """``read(start, stop)`` gives images ``start`` to ``stop``, uint8 ``[n, C, H, W]``.
    It may be called from several threads at once, and raises
    :class:`~fedkd.errors.DataError`, naming the file, where one is damaged."""


@dataclass(frozen=True)
class Source:
    """A data set in its files, ready to be read in pieces."""

    train: Split
    test: Split
    classes: tuple[str, ...]
    """Class names; label ``c`` is ``classes[c]``."""
    mean: tuple[float, ...]
    """Per channel, of images scaled to [0, 1]."""
    std: tuple[float, ...]
    """Per channel, of images scaled to [0, 1]."""
    augmentation: Augmentation = field(default_factory=Augmentation)
    """What is done to training images."""

    def image_set(self, name: str, x_train: Tensor, x_test: Tensor) -> ImageSet:
        """Return the whole set with these images, uint8 ``[N, C, H, W]`` each."""
        return ImageSet(
            name,
            x_train,
            self.train.labels,
            x_test,
            self.test.labels,
            self.classes,
            self.mean,
            self.std,
            self.augmentation,
        )


class Dataset(ABC):
    """A benchmark data set: knows its files and reads them. Subclasses are final."""

    Config: ClassVar[type[Config]] = DatasetConfig
    """Options of the set."""
    files: ClassVar[dict[str, int]] = {}
    """The files it needs under the data root, with their sizes in bytes."""
    places: ClassVar[tuple[str, ...]] = ()
    """Files or folders under the data root, the first of which that is there holds the
    set; for sets that cannot list their :attr:`files`."""
    argument: ClassVar[str] = ""
    """The option that ``NAME:VALUE`` sets where a set is named; none if empty."""

    def __init__(self, config: Any = None) -> None:
        self.config: Any = self.Config() if config is None else config

    @abstractmethod
    def load(self, root: Path) -> ImageSet:
        """Read the set from its files under ``root``.

        Raises:
            DataError: If a file is missing or damaged; names it, what was expected and
                the command that prepares the set.
        """

    def content(self) -> str:
        """Return a digest of the files that the options name; "" if they name none.

        It is part of what a run is told, so that other content makes another run. Files
        under the data root need none: the set holds them against what was published.

        Raises:
            DataError: If a file is missing or damaged; the run that loads it fails then.
        """
        return ""

    def prepare(self, root: Path) -> None:
        """Fetch the files into ``root`` where the network allows; nothing by default.

        Raises:
            DataError: If they cannot be fetched.
        """
        del root

    def check(self, root: Path) -> None:
        """Verify the files under ``root`` as far as the set can; nothing by default.

        Raises:
            DataError: If a file is missing or damaged.
        """
        del root


class FileDataset(Dataset):
    """A data set whose images are read in pieces, so that it can be prepared once."""

    name: ClassVar[str]
    """The registered name, for messages and for the prepared files."""
    preparation: ClassVar[int] = 1
    """Raise it when the set reads other images, labels or facts from the same files:
    they are then prepared again."""

    @abstractmethod
    def open(self, root: Path) -> Source:
        """Look at the files under ``root``; images are read later, piece by piece.

        Raises:
            DataError: If a file is missing or damaged; names it, what was expected and
                the command that prepares the set.
        """

    @abstractmethod
    def fingerprint(self, root: Path) -> str:
        """Return a text that changes when the files under ``root`` do, in milliseconds.

        Raises:
            DataError: If a file is missing.
        """

    def key_options(self) -> dict[str, Any]:
        """Return the options that decide what is prepared, as plain JSON.

        Those of subsets are left out. A set whose options name a file or folder gives
        the absolute path, so that equal relative paths are not taken for one set.
        """
        options: dict[str, Any] = self.config.model_dump(mode="json")
        if isinstance(self.config, DatasetConfig):
            subset = DatasetConfig.model_fields
            options = {key: options[key] for key in options if key not in subset}
        return options

    def load(self, root: Path) -> ImageSet:
        """Read the whole set; see :meth:`Dataset.load`."""
        source = self.open(root)
        train, test = source.train, source.test
        return source.image_set(
            self.name,
            train.read(0, len(train.labels)),
            test.read(0, len(test.labels)),
        )


def in_memory(x: Tensor, y: Tensor) -> Split:
    """Return the half whose images are at hand, uint8 ``[N, C, H, W]``."""
    channels, height, width = x.shape[1:]

    def read(start: int, stop: int) -> Tensor:
        return x[start:stop]

    return Split(y.to(torch.int64), (channels, height, width), read)
