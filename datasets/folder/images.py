"""A folder of images by class: ``train/<class>/*`` and ``test/<class>/*``."""

from __future__ import annotations

import hashlib
import itertools
import os
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fedkd.data.dataset import Split
from fedkd.datasets.folder.contents import Facts, encoded
from fedkd.errors import DataError, listing

ENDINGS = (
    *(".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff"),
    ".webp",
)
"""Endings of the files that are images, in small or capital letters."""
_TOGETHER = 256
"""Files that a thread reads at a time: one costs less than handing it over."""
GREY = ("1", "L", "LA")
"""Pillow's modes of grey images; those of a palette may be grey, too."""
_PALETTE = ("P", "PA")
_DEEP = ("I", "F")
"""How Pillow's modes of more than 8 bits a channel start."""
_DECODING = (
    *(OSError, ValueError, SyntaxError, EOFError, IndexError, struct.error),
    *(zlib.error, Image.DecompressionBombError),
)
"""What Pillow raises on damaged images."""


@dataclass(frozen=True)
class Half:
    """The training or the test half: its files and their classes, in order."""

    name: str
    """``train`` or ``test``."""
    files: Sequence[str]
    classes: Sequence[str]
    """For each file, the name of its folder."""


@dataclass(frozen=True)
class Form:
    """What images become when they are read."""

    channels: int
    """1 for grey, 3 for colour."""
    height: int
    width: int
    resized: bool
    """Whether images of other sizes are stretched; else they are refused."""
    asked: bool
    """Whether the user said how many channels; else colour is not made grey."""
    model: str
    """What the form was taken from, for messages."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(channels, height, width)``."""
        return self.channels, self.height, self.width


def find_halves(folder: Path) -> tuple[Half, Half, tuple[str, ...]]:
    """List the files of both halves by class, and the classes, sorted by name.

    Raises:
        DataError: If ``train`` or ``test`` is missing, a class has no image, or a class
            is only in ``test``.
    """
    train, test = (_half(folder, name) for name in ("train", "test"))
    classes = tuple(sorted(set(train.classes)))
    unknown = sorted(set(test.classes) - set(classes))
    if unknown:
        raise DataError(
            f"folder: found the class {unknown[0]!r} in {folder / 'test'} only; expected "
            f"a folder of that name in {folder / 'train'} too. Add it, or remove it from "
            "test."
        )
    absent = sorted(set(classes) - set(test.classes))
    if absent:
        warnings.warn(
            f"folder: {folder / 'test'} has no images of {listing(absent)}, so accuracy "
            "says nothing of it. Add some, or remove the class from train.",
            stacklevel=2,
        )
    return train, test, classes


def facts_of(folder: Path) -> Iterator[Facts]:
    """Yield the images of both halves and what the file system knows of each, in order.

    Raises:
        DataError: If ``train`` or ``test`` is missing, or a class has no image.
    """
    for name in ("train", "test"):
        for _, entry in _listed(folder, name):
            yield entry.path, entry.stat()


def digest_of(folder: Path) -> str:
    """Return 16 digits that change with the names or contents of the images only.

    Raises:
        DataError: As :func:`find_halves` does.
        OSError: If an image cannot be read.
    """
    halves = find_halves(folder)[:2]
    files = [file for half in halves for file in half.files]
    names = [
        f"{half.name}/{one}/{os.path.basename(file)}"
        for half in halves
        for file, one in zip(half.files, half.classes, strict=True)
    ]
    parts = [files[i : i + _TOGETHER] for i in range(0, len(files), _TOGETHER)]

    def digests(part: Sequence[str]) -> list[bytes]:
        return [hashlib.sha256(Path(file).read_bytes()).digest() for file in part]

    whole = hashlib.sha256()
    with ThreadPoolExecutor() as pool:
        contents = itertools.chain.from_iterable(pool.map(digests, parts))
        for name, content in zip(names, contents, strict=True):
            whole.update(encoded(name) + b"\0" + content)
    return whole.hexdigest()[:16]


def form_of(file: str, channels: int | None, resolution: int | None) -> Form:
    """Return what images become: as ``file`` is, where the user does not say.

    Raises:
        DataError: If the file is no image.
    """
    try:
        with Image.open(file) as image:
            (width, height), grey = image.size, _is_grey(image)
    except _DECODING as error:
        raise _damage(file, error) from error
    return Form(
        channels=channels or (1 if grey else 3),
        height=resolution or height,
        width=resolution or width,
        resized=resolution is not None,
        asked=channels is not None,
        model=file,
    )


