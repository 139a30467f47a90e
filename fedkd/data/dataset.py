"""What a data set is: its files, how they are read, and which part of them is used."""

from __future__ import annotations

import functools
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from fedkd.base.partial import named_part
from fedkd.base.shown import brief
from fedkd.config import Config, options_text
from fedkd.data.checks import remarks, repeated, repeats
from fedkd.data.groups import Groups
from fedkd.data.images import Augmentation, ImageSet, ImageShape, LabelledSet
from fedkd.data.subsets import DatasetConfig as DatasetConfig  # noqa: PLC0414 - sets say it
from fedkd.data.subsets import subset
from fedkd.errors import DataError


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
    notes: tuple[str, ...] = ()
    """What a reader of results should know of the files: a sentence each."""
    groups: Groups | None = None
    """Whose, or of which domain, each image is; None if nobody knows."""

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
            augmentation=self.augmentation,
            notes=self.notes,
            groups=self.groups,
        )


def _digest(whole: LabelledSet) -> str:
    """Return the SHA-256 of all values and labels, hexadecimal."""
    digest = hashlib.sha256()
    for part in (whole.x_train, whole.y_train, whole.x_test, whole.y_test):
        digest.update(part.contiguous().cpu().numpy().data)
    return digest.hexdigest()


def finished(whole: object, reader: Dataset) -> LabelledSet:
    """Return the part of a whole set that its options ask for, with all notes on it.

    Args:
        whole: What the data set has read from its files.
        reader: The data set.

    Raises:
        ConfigError: If the set has no such part.
        DataError: If it is none.
    """
    if not isinstance(whole, LabelledSet):
        raise DataError(
            f"a data set was loaded as {type(whole).__name__}, expected an ImageSet or "
            "a VectorSet; return one from load."
        )
    labels = {"training": whole.y_train, "test": whole.y_test}
    seen = remarks(whole.classes, labels, whole.noun)
    notes = dict.fromkeys((*whole.notes, *reader.notes_on_part(whole), *seen))
    return subset(replace(whole, notes=tuple(notes)), reader.config)


def _finishing(load: Callable[..., LabelledSet]) -> Callable[..., LabelledSet]:
    """Return a ``load`` that finishes what it gives to others than subclasses."""

    @functools.wraps(load)
    def outer(self: Dataset, root: Path) -> LabelledSet:
        whole = load(self, root)
        if type(self).load is not outer:  # called by the load of a subclass
            return whole
        if isinstance(whole, LabelledSet) and not isinstance(self, FileDataset):
            # Those in files tell it themselves, and are not read to the end here.
            number = repeated(whole.x_train, whole.x_test)
            twice = repeats(number, len(whole.x_test), whole.noun)
            whole = replace(whole, notes=(*whole.notes, *twice))
        return finished(whole, self)

    return outer


class Dataset(ABC):
    """A benchmark data set: knows its files and reads them. Subclasses are final."""

    Config: ClassVar[type[Config]] = DatasetConfig
    """Options of the set."""
    files: ClassVar[dict[str, int]] = {}
    """The files it needs under the data root, with their sizes in bytes."""
    places: ClassVar[tuple[str, ...]] = ()
    """Files or folders under the data root, the first of which that is there holds the
    set; for sets that cannot list their :attr:`files`."""
    published: ClassVar[tuple[int, int] | None] = None
    """How many training and test images were published, of a set whose files may hold a
    part of them; results then say which."""
    paper: ClassVar[str] = ""
    """Whoever uses the set cites it: last names of the authors, title in quotes, venue and
    year, arXiv id or DOI, as after ``Paper:`` in the module of a strategy; else empty."""
    argument: ClassVar[str] = ""
    """The option that ``NAME:VALUE`` sets where a set is named; none if empty."""

    def __init__(self, config: Any = None) -> None:
        self.config: Any = self.Config() if config is None else config

    def __repr__(self) -> str:
        """Return the class, and the options that differ from their defaults."""
        return brief(self, options_text(self.config))

    def __init_subclass__(cls, **arguments: Any) -> None:
        """Have what the subclass loads checked, and cut to the part asked for."""
        super().__init_subclass__(**arguments)
        if "load" in vars(cls):
            cls.load = _finishing(cls.load)  # type: ignore[method-assign]

    @abstractmethod
    def load(self, root: Path) -> LabelledSet:
        """Read the set from its files under ``root``.

        A subclass returns the whole set, an :class:`~fedkd.data.images.ImageSet` or a
        :class:`~fedkd.data.vectors.VectorSet`. Whoever calls it gets the part that the
        options of :class:`DatasetConfig` ask for, with notes on what is odd about the
        data.

        Raises:
            DataError: If a file is missing or damaged; names it, what was expected and
                the command that prepares the set.
        """

    def notes_on_part(self, whole: LabelledSet) -> tuple[str, ...]:
        """Return a sentence if the files hold a part of what was published, else none.

        It ends with the first digits of a SHA-256 of that part: a published checksum
        holds a whole set fast, but nothing else says that two runs saw equal parts.

        Args:
            whole: What they hold.
        """
        there = (len(whole.y_train), len(whole.y_test))
        if self.published is None or there == self.published:
            return ()
        train, test = (
            f"{number:,} of {every:,}"
            for number, every in zip(there, self.published, strict=True)
        )
        return (
            f"the files hold {train} published training {whole.noun}s and {test} test "
            f"{whole.noun}s: no results on the published set "
            f"{named_part(_digest(whole))}.",
        )

    def content(self) -> str:
        """Return a digest of the files that the options name; "" if they name none.

        It is part of what a run is told, so that other content makes another run. Files
        under the data root need none: the set holds them against what was published, and
        a part of it is told apart by a note (:meth:`notes_on_part`).

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

    def holds_part(self, root: Path) -> bool:
        """Say whether the files under ``root`` are sound but a part of what is published.

        By their numbers and headers: no image is read. A set that accepts a part says so
        in its options.

        Raises:
            DataError: If a file is damaged.
        """
        del root
        return False

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
        """Read the set into memory; see :meth:`Dataset.load`."""
        return self.whole(root)

    def whole(self, root: Path) -> ImageSet:
        """Read the whole set into memory, whatever part of it the options ask for.

        Raises:
            DataError: As :meth:`Dataset.load` does.
        """
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
