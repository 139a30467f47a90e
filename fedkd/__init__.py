"""fedkd: federated learning with heterogeneous data and models, from one harness.

``import fedkd`` is instant: each public name is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fedkd._version import __version__ as __version__

if TYPE_CHECKING:
    from fedkd import testing as testing
    from fedkd.api.finished import FinishedRun as FinishedRun
    from fedkd.api.results import Results as Results
    from fedkd.api.results import load as load
    from fedkd.api.running import bench as bench
    from fedkd.api.running import run as run
    from fedkd.api.stepping import RoundResult as RoundResult
    from fedkd.api.stepping import rounds as rounds
    from fedkd.api.worlds import federation as federation
    from fedkd.config import Config as Config
    from fedkd.data.dataset import Dataset as Dataset
    from fedkd.data.dataset import DatasetConfig as DatasetConfig
    from fedkd.data.dataset import FileDataset as FileDataset
    from fedkd.data.dataset import Source as Source
    from fedkd.data.dataset import Split as Split
    from fedkd.data.groups import Groups as Groups
    from fedkd.data.images import ClientData as ClientData
    from fedkd.data.images import ImageInfo as ImageInfo
    from fedkd.data.images import ImageSet as ImageSet
    from fedkd.data.public import PublicData as PublicData
    from fedkd.data.vectors import VectorInfo as VectorInfo
    from fedkd.data.vectors import VectorSet as VectorSet
    from fedkd.data.vectors import vector_moments as vector_moments
    from fedkd.errors import ConfigError as ConfigError
    from fedkd.errors import ContractError as ContractError
    from fedkd.errors import DataError as DataError
    from fedkd.errors import DivergedError as DivergedError
    from fedkd.errors import FedKDError as FedKDError
    from fedkd.hookspecs import RunInfo as RunInfo
    from fedkd.hookspecs import hookimpl as hookimpl
    from fedkd.metrics.base import Metric as Metric
    from fedkd.metrics.base import Predictions as Predictions
    from fedkd.models.base import Classifier as Classifier
    from fedkd.models.base import ImageModel as ImageModel
    from fedkd.observers.base import Observer as Observer
    from fedkd.ops.training import TrainingConfig as TrainingConfig
    from fedkd.partition.base import Partition as Partition
    from fedkd.partition.base import Partitioner as Partitioner
    from fedkd.party import Client as Client
    from fedkd.party import ModelSpec as ModelSpec
    from fedkd.party import Server as Server
    from fedkd.payload import Weights as Weights
    from fedkd.plugins.registry import load_registry as load_registry
    from fedkd.simulation.executors.base import Executor as Executor
    from fedkd.simulation.federation import Federation as Federation
    from fedkd.simulation.protocol import EvaluationConfig as EvaluationConfig
    from fedkd.simulation.protocol import Protocol as Protocol
    from fedkd.simulation.simulator import RunResult as RunResult
    from fedkd.simulation.simulator import simulate as simulate
    from fedkd.strategy import Preset as Preset
    from fedkd.strategy import Requires as Requires
    from fedkd.strategy import Round as Round
    from fedkd.strategy import Strategy as Strategy
    from fedkd.weights import copy_weights as copy_weights
    from fedkd.weights import read_weights as read_weights

_HOMES = {
    "api.finished": "FinishedRun",
    "api.results": "Results load",
    "api.running": "bench run",
    "api.stepping": "RoundResult rounds",
    "api.worlds": "federation",
    "config": "Config",
    "data.dataset": "Dataset DatasetConfig FileDataset Source Split",
    "data.groups": "Groups",
    "data.images": "ClientData ImageInfo ImageSet",
    "data.public": "PublicData",
    "data.vectors": "VectorInfo VectorSet vector_moments",
    "errors": "ConfigError ContractError DataError DivergedError FedKDError",
    "hookspecs": "RunInfo hookimpl",
    "metrics.base": "Metric Predictions",
    "models.base": "Classifier ImageModel",
    "observers.base": "Observer",
    "ops.training": "TrainingConfig",
    "partition.base": "Partition Partitioner",
    "party": "Client ModelSpec Server",
    "payload": "Weights",
    "plugins.registry": "load_registry",
    "simulation.executors.base": "Executor",
    "simulation.federation": "Federation",
    "simulation.protocol": "EvaluationConfig Protocol",
    "simulation.simulator": "RunResult simulate",
    "strategy": "Preset Requires Round Strategy",
    "weights": "copy_weights read_weights",
}
"""The public names by the module that has them: all that authors and notebooks need."""
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}

__all__ = ["__version__", "testing"]
__all__ += list(_HOME_OF)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name == "testing":
        return importlib.import_module("fedkd.testing")
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"fedkd.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return the public names and the modules imported so far."""
    return sorted({*globals(), *__all__})
