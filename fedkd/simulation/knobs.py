"""Which options hold a training that diverged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from fedkd.config import Config
from fedkd.errors import listing

RATES = ("lr", "clip_norm")
"""Ends of the names of options that bound a step."""


def remedy(config: Any, odd: Iterable[str]) -> str:
    """Return sentences on what to change where a measured model is not finite.

    The training of clients says by itself when it diverges, so a strategy's own stages
    are named first.

    Args:
        config: The strategy's options.
        odd: Names of what was logged in the round and not finite.
    """
    logged = listing(odd)
    seen = f"Logged in this round and not finite: {logged}. " if logged else ""
    own = listing(_rates(config)) if isinstance(config, Config) else ""
    if not own:
        return f"{seen}Lower training.lr or set training.clip_norm."
    return (
        f"{seen}Lower the rate of what diverged: the strategy's own are {own}; the "
        "clients' is training.lr, beside training.clip_norm."
    )


def _rates(config: Config, path: str = "") -> Iterator[str]:
    """Yield the paths of the options that bound a step of the strategy's own."""
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, Config):
            yield from _rates(value, f"{path}{name}.")
        elif name.endswith(RATES) and isinstance(value, int | float):
            yield path + name
