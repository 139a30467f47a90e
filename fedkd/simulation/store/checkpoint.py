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

UNREADABLE = "its checkpoint cannot be read; starts from round 1"


@dataclass(frozen=True)
class Totals:
    """Sums over the rounds so far."""

    bytes_up: int = 0
    bytes_down: int = 0
    client_examples: int = 0
    personal_examples: int = 0
    """Those of ``client_examples`` that clients trained on to be measured."""
    server_examples: int = 0
    seconds: float = 0.0
    phases: dict[str, float] = field(default_factory=dict)
    """Seconds by phase, where they are measured."""
    engines: tuple[str, ...] = ()
    """The executors of the rounds, each once."""


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
