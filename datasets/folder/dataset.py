"""Your own images: a folder for each class, or the arrays of a NumPy file."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from fedkd.base.bounds import refuse_links_outside
from fedkd.base.files import spelled
from fedkd.data.checks import normalisation_fault, repeats
from fedkd.data.dataset import DatasetConfig, FileDataset, Source, Split
from fedkd.data.groups import Groups
from fedkd.data.images import Augmentation
from fedkd.datasets import npz
from fedkd.datasets.folder import arrays, contents, files, images
from fedkd.errors import BoundsError, ConfigError, DataError

PIECE = 4_000_000
"""Bytes of images that are decoded at once to find their mean."""


class FolderConfig(DatasetConfig):
    """Options of your own images."""

    path: str = Field(min_length=1)
    """A folder with ``train/<class>/*`` and ``test/<class>/*``, or a file ``.npz`` with
    ``x_train``, ``y_train``, ``x_test`` and ``y_test``, or MedMNIST's
    ``train_images``, ``train_labels``, ``test_images`` and ``test_labels``; relative to
    the current folder."""
    resolution: int | None = Field(None, ge=1)
    """Height and width that all images are stretched to, bilinearly with antialiasing;
    None keeps them, if all have one size."""
    channels: Literal[1, 3] | None = None
    """1 for grey, 3 for colour; None for those of the first training image."""
    mean: tuple[float, ...] | None = None
    """Per channel, of images scaled to [0, 1]; None to compute mean and deviation from
    the training pixels."""
    std: tuple[float, ...] | None = None
    """Per channel, of images scaled to [0, 1]. Give both or neither."""
    pad: int = Field(0, ge=0)
    """Zero padding of training images, in pixels, before a random crop; 0 for none."""
    flip: bool = False
    """Whether training images are mirrored left to right at random."""
    links: bool = False
    """Whether links that lead out of the folder are followed; they are refused else. Those
    that lead to another place in it always are."""
    younger_options: ClassVar[frozenset[str]] = frozenset({"links"})

    @field_validator("path")
    @classmethod
    def _spelled_once(cls, path: str) -> str:
        return spelled(path)

    @model_validator(mode="after")
    def _mean_and_deviation_go_together(self) -> FolderConfig:
        if (self.mean is None) != (self.std is None):
            raise ValueError("expected mean and std, or neither; found one of them")
        if self.std is not None and min(self.std, default=0) <= 0:
            raise ValueError("expected values of std above 0")
        fault = normalisation_fault(self.mean or (), self.std or ())
        if fault:
            raise ValueError(fault)
        return self


class Folder(FileDataset):
    """Your own images: ``train/<class>/*`` and ``test/<class>/*``, or an ``.npz``.

    Named with its path, ``folder:PATH``. In a folder, classes are the names of the
    folders in ``train``, sorted. Images are read as a viewer shows them: turned as their
    EXIF data say, on white where they are transparent, and the first of several pages;
    what is left out is counted in a note. In an ``.npz``, arrays are called as Keras or
    MedMNIST call them. Images are uint8, ``[N, H, W]``, ``[N, H, W, C]`` or
    ``[N, C, H, W]``: C is the axis of length 1 or 3. Labels are whole numbers from 0,
    ``[N]`` or ``[N, 1]``, and an array ``classes`` may name them. Arrays ``groups_train``
    and ``groups_test`` may say whose each image is: names or numbers, ``[N]``.

    Unless given, mean and standard deviation are those of all training pixels, found in
    a pass over the training images that keeps none of them; each is decoded twice then.
    """

    name = "folder"
    Config = FolderConfig
    argument = "path"
    preparation = 4
    # 1 took grey palettes for colour, 2 showed photos as they lie, 3 knew no groups

    def open(self, root: Path) -> Source:
        """See :meth:`FileDataset.open`; ``root`` is not looked at."""
        del root
        train, test, classes, notes, groups = self._halves()
        mean, std = self._normalisation(train, notes)
        augmentation = Augmentation(self.config.pad, self.config.flip)
        return Source(train, test, classes, mean, std, augmentation, notes, groups)

    def fingerprint(self, root: Path) -> str:
        """See :meth:`FileDataset.fingerprint`; of names, sizes and times."""
        del root
        path = self._path()
        return contents.stamp_of(str(path.resolve()), self._facts(path))

    def key_options(self) -> dict[str, Any]:
        """See :meth:`FileDataset.key_options`; with the absolute path."""
        path = Path(self.config.path).expanduser().resolve()
        options = {**super().key_options(), "path": str(path)}
        del options["links"]  # changes no image
        return options

    def content(self) -> str:
        """See :meth:`Dataset.content`; of names and bytes.

        All of them are read, but once in a process unless the files change.
        """
        path = self._path()

        def read() -> str:
            if path.is_dir():
                return files.digest_of(path)
            return npz.digest_of(path)

        place = str(path.resolve())
        return contents.remembered(place, self._facts(path), read)

    def _facts(self, path: Path) -> Iterable[contents.Facts]:
        if path.is_dir():
            return files.facts_of(path)
        return [(path.name, path.stat())]

    def _path(self) -> Path:
        path = Path(self.config.path).expanduser()
        if path.is_dir() and not self.config.links:
            self._refuse_links(path)
        if path.is_dir() or (path.is_file() and path.suffix.lower() == ".npz"):
            return path
        problem = "is another file" if path.exists() else "is not there"
        raise DataError(
            f"folder: {path} {problem}; expected a folder with train/<class>/* and "
            "test/<class>/*, or a file that ends in .npz."
        )

    def _refuse_links(self, path: Path) -> None:
        try:
            refuse_links_outside(path, *files.HALVES)
        except BoundsError as error:
            hint = "If its images may be used, set the option links to true."
            raise BoundsError(f"folder: {error} {hint}") from None

    def _halves(
        self,
    ) -> tuple[Split, Split, tuple[str, ...], tuple[str, ...], Groups | None]:
        """Return both halves, the class names, what is to be said, and the groups."""
        path, config = self._path(), self.config
        if path.is_dir():
            *halves, classes = files.find_halves(path)
            form = images.form_of(
                halves[0].files[0], config.channels, config.resolution
            )
            train, test = (images.split_of(half, classes, form) for half in halves)
            return train, test, classes, _notes(path, *halves), None
        held = arrays.read_images(path)
        form = arrays.form_like(path, held.train[0], config.channels, config.resolution)
        train, test = (arrays.split_of(half, form) for half in (held.train, held.test))
        return train, test, held.classes, held.notes, held.groups

    def _normalisation(
        self, train: Split, notes: tuple[str, ...]
    ) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return mean and standard deviation by channel: as given, or computed."""
        mean, std = self.config.mean, self.config.std
        if mean is None:
            return self._computed(train, notes)
        channels = train.shape[0]
        if not len(mean) == len(std) == channels:
            raise ConfigError(
                f"folder: found {len(mean)} values of mean and {len(std)} of std, "
                f"expected {channels}, one for each channel of the images."
            )
        return mean, std

    def _computed(
        self, train: Split, notes: tuple[str, ...]
    ) -> tuple[tuple[float, ...], tuple[float, ...]]:
        counts = histogram(train)
        levels = np.arange(256) / 255
        shares = counts / counts.sum(1, keepdims=True)
        mean = shares @ levels
        std = np.sqrt((shares * (levels - mean[:, None]) ** 2).sum(1))
        if not std.min() > 0:
            raise DataError(
                f"folder: all training images of {self._path()} have one value in "
                f"channel {std.argmin()}; expected pictures. "
                + " ".join([*notes, "Set mean and std to use them as they are."])
            )
        return tuple(mean.tolist()), tuple(std.tolist())


def _notes(path: Path, train: files.Half, test: files.Half) -> tuple[str, ...]:
    """Return what is to be said of the files of a folder: left out, pages, twice."""
    notes = files.left_out(path)
    pages = images.several_pages([*train.files, *test.files])
    if pages:
        of = "1 file has" if pages == 1 else f"{pages:,} files have"
        notes += (f"{of} several pages; of each the first page is used.",)
    return notes + repeats(files.repeated(train, test), len(test.files))


def histogram(half: Split) -> NDArray[np.int64]:
    """Count how often each channel has each value, int64 ``[C, 256]``, piece by piece."""
    number, channels = len(half.labels), half.shape[0]
    step = max(1, PIECE // int(np.prod(half.shape)))

    def count(start: int) -> NDArray[Any]:
        pixels = half.read(start, min(start + step, number)).numpy()
        return np.stack(
            [np.bincount(pixels[:, c].ravel(), minlength=256) for c in range(channels)]
        )

    total = np.zeros((channels, 256), np.int64)
    with ThreadPoolExecutor() as pool:
        for counts in pool.map(count, range(0, number, step)):
            total += counts
    return total
