"""Images in single files, in a folder or a zip: listing, reading, decoding, resizing."""

from __future__ import annotations

import io
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from fedkd.base.bounds import TEXT, inside, read_bytes
from fedkd.data.dataset import DatasetConfig, Split
from fedkd.datasets.archives import READING, zip_of
from fedkd.datasets.pictures import DECODING, picture
from fedkd.datasets.published_files import PublishedSet
from fedkd.errors import BoundsError

PIECE = 512
"""Images decoded at once when a set is checked."""


class UndecodableError(ValueError):
    """An image that cannot be used; the message completes "found …"."""


class JpegConfig(DatasetConfig):
    """Options of the sets of JPEG files."""

    resolution: Literal[32, 64] = 32
    """Height and width that images are resized to."""
    partial: bool = False
    """Whether files that hold only part of the set, or are not the published ones, are
    accepted: counts and checksums are then not held against the published, and a run
    that is done is not run again when they change (``--fresh`` does it); tables warn
    of runs that saw different files."""


class Tree(ABC):
    """A folder of files, on the disk or in a zip; names have ``/`` between folders."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """Return the content of a file.

        Raises:
            OSError: If it is missing or cannot be read.
            BoundsError: If it is too large, or a link leads out of the folder.
            zipfile.BadZipFile: If it is damaged, or another of ``READING``.
        """

    @abstractmethod
    def folders(self, name: str) -> list[str]:
        """Return the sorted names of the folders in a folder; none if it is missing."""

    @abstractmethod
    def files(self, name: str) -> list[str]:
        """Return the sorted names of the files in a folder; none if it is missing."""

    @abstractmethod
    def place(self, name: str) -> str:
        """Return where a file is, for messages."""


class FolderTree(Tree):
    """Files in a folder on the disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, name: str) -> bytes:
        """See :meth:`Tree.read`."""
        return read_bytes(inside(self.path, self.path / name))

    def folders(self, name: str) -> list[str]:
        """See :meth:`Tree.folders`."""
        return sorted(entry.name for entry in self._entries(name) if entry.is_dir())

    def files(self, name: str) -> list[str]:
        """See :meth:`Tree.files`."""
        return sorted(entry.name for entry in self._entries(name) if entry.is_file())

    def place(self, name: str) -> str:
        """See :meth:`Tree.place`."""
        return str(self.path / name)

    def _entries(self, name: str) -> list[os.DirEntry[str]]:
        folder = inside(self.path, self.path / name)
        if not folder.is_dir():
            return []
        with os.scandir(folder) as entries:
            return list(entries)


class ZipTree(Tree):
    """Files in a folder of a zip, which is read in place, from any thread."""

    def __init__(self, path: Path, folder: str) -> None:
        """Open the zip.

        Raises:
            OSError: If it cannot be read.
            zipfile.BadZipFile: If it is damaged or no zip.
        """
        self.path = path
        self._folder = folder
        self._opened = ExitStack()
        self._zip = self._opened.enter_context(zip_of(path))
        self._files: dict[str, list[str]] = {}
        for name in self._zip.namelist():
            parent, _, file = name.rpartition("/")
            self._files.setdefault(parent, []).append(file)

    def read(self, name: str) -> bytes:
        """See :meth:`Tree.read`."""
        try:
            member = self._zip.getinfo(f"{self._folder}/{name}")
        except KeyError as error:
            raise FileNotFoundError(f"{name} is not in the zip") from error
        if member.file_size > TEXT:
            raise BoundsError(f"it claims {member.file_size:,} bytes")
        return self._zip.read(member)

    def folders(self, name: str) -> list[str]:
        """See :meth:`Tree.folders`."""
        start = f"{self._folder}/{name}/"
        inside = (folder for folder in self._files if folder.startswith(start))
        return sorted({folder[len(start) :].split("/")[0] for folder in inside})

    def files(self, name: str) -> list[str]:
        """See :meth:`Tree.files`."""
        names = self._files.get(f"{self._folder}/{name}", [])
        return sorted(file for file in names if file)

    def place(self, name: str) -> str:
        """See :meth:`Tree.place`."""
        return f"{self.path}/{self._folder}/{name}"


