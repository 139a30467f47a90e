"""Which options hold a training that diverged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fedkd.config import Config
from fedkd.errors import listing

RATES = ("lr", "clip_norm")
"""Ends of the names of options that bound a step."""


def remedy(config: Any) -> str:
    """Return a sentence on what to change where a measured model is not finite.

    The training of clients says by itself when it diverges, so a strategy's own stages
    are named first.
    """
    own = listing(_rates(config)) if isinstance(config, Config) else ""
    first = (
        f"Lower the strategy's own rates ({own}), if its stages diverged; or "
        if own
        else ""
    )
    return f"{first}{'l' if own else 'L'}ower training.lr or set training.clip_norm."


def _rates(config: Config, path: str = "") -> Iterator[str]:
    """Yield the paths of the options that bound a step of the strategy's own."""
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, Config):
            yield from _rates(value, f"{path}{name}.")
        elif name.endswith(RATES) and isinstance(value, int | float):
            yield path + name
