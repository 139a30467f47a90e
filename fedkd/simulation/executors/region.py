"""Memory that grows and that any process of this machine can open by its path."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fedkd.simulation.store.packing import MappedFile, Packed, unpack


class Region:
    """Shared memory; the system takes it back when the last process has gone."""

    def __init__(self, path: str = "") -> None:
        """Open the region at ``path``, or make one.

        Raises:
            OSError: If there is none.
        """
        self._temporary: Path | None = None
        if path:
            self._descriptor = os.open(path, os.O_RDWR)
            self.path = path
        elif hasattr(os, "memfd_create"):
            self._descriptor = os.memfd_create("fedkd")
            self.path = f"/proc/{os.getpid()}/fd/{self._descriptor}"
        else:
            self._descriptor, self.path = tempfile.mkstemp(prefix="fedkd-")
            self._temporary = Path(self.path)
        self._mapped = MappedFile(self._descriptor)
        self._end = 0

    def clear(self) -> None:
        """Write from the start again."""
        self._end = 0

    def put(self, tree: object, sender: str) -> tuple[int, str]:
        """Add a tree; return where it starts and what others need to read it.

        Raises:
            ContractError: If a leaf has a type that cannot travel.
            OSError: If there is no memory left.
        """
        packed = Packed(tree, sender)
        start, self._end = self._end, self._end + packed.size
        packed.write(self._mapped.for_writing(start, self._end), start)
        return start, packed.text

    def get(self, start: int, text: str) -> object:
        """Return a copy of a tree that any process has put there."""
        size = os.fstat(self._descriptor).st_size
        return unpack(self._mapped.upto(size), start, text)

    def number(self, place: int) -> int:
        """Return whole number ``place`` of the region."""
        data = os.pread(self._descriptor, 8, 8 * place)
        return int.from_bytes(data, "little")

    def set_number(self, place: int, value: int) -> None:
        """Write whole number ``place`` of the region."""
        os.pwrite(self._descriptor, value.to_bytes(8, "little"), 8 * place)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out of such blocks; a process that dies lets go."""
        import fcntl  # noqa: PLC0415 - there is none but on Unix

        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Give the region back."""
        self._mapped.close()
        os.close(self._descriptor)
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)


class Queue:
    """The numbers from 0 on, each taken by one of several processes."""

    def __init__(self, path: str = "") -> None:
        """Open the queue at ``path``, or make one."""
        self._region = Region(path)
        self.path = self._region.path

    def start(self, length: int) -> int:
        """Offer the numbers below ``length``; return a name for this offer."""
        region = self._region
        with region.locked():
            offer = region.number(2) + 1
            for place, value in enumerate((0, length, offer)):
                region.set_number(place, value)
        return offer

    def stop(self) -> None:
        """Offer nothing more."""
        with self._region.locked():
            self._region.set_number(1, 0)

    def take(self, who: int, offer: int) -> int | None:
        """Take the next number; None if none is left, or the offer is an old one."""
        region = self._region
        with region.locked():
            following = region.number(0)
            if following >= region.number(1) or offer != region.number(2):
                return None
            region.set_number(3 + following, who)
            region.set_number(0, following + 1)
        return following

    def taken(self) -> list[int]:
        """Return who has taken each of the numbers that are gone."""
        with self._region.locked():
            return [self._region.number(3 + i) for i in range(self._region.number(0))]

    def close(self) -> None:
        """Give the memory back."""
        self._region.close()
