"""Trees by number in one memory-mapped file; only an index is held in memory."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import weakref
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from fedkd.base.bounds import opened, parse_json
from fedkd.base.files import sync_folder
from fedkd.errors import ContractError
from fedkd.simulation.store.packing import MappedFile, Packed, require_pieces, unpack

LONGEST_HEAD = 1 << 30
"""Most bytes of what a file says of its trees: some thousands a client."""
_FOREIGN = (
    *(ValueError, KeyError, TypeError, AttributeError, OverflowError, MemoryError),
    RecursionError,
)
"""What reading raises on files of others."""
_PIECE = 8 << 20
"""Bytes that are copied at once."""

_Place = tuple[int, int, str]
"""Where a tree starts, how many bytes there are for it, and what is there."""


class MappedTrees:
    """Trees (:mod:`fedkd.payload`) that are read and written one at a time.

    The file has no name while it is in use, and is gone when its process is.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """Args: ``folder`` where the file lies; the system's own place if None."""
        self._file = cast(BinaryIO, tempfile.TemporaryFile(dir=folder, buffering=0))  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        self._mapped = MappedFile(self._file.fileno())
        self._places: dict[int, _Place] = {}
        # Texts are long and mostly equal: one of a kind is enough.
        self._texts: dict[str, str] = {}
        self._end = 0

    def __contains__(self, k: int) -> bool:
        """Say whether there is a tree of number ``k``."""
        return k in self._places

    def __iter__(self) -> Iterator[int]:
        """Yield the numbers in the order in which they first came."""
        return iter(self._places)

    def __len__(self) -> int:
        """Return how many trees there are."""
        return len(self._places)

    def __setitem__(self, k: int, tree: object) -> None:
        """Write a tree, over the last one of its number if that one was as large.

        Raises:
            ContractError: If a leaf has a type that cannot be stored.
            OSError: If the disk is full.
        """
        packed = Packed(tree, f"what is kept for {k}")
        start, room, _ = self._places.get(k, (self._end, 0, ""))
        if room < packed.size:
            start, room = self._end, packed.size
            self._end += room
        packed.write(self._mapped.for_writing(start, start + room), start)
        self._mapped.forget(start, start + room)
        text = self._texts.setdefault(packed.text, packed.text)
        self._places[k] = (start, room, text)

    def __getitem__(self, k: int) -> Any:
        """Return a copy of a tree.

        Raises:
            KeyError: If there is none of this number.
        """
        start, room, text = self._places[k]
        tree = unpack(self._mapped.upto(start + room), start, text)
        self._mapped.forget(start, start + room)
        return tree

    def close(self) -> None:
        """Give the file back."""
        self._mapped.close()
        self._file.close()

    def save(self, path: Path) -> int:
        """Write all trees to ``path``, atomically, a piece at a time; return a checksum.

        Raises:
            OSError: If it cannot be written.
        """
        temporary = path.with_name(f".{path.name}.tmp")
        try:
            with temporary.open("wb") as file:
                checksum = self._write(file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(path.parent)
        return checksum

    def _write(self, file: BinaryIO) -> int:
        checksum = 0
        for piece in self._pieces():
            checksum = zlib.crc32(piece, checksum)
        head = {"places": self._places, "end": self._end, "checksum": checksum}
        text = json.dumps(head).encode()
        file.write(len(text).to_bytes(8, "little") + text)
        for piece in self._pieces():
            file.write(piece)
        # The text has the checksum of the pieces, so this one covers all.
        return zlib.crc32(text)

    def _pieces(self) -> Iterator[bytes]:
        # What was written through the mapping is what a file reads, on all systems.
        for start in range(0, self._end, _PIECE):
            self._file.seek(start)
            yield self._file.read(min(_PIECE, self._end - start))

    @classmethod
    def load(
        cls, path: Path, folder: Path | None = None, expected: int | None = None
    ) -> MappedTrees:
        """Return the trees that :meth:`save` wrote to ``path``.

        Args:
            path: The file.
            folder: Where the trees lie while they are in use.
            expected: What :meth:`save` returned; any file of its kind if None.

        Raises:
            ContractError: If the file is missing, damaged, or another one.
        """
        trees = cls(folder)
        try:
            with opened(path) as file:
                text = _head(file)
                head = parse_json(text, LONGEST_HEAD)
                shutil.copyfileobj(file, trees._file, _PIECE)
            trees._file.flush()
            trees._take(head)
            checksum = 0
            for piece in trees._pieces():
                checksum = zlib.crc32(piece, checksum)
            fits = checksum == head["checksum"]
        except (OSError, *_FOREIGN) as error:
            raise ContractError(f"{path} is no store of fedkd: {error}") from error
        whole = zlib.crc32(text) if expected is None else expected
        if not fits or zlib.crc32(text) != whole:
            raise ContractError(f"{path} is damaged; its checksum does not fit.")
        return trees

    def _take(self, head: Any) -> None:
        """Take over where the trees are, in a file that is copied already.

        Raises:
            ValueError: If one is not in the file, or one of :data:`_FOREIGN`.
        """
        self._end = os.fstat(self._file.fileno()).st_size
        if head["end"] != self._end:
            raise ValueError(f"found {self._end} bytes, expected {head['end']}")
        seen: set[tuple[int, str]] = set()
        for k, (start, room, what) in head["places"].items():
            if not all(type(one) is int and one >= 0 for one in (start, room)):
                raise ValueError(f"found no place of {k}")
            if start + room > self._end:
                raise ValueError(f"found {k} beyond the end of the file")
            if (room, what) not in seen:
                seen.add((room, what))
                require_pieces(what, room)
            self._places[int(k)] = (start, room, self._texts.setdefault(what, what))


def _head(file: BinaryIO | IO[bytes]) -> bytes:
    """Return the text before the trees.

    Raises:
        ValueError: If it is longer than the file, or than any that is written.
    """
    length = int.from_bytes(file.read(8), "little")
    most = min(LONGEST_HEAD, os.fstat(file.fileno()).st_size)
    if length > most:
        raise ValueError(f"found a head of {length:,} bytes, expected at most {most:,}")
    return file.read(length)
