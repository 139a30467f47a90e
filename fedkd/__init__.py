"""fedkd: federated learning with heterogeneous data and models, from one harness.

``import fedkd`` is instant: each public name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fedkd._version import __version__

if TYPE_CHECKING:
    from fedkd.config import Config
    from fedkd.data.dataset import Dataset
    from fedkd.data.images import ImageSet
    from fedkd.errors import FedKDError
    from fedkd.hookspecs import RunInfo, hookimpl
    from fedkd.partition.base import Partition, Partitioner
    from fedkd.payload import Weights
    from fedkd.plugins.registry import load_registry
    from fedkd.simulation.federation import Federation
    from fedkd.simulation.protocol import Protocol
    from fedkd.simulation.simulator import simulate
    from fedkd.strategy import Client, Preset, Requires, Round, Server, Strategy

__all__ = [
    "Client",
    "Config",
    "Dataset",
    "FedKDError",
    "Federation",
    "ImageSet",
    "Partition",
    "Partitioner",
    "Preset",
    "Protocol",
    "Requires",
    "Round",
    "RunInfo",
    "Server",
    "Strategy",
    "Weights",
    "__version__",
    "hookimpl",
    "load_registry",
    "simulate",
]

_HOMES = {
    "Client": "fedkd.strategy",
    "Config": "fedkd.config",
    "Dataset": "fedkd.data.dataset",
    "FedKDError": "fedkd.errors",
    "Federation": "fedkd.simulation.federation",
    "ImageSet": "fedkd.data.images",
    "Partition": "fedkd.partition.base",
    "Partitioner": "fedkd.partition.base",
    "Preset": "fedkd.strategy",
    "Protocol": "fedkd.simulation.protocol",
    "Requires": "fedkd.strategy",
    "Round": "fedkd.strategy",
    "RunInfo": "fedkd.hookspecs",
    "Server": "fedkd.strategy",
    "Strategy": "fedkd.strategy",
    "Weights": "fedkd.payload",
    "hookimpl": "fedkd.hookspecs",
    "load_registry": "fedkd.plugins.registry",
    "simulate": "fedkd.simulation.simulator",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names and the modules imported so far."""
    return sorted({*globals(), *__all__})
