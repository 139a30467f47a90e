"""The answers of a round: in memory while they are few, else in one file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fedkd.base.phases import phase
from fedkd.simulation.store.mapped_trees import MappedTrees

BUDGET = 128 << 20
"""Bytes of tensors that are held in memory; the answers beyond go into a mapped file."""


class Answers(Mapping[int, Any]):
    """What the clients of a round have sent, by client, ascending.

    It grows as answers arrive. One that is in the file is read anew at every access:
    who goes through the answers once, one at a time, holds one of them in memory.
    """

    def __init__(self, folder: Path | None = None, budget: int | None = None) -> None:
        """Start empty.

        Args:
            folder: Where the file goes, without a name; the system's own place if None.
            budget: Bytes of tensors held in memory; :data:`BUDGET` if None.
        """
        self._folder = folder
        self._left = BUDGET if budget is None else budget
        self.near: dict[int, Any] = {}
        """Those that are held in memory, by client, as they came."""
        self._out: set[int] = set()
        # Closed when nobody holds these answers any more; a state may.
        self._mapped: MappedTrees | None = None

    def add(self, k: int, up: Any, size: int) -> None:
        """Take in what client ``k`` has sent.

        Args:
            k: The client.
            up: Its payload.
            size: Bytes of the payload's tensors.

        Raises:
            OSError: If the disk is full.
        """
        if size <= self._left:
            self._left -= size
            self.near[k] = up
            return
        with phase("transport"):
            if self._mapped is None:
                self._mapped = MappedTrees(self._folder)
            self._mapped[k] = up

    def leave_out(self, k: int) -> None:
        """Forget what client ``k`` has sent.

        Raises:
            KeyError: If it has sent nothing.
        """
        if k not in list(self):
            raise KeyError(k)
        self.near.pop(k, None)
        self._out.add(k)

    def __getitem__(self, k: int) -> Any:
        """Return what client ``k`` has sent; a copy if it is in the file.

        Raises:
            KeyError: If it has sent nothing.
        """
        if k in self.near or k in self._out or self._mapped is None:
            return self.near[k]
        return self._mapped[k]

    def __iter__(self) -> Iterator[int]:
        """Yield the clients in ascending order."""
        far = () if self._mapped is None else self._mapped
        return iter(sorted({*self.near, *far} - self._out))

    def __len__(self) -> int:
        """Return how many clients have answered."""
        return sum(1 for _ in self)
