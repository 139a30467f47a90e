"""An answer that is on its way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Late:
    """An answer that arrives in a later round than it was made in."""

    client: int
    made: int
    """Index of the round in which the client made it."""
    due: int
    """Index of the round in which it arrives."""
    up: Any
    """The payload."""
