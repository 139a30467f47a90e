"""What a run is, in words: so that no run goes on from another one's checkpoint."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from fedkd.config import Config
from fedkd.errors import ConfigError
from fedkd.federation import Federation
from fedkd.parties import Parties
from fedkd.strategy import Strategy


def identity(strategy: Strategy[Any, Any, Any], parties: Parties) -> dict[str, str]:
    """Return everything that a run's result depends on, by what it is called."""
    federation = parties.federation
    kind = type(strategy)
    data = federation.data
    return {
        "strategy": f"{kind.__module__}.{kind.__qualname__} {_plain(strategy.config)}",
        "protocol": _plain(parties.protocol),
        "seed": str(parties.seed),
        "data set": f"{data.name} of {len(data.y_train)} images {data.shape}",
        "models": ", ".join(spec.key for spec in federation.specs),
        "split": _digest(federation),
    }


def require_same(folder: Path, found: dict[str, str], wanted: dict[str, str]) -> None:
    """Refuse a checkpoint of another run.

    Raises:
        ConfigError: If any part differs; names the parts and both values of the first.
    """
    other = [name for name in wanted if found.get(name) != wanted[name]]
    if other:
        first = other[0]
        raise ConfigError(
            f"{folder} holds a checkpoint of another run, which differs in: "
            f"{', '.join(other)}. Its {first}: {found.get(first, 'unknown')}; here: "
            f"{wanted[first]}. Give this run another folder, or delete that one."
        )


def _plain(config: Any) -> str:
    """Return what a config sets; an option that a later version adds changes it not."""
    if isinstance(config, Config):
        return config.model_dump_json(exclude_defaults=True)
    return repr(config)


def _digest(federation: Federation) -> str:
    """Return a hash of which client has which images and which architecture."""
    found = hashlib.sha256()
    for client, tests in zip(federation.clients, federation.test_shards, strict=True):
        for indices in (client.indices, tests):
            found.update(f"{len(indices)}:".encode())
            found.update(indices.cpu().numpy().tobytes())
    for spec in (federation.server_model, *federation.client_models):
        found.update(f"{spec.key};".encode())
    return found.hexdigest()[:16]
