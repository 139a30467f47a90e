"""Save and load a run in progress; what is loaded equals what was saved, to the bit."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from fedkd.base.bounds import read_tree_bytes
from fedkd.base.files import write_atomic
from fedkd.base.folders import RunFolder
from fedkd.errors import BoundsError, ContractError
from fedkd.payload import decode, encode
from fedkd.simulation.faults.late import Late
from fedkd.simulation.totals import Totals

READING = "its last checkpoint cannot be read"
FITTING = "its metrics.jsonl does not fit its last checkpoint"
ONE_BEFORE = "goes on from the one before"
UNREADABLE = "its checkpoint cannot be read; starts from round 1"
OTHER_LINES = "its metrics.jsonl does not fit its checkpoint; starts from round 1"
OTHER_RUN = "its checkpoint is another run's; starts from round 1"


@dataclass(frozen=True)
class Checkpoint:
    """Everything a run needs to go on: random streams are named, so no generator."""

    rounds_done: int
    state: Any
    memories: dict[int, dict[str, Any]] = field(default_factory=dict)
    totals: Totals = field(default_factory=Totals)
    store: str = ""
    """The file beside the checkpoint that holds the memories, if they are too large."""
    identity: dict[str, str] = field(default_factory=dict)
    """What the run is; see :mod:`fedkd.simulation.identity`."""
    store_checksum: int = 0
    """Of the file with the memories."""
    lines: str = ""
    """SHA-256 of the lines of ``metrics.jsonl`` up to this round."""
    late: tuple[Late, ...] = ()
    """Answers that arrive in a later round."""


def save(folder: Path, checkpoint: Checkpoint, owner: str) -> None:
    """Write ``checkpoint`` into ``folder``, atomically; the one there is kept beside it.

    Raises:
        ContractError: If the strategy's state or a client's memory holds something that
            cannot be stored; names ``owner``.
    """
    files = RunFolder(folder)
    content = encode(checkpoint, f"the state of {owner}")
    write_atomic(files.checkpoint, content, aside=files.before)


def read(path: Path) -> Checkpoint | None:
    """Return the checkpoint in a file; None if there is none that can be read."""
    try:
        stored = decode(read_tree_bytes(path))
    except (FileNotFoundError, BoundsError, ContractError):
        return None
    return stored if isinstance(stored, Checkpoint) and _is_sound(stored) else None


def _is_sound(stored: Checkpoint) -> bool:
    """Say whether every field holds what it is for; nobody has checked that yet."""
    try:
        for part in (stored, stored.totals, *stored.late):
            for name, kind in _KINDS[type(part)].items():
                kind.validate_python(getattr(part, name), strict=True)
    except (ValidationError, KeyError, TypeError):
        return False
    named = not stored.store or RunFolder.names_memories(stored.store)
    return named and min(stored.rounds_done, stored.store_checksum) >= 0


_KINDS: dict[type, dict[str, TypeAdapter[Any]]] = {
    part: {name: TypeAdapter(hint) for name, hint in get_type_hints(part).items()}
    for part in (Checkpoint, Totals, Late)
}
"""What the fields of each part hold."""
