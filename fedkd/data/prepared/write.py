"""Writing a prepared file piece by piece; what was interrupted goes on where it stopped."""

from __future__ import annotations

import math
import os
import re
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

from fedkd.base.files import sync_folder
from fedkd.data.dataset import Split
from fedkd.data.prepared.files import (
    FOREIGN,
    Header,
    content_checksum,
    read_header,
    read_prepared,
)
from fedkd.errors import DataError

PIECE = 512
"""Images that a thread reads at once."""
PIECE_BYTES = 8 << 20
"""Size of the images that a thread reads at once, at most: large ones come in fewer."""
THREADS = 8
"""Threads that read images, at most."""
Progress = Callable[[str, int, int], None]
"""Called with the half, the images that are done and all its images."""
_ENTRY = re.compile(rb"([0-9]{1,15}) ([0-9]{1,10})\n")
_LONGEST_ENTRY = 64
_CHUNK = 1 << 20


class HalfWritten:
    """A half that is being prepared: ``<half>.part`` and ``<half>.journal``.

    The journal has a line for each piece that is in the file: where it stops and its
    CRC-32. Pieces are written in order, so what the journal does not have is cut off.
    A half that was written to its end before is left as it is.
    """

    def __init__(self, folder: Path, header: Header, half: Split) -> None:
        self.header = header
        self.half = half
        self.final = folder / f"{header.split}.safetensors"
        self._part = folder / f"{header.split}.part"
        self._journal = folder / f"{header.split}.journal"
        self._final = self._sealed = False

    def write(self, progress: Progress) -> None:
        """Read all images that are not in the file yet and write them.

        Raises:
            DataError: If an image is damaged.
            OSError: If the file cannot be written.
        """
        number = len(self.half.labels)
        self._final = self._is_whole(self.final)
        self._sealed = not self._final and self._is_whole(self._part)
        if self._final or self._sealed:
            progress(self.header.split, number, number)
            return
        with self._opened() as (file, journal, start):
            progress(self.header.split, start, number)
            for stop, pixels in _pieces(self.half, start):
                file.write(pixels)
                file.flush()
                journal.write(_line(stop, zlib.crc32(pixels)))
                journal.flush()
                progress(self.header.split, stop, number)

    def seal(self) -> None:
        """Write the checksum into the header and force the file to the disk.

        Raises:
            OSError: If that cannot be done.
        """
        if self._final:
            return
        with self._part.open("r+b") as file:
            if not self._sealed:
                start = len(self.header.encoded())
                sealed = replace(self.header, checksum=content_checksum(file, start))
                file.seek(0)
                file.write(sealed.encoded())
                file.flush()
            os.fsync(file.fileno())  # a sealed file may not have got this far

    def rename(self) -> None:
        """Give the file its final name.

        Raises:
            OSError: If that cannot be done.
        """
        if self._final:
            self._part.unlink(missing_ok=True)
        else:
            self._part.replace(self.final)
        self._journal.unlink(missing_ok=True)
        sync_folder(self.final.parent)

    def _is_whole(self, path: Path) -> bool:
        """Say whether a file holds this half to its end, and its checksum."""
        written = read_prepared(path)
        if written is None or not written.header.same_content(self.header):
            return False
        # Read to its end: a power cut may have kept the header and lost the images.
        with path.open("rb") as file:
            return content_checksum(file, written.start) == written.header.checksum

    @contextmanager
    def _opened(self) -> Iterator[tuple[IO[bytes], IO[bytes], int]]:
        """Open file and journal at the end of what is sound; give its images."""
        mode = "r+b" if self._part.exists() else "w+b"
        with (
            self._part.open(mode) as file,
            self._journal.open("a+b") as journal,
        ):
            beginning = self.header.encoded() + self._labels()
            done = self._sound(file, journal)
            journal.seek(0)
            journal.truncate()
            journal.writelines(_line(stop, crc) for stop, crc in done)
            journal.flush()
            file.seek(0)
            file.write(beginning)
            images = done[-1][0] if done else 0
            file.seek(len(beginning) + images * self._size)
            file.truncate()
            yield file, journal, images

    def _sound(self, file: IO[bytes], journal: IO[bytes]) -> list[tuple[int, int]]:
        """Return the pieces ``(stop, crc)`` that the file holds as the journal says."""
        done: list[tuple[int, int]] = []
        if not self._begins(file):
            return done
        journal.seek(0)
        start = 0
        # Whatever is no entry ends the journal: what comes after it is read again.
        while entry := _ENTRY.fullmatch(journal.readline(_LONGEST_ENTRY)):
            stop, crc = map(int, entry.groups())
            if not start < stop <= self.header.number:
                break
            if _crc32(file, (stop - start) * self._size) != crc:
                break
            done.append((stop, crc))
            start = stop
        return done

    def _begins(self, file: IO[bytes]) -> bool:
        """Say whether a file begins as this half does, but for the checksum."""
        file.seek(0)
        try:
            header, start = read_header(file)
            same = header.same_content(self.header)
        except FOREIGN:
            return False
        labels = self._labels()
        whole = start == len(self.header.encoded())
        return whole and same and file.read(len(labels)) == labels

    def _labels(self) -> bytes:
        # Of one order on all machines: safetensors are little-endian.
        return self.half.labels.to(torch.int64).numpy().astype("<i8").tobytes()

    @property
    def _size(self) -> int:
        """Bytes of an image."""
        return math.prod(self.header.shape)


def _line(stop: int, crc: int) -> bytes:
    return f"{stop} {crc}\n".encode()


def _crc32(file: IO[bytes], size: int) -> int | None:
    """Return the CRC-32 of the next bytes of a file; None if it has fewer."""
    crc = 0
    while size > 0:
        chunk = file.read(min(size, _CHUNK))
        if not chunk:
            return None
        crc = zlib.crc32(chunk, crc)
        size -= len(chunk)
    return crc


def _pieces(half: Split, start: int) -> Iterator[tuple[int, memoryview]]:
    """Read images from ``start`` on in threads; yield in order ``(stop, bytes)``.

    No more pieces are under way than threads and two, so memory stays bounded.
    """
    number = len(half.labels)
    step = max(1, min(PIECE, PIECE_BYTES // math.prod(half.shape)))
    threads = min(THREADS, os.cpu_count() or 1)
    under_way: deque[tuple[int, Future[memoryview]]] = deque()
    with _pool(threads) as pool:
        for first in range(start, number, step):
            stop = min(first + step, number)
            under_way.append((stop, pool.submit(_read, half, first, stop)))
            if len(under_way) > threads + 1:
                stop, future = under_way.popleft()
                yield stop, future.result()
        for stop, future in under_way:
            yield stop, future.result()


@contextmanager
def _pool(threads: int) -> Iterator[ThreadPoolExecutor]:
    """Give threads; at the end of the block, what has not begun is not done."""
    pool = ThreadPoolExecutor(threads, "prepare")
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _read(half: Split, start: int, stop: int) -> memoryview:
    try:
        x: Tensor = half.read(start, stop)
    except OSError as error:  # not to be taken for one of writing
        raise DataError(
            f"images {start} to {stop} could not be read: {error}"
        ) from error
    expected = (stop - start, *half.shape)
    if x.dtype != torch.uint8 or x.shape != expected:
        raise DataError(
            f"images {start} to {stop} are {x.dtype} {list(x.shape)}, expected "
            f"torch.uint8 {list(expected)}; this is a fault of the data set's reader."
        )
    return x.contiguous().numpy().data.cast("B")
