"""What a run must be before it may start; nothing is trained or written before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedkd.base.signatures import check_verbs
from fedkd.errors import ConfigError
from fedkd.simulation.federation import Federation
from fedkd.simulation.pooling import arranged
from fedkd.simulation.protocol import Protocol
from fedkd.simulation.requirements import reason_to_skip
from fedkd.strategy import Strategy


def admitted(
    strategy: Strategy[Any, Any, Any],
    federation: Federation,
    protocol: Protocol,
    seed: int,
    name: str,
) -> tuple[Federation, Protocol]:
    """Return the world that a strategy runs in, if it can run there.

    Raises:
        ConfigError: If clients or seed cannot be right, or a need is not met.
        ContractError: If a verb cannot be called as it will be.
    """
    check_verbs(type(strategy), Strategy, name)
    if seed < 0:
        raise ConfigError(
            f"seed: found {seed}, expected a whole number from 0 on; give such a one."
        )
    if len(federation) != protocol.clients:
        raise ConfigError(
            f"the federation has {len(federation)} clients and the protocol "
            f"{protocol.clients}; give both the same number."
        )
    federation, protocol = arranged(strategy, federation, protocol)
    reason = reason_to_skip(strategy.requires, federation, protocol.buffers)
    if reason:
        raise ConfigError(f"{name} {reason}")
    return federation, protocol


def made_folder(path: Path | str | None) -> Path | None:
    """Return the folder of a run; it is made, and those above it, if it is not there.

    Raises:
        ConfigError: If something else goes by its name.
    """
    if path is None:
        return None
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ConfigError(
            f"folder {folder}: it, or one above it, is a file; give another folder."
        ) from None
    return folder
