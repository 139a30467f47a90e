"""Builds what a cell's configuration names: data, split, federation, strategy."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedkd.base.randomness import numpy_stream
from fedkd.config import build
from fedkd.data.dataset import FileDataset
from fedkd.data.images import ImageSet
from fedkd.data.prepared import store as prepared
from fedkd.data.prepared.halves import require_content
from fedkd.data.subsets import subset
from fedkd.errors import DataError, FedKDError
from fedkd.metrics.base import Metric
from fedkd.partition.base import Partition
from fedkd.partition.held_out import even_shards, matched_shards
from fedkd.party import ModelSpec
from fedkd.plugins.loader import cause
from fedkd.plugins.options import resolve
from fedkd.plugins.registry import Registry
from fedkd.simulation.federation import Federation
from fedkd.simulation.protocol import Protocol
from fedkd.strategy import Strategy
from fedkd.suite.grid import canonical
from fedkd.suite.metrics import built


class RunBuilder:
    """Where the cells of a process find their data and models."""

    def __init__(self, registry: Registry, root: Path, device: torch.device) -> None:
        self.registry = registry
        self.root = root
        """Folder of the data files."""
        self.device = device
        # The cells of a data set come one after another, so one is enough.
        self._read = functools.lru_cache(maxsize=1)(self._load)

    def data(self, config: Mapping[str, Any]) -> ImageSet:
        """Return the data set of a run, on the device; the last one is kept.

        Raises:
            DataError: If its files are missing or damaged, or the plug-in that reads
                them fails.
        """
        return self._read(canonical(config["dataset"]))

    def split(self, config: Mapping[str, Any]) -> Partition:
        """Return how a run's training data is split; the same for every strategy.

        Raises:
            ConfigError: If the data cannot be split so.
        """
        data = self.data(config)
        plain = config["partition"]
        partitioner, _ = self.registry.partitioner(plain["name"], plain["options"])
        rng = numpy_stream(config["seed"], "partition")
        clients = config["protocol"]["clients"]
        labels = data.y_train.cpu().numpy()
        return partitioner.split(labels, clients, data.num_classes, rng)

    def federation(self, config: Mapping[str, Any]) -> tuple[Federation, Partition]:
        """Return the federation of a run, and the split that it holds.

        Raises:
            FedKDError: If it cannot be put together.
        """
        data = self.data(config)
        partition = self.split(config)
        shards = _test_shards(config, data, partition)
        models = [self._model(plain) for plain in config["models"]]
        server = config.get("server_model")
        federation = Federation(
            data,
            partition.indices,
            shards,
            models,
            self.registry.model,
            server=None if server is None else self._model(server),
        )
        return federation, partition

    def strategy(self, config: Mapping[str, Any]) -> Strategy[Any, Any, Any]:
        """Return the strategy of a run."""
        plain = config["strategy"]
        found, _ = self.registry.strategy(plain["name"], plain["options"])
        return found

    def metrics(self, config: Mapping[str, Any]) -> dict[str, Metric]:
        """Return what a run measures beside accuracy, by label."""
        return built(self.registry, config.get("metrics", {}))

    def _model(self, plain: Mapping[str, Any]) -> ModelSpec:
        # Without defaults: initial weights hang on the spec, and an option that models
        # gain tomorrow must not change the weights of today.
        found = resolve(
            self.registry, "models", plain["name"], plain["options"], "models"
        )
        return ModelSpec(found.name, found.changed)

    def _load(self, dataset: str) -> ImageSet:
        plain = json.loads(dataset)
        reader, _ = self.registry.dataset(plain["name"], plain["options"])
        content = plain.get("content", "")
        with named_faults(self.registry, plain["name"]):
            if isinstance(reader, FileDataset):
                images = prepared.images(reader, self.root, content)
            else:
                images = reader.load(self.root)
                require_content(plain["name"], reader.content(), content)
            return subset(images, reader.config).to(self.device)


@contextmanager
def named_faults(registry: Registry, dataset: str) -> Iterator[None]:
    """Turn whatever a data set's reader raises in the block into an error that names it.

    Raises:
        DataError: If the files are missing or damaged, or the reader fails.
    """
    try:
        yield
    except FedKDError:
        raise
    # Reading runs a plug-in's code, which may raise anything.
    except Exception as error:
        title = registry.entries("datasets")[dataset].title
        raise DataError(f"{title} could not be loaded: {cause(error)}.") from error


def _test_shards(
    config: Mapping[str, Any], data: ImageSet, partition: Partition
) -> tuple[NDArray[np.int64], ...]:
    rng = numpy_stream(config["seed"], "test shards")
    labels = data.y_test.cpu().numpy()
    if config["protocol"]["test_shards"] == "matched":
        return matched_shards(np.asarray(partition.counts), labels, rng)
    return even_shards(len(partition.indices), labels, rng)


def protocol_of(config: Mapping[str, Any]) -> Protocol:
    """Return the protocol of a run."""
    return build(Protocol, config["protocol"], "protocol")
