"""Save and load a run in progress; what is loaded equals what was saved, to the bit."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedkd.base.files import write_atomic
from fedkd.base.folders import RunFolder
from fedkd.errors import ContractError
from fedkd.payload import decode, encode
from fedkd.simulation.faults.late import Late
from fedkd.simulation.totals import Totals

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
    """Write ``checkpoint`` into ``folder``, atomically.

    Raises:
        ContractError: If the strategy's state or a client's memory holds something that
            cannot be stored; names ``owner``.
    """
    write_atomic(
        RunFolder(folder).checkpoint, encode(checkpoint, f"the state of {owner}")
    )


def load(folder: Path) -> Checkpoint | None:
    """Return the checkpoint in ``folder``; None if there is none that can be read.

    A damaged one is a warning: the run starts anew and gives the same bits, later.
    """
    path = RunFolder(folder).checkpoint
    stored: Any = None
    try:
        stored = decode(path.read_bytes())
    except FileNotFoundError:
        return None
    except ContractError:
        pass
    if isinstance(stored, Checkpoint):
        return stored
    warnings.warn(f"{UNREADABLE}: {path}", RuntimeWarning, stacklevel=2)
    return None