def split_of(half: Half, classes: Sequence[str], form: Form) -> Split:
    """Return a half whose images are decoded when they are read."""
    label = {name: number for number, name in enumerate(classes)}

    def read(start: int, stop: int) -> Tensor:
        x = torch.empty((stop - start, *form.shape), dtype=torch.uint8)
        for place, file in zip(x, half.files[start:stop], strict=True):
            place.copy_(_decoded(file, form))
        return x

    labels = torch.tensor([label[name] for name in half.classes], dtype=torch.int64)
    return Split(labels, form.shape, read)


def fitted(image: Image.Image, form: Form) -> Tensor:
    """Return an image in its form, uint8 ``[C, H, W]``; stretched if need be.

    Bilinearly with antialiasing, as torchvision's ``Resize`` does to PIL images.
    """
    pixels = image.convert("L" if form.channels == 1 else "RGB")
    size = (form.width, form.height)
    if pixels.size != size:
        pixels = pixels.resize(size, Image.Resampling.BILINEAR)
    array = np.array(pixels).reshape(form.height, form.width, form.channels)
    return torch.from_numpy(array).permute(2, 0, 1)


def _half(folder: Path, name: str) -> Half:
    images = _listed(folder, name)
    return Half(name, [entry.path for _, entry in images], [one for one, _ in images])


def _listed(folder: Path, name: str) -> list[tuple[str, os.DirEntry[str]]]:
    """Return the images of a half, each with its class, in order."""
    place = folder / name
    if not place.is_dir():
        there = listing(sorted(path.name for path in folder.iterdir()), 5) or "nothing"
        raise DataError(
            f"folder: {place} is not there; expected the folders train and test, with a "
            f"folder for each class in them. {folder} holds: {there}."
        )
    classes = sorted(entry.name for entry in _visible(place) if entry.is_dir())
    if not classes:
        raise DataError(f"folder: {place} is empty; expected a folder for each class.")
    images: list[tuple[str, os.DirEntry[str]]] = []
    for one in classes:
        files = [
            entry
            for entry in _visible(place / one)
            if entry.name.lower().endswith(ENDINGS) and entry.is_file()
        ]
        if not files:
            raise DataError(
                f"folder: found no image in {place / one}; expected files that end in "
                f"{' '.join(ENDINGS)} (folders in it are not searched). Add some, or "
                "remove the folder."
            )
        images += [(one, entry) for entry in sorted(files, key=lambda e: e.name)]
    return images


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    """Return what is in a folder, but what hides, such as ``.DS_Store``."""
    with os.scandir(str(folder)) as entries:
        return [entry for entry in entries if not entry.name.startswith(".")]


def _decoded(file: str, form: Form) -> Tensor:
    """Decode a file, uint8 ``[C, H, W]``."""
    try:
        with Image.open(file) as image:
            image.load()
            _require(file, image, form)
            return fitted(image, form)
    except _DECODING as error:
        raise _damage(file, error) from error


def _is_grey(image: Image.Image) -> bool:
    """Say whether an image has no colour; of a palette, whether that has none."""
    if image.mode not in _PALETTE:
        return image.mode in GREY
    levels = np.array(image.getpalette("RGB")).reshape(-1, 3)
    return bool((levels == levels[:, :1]).all())


def _require(file: str, image: Image.Image, form: Form) -> None:
    """Make sure that an image can be brought into the form without a loss unasked for."""
    if image.mode.startswith(_DEEP):
        raise DataError(
            f"folder: {file} has more than 8 bits a channel (mode {image.mode}); "
            "expected 8. Convert it."
        )
    width, height = image.size
    if not form.resized and (height, width) != (form.height, form.width):
        raise DataError(
            f"folder: found images of different sizes: {form.model} has "
            f"{form.height}x{form.width} pixels and {file} {height}x{width}; expected "
            "one size. Set 'resolution', to which all are resized."
        )
    if form.channels == 1 and not form.asked and not _is_grey(image):
        raise DataError(
            f"folder: {file} is in colour and {form.model} is grey; expected one or the "
            "other. Set 'channels' to 3 or 1."
        )


def _damage(file: str, error: Exception) -> DataError:
    cause = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return DataError(
        f"folder: {file} does not decode ({cause}); expected an image. Mend it or "
        "remove it."
    )
