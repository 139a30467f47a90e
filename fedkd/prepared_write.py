"""Writing a prepared file piece by piece; what was interrupted goes on where it stopped."""

from __future__ import annotations

import math
import os
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

from fedkd.dataset import Split
from fedkd.errors import DataError
from fedkd.files import sync_folder
from fedkd.prepared_files import Header, content_checksum, read_prepared

PIECE = 512
"""Images that a thread reads at once."""
PIECE_BYTES = 8 << 20
"""Size of the images that a thread reads at once, at most: large ones come in fewer."""
THREADS = 8
"""Threads that read images, at most."""
Progress = Callable[[str, int, int], None]
"""Called with the half, the images that are done and all its images."""


class HalfWritten:
    """A half that is being prepared: ``<half>.part`` and ``<half>.journal``.

    The journal has a line for each piece that is in the file: where it stops and its
    CRC-32. Pieces are written in order, so what the journal does not have is cut off.
    """

    def __init__(self, folder: Path, header: Header, half: Split) -> None:
        self.header = header
        self.half = half
        self.final = folder / f"{header.split}.safetensors"
        self._part = folder / f"{header.split}.part"
        self._journal = folder / f"{header.split}.journal"

    @property
    def is_final(self) -> bool:
        """Whether the file is there already, under its final name."""
        found = read_prepared(self.final)
        return found is not None and found.header.same_content(self.header)

    def write(self, progress: Progress) -> None:
        """Read all images that are not in the file yet and write them.

        Raises:
            DataError: If an image is damaged.
            OSError: If the file cannot be written.
        """
        number = len(self.half.labels)
        with self._opened() as (file, journal, start):
            progress(self.header.split, start, number)
            for stop, pixels in _pieces(self.half, start):
                file.write(pixels)
                file.flush()
                journal.write(f"{stop} {zlib.crc32(pixels)}\n")
                journal.flush()
                progress(self.header.split, stop, number)

    def seal(self) -> None:
        """Write the checksum into the header and force the file to the disk.

        Raises:
            OSError: If that cannot be done.
        """
        with self._part.open("r+b") as file:
            start = len(self.header.encoded())
            found = replace(self.header, checksum=content_checksum(file, start))
            file.seek(0)
            file.write(found.encoded())
            file.flush()
            os.fsync(file.fileno())

    def rename(self) -> None:
        """Give the file its final name.

        Raises:
            OSError: If that cannot be done.
        """
        self._part.replace(self.final)
        self._journal.unlink(missing_ok=True)
        sync_folder(self.final.parent)

    @contextmanager
    def _opened(self) -> Iterator[tuple[IO[bytes], IO[str], int]]:
        """Open file and journal at the end of what is sound; give its images."""
        mode = "r+b" if self._part.exists() else "w+b"
        with (
            self._part.open(mode) as file,
            self._journal.open("a+", encoding="utf-8") as journal,
        ):
            beginning = self.header.encoded() + self._labels()
            done = self._sound(file, journal, beginning)
            journal.seek(0)
            journal.truncate()
            journal.writelines(f"{stop} {crc}\n" for stop, crc in done)
            if not done:
                file.seek(0)
                file.truncate()
                file.write(beginning)
            images = done[-1][0] if done else 0
            file.seek(len(beginning) + images * self._size)
            file.truncate()
            yield file, journal, images

    def _sound(
        self, file: IO[bytes], journal: IO[str], beginning: bytes
    ) -> list[tuple[int, int]]:
        """Return the pieces ``(stop, crc)`` that the file holds as the journal says."""
        file.seek(0)
        if file.read(len(beginning)) != beginning:
            return []
        done: list[tuple[int, int]] = []
        journal.seek(0)
        start = 0
        for line in journal:
            words = line.split()
            if not (line.endswith("\n") and len(words) == 2 and line.isascii()):
                break
            stop, crc = map(int, words)
            pixels = file.read(max(0, stop - start) * self._size)
            if stop <= start or zlib.crc32(pixels) != crc:
                break
            done.append((stop, crc))
            start = stop
        return done

    def _labels(self) -> bytes:
        return self.half.labels.to(torch.int64).contiguous().numpy().tobytes()

    @property
    def _size(self) -> int:
        """Bytes of an image."""
        return math.prod(self.header.shape)


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