class JpegSet(PublishedSet):
    """A data set of JPEG files; each is decoded when it is read."""

    classes: ClassVar[int]
    """Classes of the published set."""
    images_a_class: ClassVar[tuple[int, int]]
    """Training and test images of each class of the published set."""

    def check(self, root: Path) -> None:
        """See :meth:`Dataset.check`; decodes every image."""
        source = self.open(root)
        with ThreadPoolExecutor() as pool:
            for half in (source.train, source.test):
                starts = range(0, len(half.labels), PIECE)
                stops = [min(start + PIECE, len(half.labels)) for start in starts]
                for _ in pool.map(half.read, starts, stops):
                    pass  # a damaged image raises here

    def verify(self, root: Path) -> None:
        """See :meth:`PublishedSet.verify`."""
        self.open(root)

    def text(self, root: Path, tree: Tree, name: str) -> str:
        """Return the content of a text file.

        Raises:
            DataError: If it is missing or no text.
        """
        try:
            return tree.read(name).decode("utf-8")
        except FileNotFoundError as error:
            problem = "no such file, expected the annotations of the set"
            raise self.damage(root, tree.place(name), problem) from error
        except (*READING, UnicodeDecodeError) as error:
            problem = f"no text ({_cause(error)}), expected lines of UTF-8"
            raise self.damage(root, tree.place(name), problem) from error

    def require_whole(
        self,
        root: Path,
        place: Path,
        classes: Sequence[str],
        halves: Sequence[Split],
    ) -> None:
        """Make sure that the training and the test half hold all published images.

        Args:
            root: The data root, for messages.
            place: Where the files are, for messages.
            classes: The classes that were found, by label.
            halves: The training and the test half.
        """
        counts = [torch.bincount(h.labels, minlength=len(classes)) for h in halves]
        each = list(self.images_a_class)
        of_classes = zip(*(count.tolist() for count in counts), strict=True)
        odd = next((c for c, pair in enumerate(of_classes) if list(pair) != each), None)
        if not self.held or (odd is None and len(classes) == self.classes):
            return
        train, test = (
            f"{len(half.labels):,} of {number * self.classes:,}"
            for half, number in zip(halves, each, strict=True)
        )
        example = f"{len(classes)} of {self.classes} classes"
        if odd is not None:
            pairs = [f"{int(c[odd])} of {n}" for c, n in zip(counts, each, strict=True)]
            example = f"of {classes[odd]} {' and '.join(pairs)}"
        what = f"{train} training and {test} test images ({example})"
        raise self.part(root, place, what)

    def half(
        self,
        root: Path,
        tree: Tree,
        names: Sequence[str],
        labels: Sequence[int],
        stored: int | None = None,
    ) -> Split:
        """Return images as they are asked for, resized to ``resolution``.

        Args:
            root: The data root, for messages.
            tree: Where the files are.
            names: The files, in order.
            labels: Their labels.
            stored: The height and width that images must have in their files; None if
                any will do.
        """
        size: int = self.config.resolution

        def read(start: int, stop: int) -> Tensor:
            x = torch.empty((stop - start, 3, size, size), dtype=torch.uint8)
            for place, name in zip(x, names[start:stop], strict=True):
                try:
                    pixels = decode(tree.read(name), size, stored)
                except UndecodableError as error:
                    raise self.damage(root, tree.place(name), str(error)) from error
                except READING as error:
                    problem = f"no readable file ({_cause(error)}), expected an image"
                    raise self.damage(root, tree.place(name), problem) from error
                place.copy_(pixels)
            return x

        return Split(torch.tensor(labels, dtype=torch.int64), (3, size, size), read)


def decode(content: bytes, size: int, stored: int | None = None) -> Tensor:
    """Decode an image and resize it, uint8 ``[3, size, size]``.

    Grey images become colour. Images are stretched, whatever their shape, bilinearly
    with antialiasing: what torchvision's ``Resize((size, size))`` does to PIL images.

    Args:
        content: The file.
        size: Height and width of the result.
        stored: Height and width that the image must have; None if any will do.

    Raises:
        UndecodableError: If it is no image, or one of another size.
    """
    try:
        with picture(io.BytesIO(content)) as image:
            width, height = image.size
            if stored not in (None, width) or stored not in (None, height):
                actual = f"an image of {height}x{width} pixels"
                raise UndecodableError(f"{actual}, expected {stored}x{stored}")
            colour = image.convert("RGB")
    except UndecodableError:
        raise
    except UnidentifiedImageError as error:
        raise UndecodableError("no image, expected a JPEG") from error
    except DECODING as error:
        problem = f"an image that does not decode ({_cause(error)}), expected a JPEG"
        raise UndecodableError(problem) from error
    if colour.size != (size, size):
        colour = colour.resize((size, size), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(colour)).permute(2, 0, 1)


def _cause(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
