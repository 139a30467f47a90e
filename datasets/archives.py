"""Zips and the arrays in them: what they claim is held against what is there, first."""

from __future__ import annotations

import io
import math
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from fedkd.base.bounds import opened, require_room
from fedkd.errors import BoundsError

DIRECTORY = 64 << 20
"""Most bytes of the list of what is in a zip; its entries take ten times as much memory."""
ENDING = ".npy"
"""Ends the names of arrays in a zip of NumPy."""
READING = (
    *(OSError, ValueError, EOFError, KeyError, TypeError, OverflowError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error, SyntaxError, RecursionError, MemoryError),
    TokenError,
)
"""What reading a zip or an array raises where it is damaged, or of another kind."""


class _Pieces(io.BufferedReader):
    """A file of which nobody reads more than :data:`DIRECTORY` bytes at once.

    The list of a zip's members is read in one piece, as long as the zip says it is.
    """

    def read(self, size: int | None = -1, /) -> bytes:
        """Read bytes.

        Raises:
            BoundsError: If they are too many.
        """
        rest = os.fstat(self.fileno()).st_size - self.tell()
        asked = rest if size is None or size < 0 else min(size, rest)
        if asked > DIRECTORY:
            raise BoundsError(
                f"found a list of {asked:,} bytes of what is in the zip, expected at most "
                f"{DIRECTORY:,}"
            )
        return super().read(asked)


@contextmanager
def zip_of(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip for reading.

    Raises:
        BoundsError: If the list of its members is too long, or it is no file.
        OSError: If it cannot be read.
        zipfile.BadZipFile: If it is damaged, or no zip; or another of :data:`READING`.
    """
    with (
        opened(path) as file,
        _Pieces(io.FileIO(file.fileno(), closefd=False)) as whole,
        zipfile.ZipFile(whole) as archive,
    ):
        yield archive


def array_in(archive: zipfile.ZipFile, name: str, taken: int = 0) -> NDArray[Any]:
    """Return an array of a zip as NumPy writes it.

    Args:
        archive: The zip.
        name: What the array is called, without :data:`ENDING`.
        taken: Bytes that others of the zip take already.

    Raises:
        BoundsError: If it claims to be larger than what is there, or than the memory.
        ValueError: If it is of objects, or damaged; or another of :data:`READING`.
    """
    member = archive.getinfo(name + ENDING)
    with archive.open(member) as file:
        shape, kind = _header(file)
        elements: int = math.prod(shape)
        size = elements * kind.itemsize
        rest = member.file_size - file.tell()
        if size != rest or (elements and not kind.itemsize):
            raise BoundsError(f"it claims {shape} of {kind} and has {rest:,} bytes")
        require_room(taken + size, name)
    with archive.open(member) as file:
        return npy.read_array(file, allow_pickle=False)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return shape and type of an array.

    Raises:
        ValueError: If it is none, or one of objects, which may be any code.
    """
    version = npy.read_magic(file)
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"found version {version} of NumPy's format, expected 1 or 2")
    shape, _, kind = readers[version](file)
    if kind.hasobject:
        raise ValueError("Object arrays cannot be loaded: they are pickled")
    if min(shape, default=0) < 0 or len(shape) > 32:
        raise ValueError(f"found the shape {shape}")
    return shape, kind
