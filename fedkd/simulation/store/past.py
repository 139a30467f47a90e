"""The checkpoints of a run: the last one, and the one before it for when that is damaged.

A checkpoint counts if its file is what was written, if the lines of ``metrics.jsonl`` are
those that it was written beside, and if the memories of the clients can be read.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedkd.base.folders import RunFolder
from fedkd.simulation import metrics as lines
from fedkd.simulation.faults.late import Late
from fedkd.simulation.identity import require_same
from fedkd.simulation.store import checkpoint as store
from fedkd.simulation.store.checkpoint import Checkpoint
from fedkd.simulation.store.memories import ClientMemories
from fedkd.simulation.totals import Totals

_ANEW = {store.READING: store.UNREADABLE, store.FITTING: store.OTHER_LINES}
"""What is said where no checkpoint counts, by what is wrong with the last one."""


class Past:
    """What a run has kept of itself in its folder, and what it keeps from now on."""

    def __init__(
        self,
        folder: Path,
        owner: str,
        identity: Mapping[str, str],
        memories: ClientMemories,
    ) -> None:
        """Look at nothing yet.

        Args:
            folder: Of the run.
            owner: What messages call the strategy.
            identity: What the run is; see :mod:`fedkd.simulation.identity`.
            memories: Of its clients; :meth:`last` gives them back what they kept.
        """
        self.damage = ""
        """What was wrong with the last checkpoint, and where the run begins therefore."""
        self._files = RunFolder(folder)
        self._owner = owner
        self._identity = dict(identity)
        self._memories = memories
        self._store = ""

    def last(self) -> Checkpoint | None:
        """Return the last checkpoint that counts; None without one.

        A damaged one is a warning: the run goes on from the one before, or starts anew,
        and gives the same bits, later.

        Raises:
            OtherRunError: If it is another run's.
        """
        problem, place = "", self._files.path
        for path in (self._files.checkpoint, self._files.before):
            if not path.exists():
                continue
            checkpoint, what, where = self._read(path)
            problem, place = (problem, place) if problem else (what, where)
            if checkpoint is None:
                continue
            if problem:
                self._tell(f"{problem}; {store.ONE_BEFORE}", place)
            if path != self._files.checkpoint:
                # So that the next one does not push it out with a damaged one.
                path.replace(self._files.checkpoint)
            self._store = checkpoint.store
            return checkpoint
        if problem:
            self._tell(_ANEW[problem], place)
        return None

    def add(
        self, state: Any, done: int, totals: Totals, late: tuple[Late, ...] = ()
    ) -> None:
        """Keep a checkpoint; the last one becomes the one before.

        Args:
            state: The strategy's, after the round.
            done: Rounds that are done.
            totals: Sums over them.
            late: Answers that arrive in a later round.

        Raises:
            ContractError: If the state or a memory holds something that cannot be stored.
            OSError: If the disk is full.
        """
        folder, memories = self._files.path, self._memories
        near, name = memories.save(folder, done)
        point = Checkpoint(
            done,
            state,
            near,
            totals,
            name,
            self._identity,
            memories.checksum,
            lines.fixed(folder, done),
            late,
        )
        store.save(folder, point, self._owner)
        memories.tidy(folder, {name, self._store})
        self._store = name

    def _read(self, path: Path) -> tuple[Checkpoint | None, str, Path]:
        """Return a checkpoint if it counts, else what is wrong with which file."""
        folder = self._files.path
        checkpoint = store.read(path)
        if checkpoint is None:
            return None, store.READING, path
        require_same(folder, checkpoint.identity, self._identity)
        known = lines.fixed(folder, checkpoint.rounds_done)
        if not known or known != checkpoint.lines:
            return None, store.FITTING, self._files.metrics
        kept = (checkpoint.memories, checkpoint.store, checkpoint.store_checksum)
        if not self._memories.restore(folder, *kept):
            return None, store.READING, folder / checkpoint.store
        return checkpoint, "", path

    def _tell(self, text: str, place: Path) -> None:
        self.damage = text
        warnings.warn(f"{text}: {place}", RuntimeWarning, stacklevel=4)
