"""What clients remember from round to round: in memory while small, else in one file."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from fedkd.base.folders import RunFolder
from fedkd.errors import ContractError
from fedkd.payload import leaves
from fedkd.simulation.store.mapped_trees import MappedTrees
from fedkd.simulation.untouched import Untouched

LIMIT = 4 << 20
"""Bytes that are held in memory; beyond, all go into a mapped file."""
LEAF = 512
"""Bytes that a tensor or number takes beside its content, about."""


class ClientMemories:
    """The private stores of all clients.

    A round asks for those of its clients only, so what is in memory does not grow with
    the number of clients.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._near: dict[int, dict[str, Any]] = {}
        self._sizes: dict[int, int] = {}
        self._total = 0
        self._mapped: MappedTrees | None = None
        self.folder: Path | None = None
        """Where the file goes; the system's own place if None."""
        self.checksum = 0
        """Of the file that was saved last."""
        self._as_kept: dict[int, Untouched] = {}

    @property
    def on_disk(self) -> bool:
        """Whether the stores are in a file."""
        return self._mapped is not None

    def recall(self, k: int) -> dict[str, Any]:
        """Return what client ``k`` remembers; changes count once they are kept.

        Raises:
            ContractError: If somebody has written into it since it was kept.
        """
        if self._mapped is not None:
            known = k in self._mapped
            return self._mapped[k] if known else {}
        if k in self._as_kept:
            self._as_kept[k].check("somebody else, between the turns of this client,")
        return dict(self._near.get(k, {}))

    def keep(self, k: int, memory: Mapping[str, Any]) -> None:
        """Keep what client ``k`` remembers from now on.

        Raises:
            ContractError: If it holds something that cannot be stored.
            OSError: If the disk is full.
        """
        known = k in (self._near if self._mapped is None else self._mapped)
        if not memory and not known:
            return
        if self._mapped is not None:
            self._mapped[k] = dict(memory)
            return
        size = _size(memory, f"the memory of client {k}")
        self._total += size - self._sizes.get(k, 0)
        self._sizes[k] = size
        self._near[k] = dict(memory)
        self._as_kept[k] = Untouched(self._near[k], f"the memory of client {k}")
        if self._total > self._limit:
            self._put_away()

    def _put_away(self) -> None:
        mapped = MappedTrees(self.folder)
        for k, memory in self._near.items():
            mapped[k] = memory
        self._mapped = mapped
        self._near, self._sizes, self._as_kept = {}, {}, {}

    def save(self, folder: Path, done: int) -> tuple[dict[int, dict[str, Any]], str]:
        """Store what is in a file beside the checkpoint; return the rest.

        Args:
            folder: Of the checkpoint.
            done: Rounds that are done; each checkpoint has a file of its own, so that
                the one before is whole whatever becomes of the next.

        Returns:
            What goes into the checkpoint itself, and the name of the file, or "".

        Raises:
            OSError: If the disk is full.
        """
        if self._mapped is None:
            return dict(sorted(self._near.items())), ""
        path = RunFolder(folder).memories(done)
        self.checksum = self._mapped.save(path)
        return {}, path.name

    def restore(
        self,
        folder: Path,
        near: Mapping[int, Mapping[str, Any]],
        name: str,
        checksum: int | None = None,
    ) -> bool:
        """Take over what :meth:`save` gave; say whether all of it could be read."""
        if name:
            try:
                self._mapped = MappedTrees.load(folder / name, self.folder, checksum)
            except ContractError:
                return False
        for k, memory in near.items():
            self.keep(k, memory)
        return True

    @staticmethod
    def tidy(folder: Path, names: Collection[str]) -> None:
        """Remove the files of older checkpoints than those with the files ``names``."""
        for path in RunFolder(folder).every_memories():
            if path.name not in names:
                path.unlink(missing_ok=True)


def _size(tree: object, sender: str) -> int:
    """Return about how much memory a tree takes: many small leaves are mostly objects."""
    every = [leaf for _, leaf in leaves(tree, sender)]
    tensors = [leaf for leaf in every if isinstance(leaf, Tensor)]
    return LEAF * len(every) + sum(t.numel() * t.element_size() for t in tensors)
