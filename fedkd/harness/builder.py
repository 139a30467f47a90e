"""Builds what a cell names: data, split, federation, strategy."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from fedkd.base.randomness import numpy_stream
from fedkd.data.dataset import Dataset, FileDataset, finished
from fedkd.data.images import LabelledSet
from fedkd.data.prepared import store as prepared
from fedkd.data.prepared.halves import require_content
from fedkd.data.public import PublicData
from fedkd.data.shift import ShiftConfig, Shifted, shifted
from fedkd.errors import DataError, FedKDError, cause, counted, line_of
from fedkd.metrics.base import Metric
from fedkd.partition.base import Partition, Partitioner, SplitConfig
from fedkd.partition.dealing import dealt
from fedkd.partition.held_out import even_shards, matched_shards, shards_within
from fedkd.partition.validation import held_out
from fedkd.party import ModelSpec
from fedkd.plugins.options import Resolved, made
from fedkd.plugins.registry import Registry
from fedkd.simulation.federation import Federation, Validation
from fedkd.strategy import Strategy
from fedkd.suite.grid import Cell
from fedkd.suite.metrics import built
from fedkd.suite.public import Public

SPLITS = 64
"""Splits that are kept: those that were dealt for the check are those that are used."""
SplitKey: TypeAlias = tuple[Resolved, Resolved, int, int, float | None]
"""What a split hangs on: data set, partition, number of clients, seed, public share."""


class RunBuilder:
    """Where the cells of a process find their data and models."""

    def __init__(
        self,
        registry: Registry,
        root: Path,
        device: torch.device,
        hashes: Mapping[SplitKey, str] | None = None,
    ) -> None:
        """Build nothing yet.

        Args:
            registry: Where names are looked up.
            root: Folder of the data files.
            device: Where data and models are put.
            hashes: Of splits that another process has dealt, for the same bench.
        """
        self.registry = registry
        self.root = root
        """Folder of the data files."""
        self.device = device
        self.hashes: dict[SplitKey, str] = dict(hashes or {})
        """Of each split that was dealt; it is the same in every process of a bench."""
        self.notes: dict[Resolved, list[str]] = {}
        """What is to be said of each data set that was loaded: a sentence each."""
        # The cells of a data set come one after another, so one is enough.
        self._kept_data = functools.lru_cache(maxsize=1)(self._load)
        self._kept_beside = functools.lru_cache(maxsize=1)(self._load)
        self._kept_public = functools.lru_cache(maxsize=1)(self._make_public)
        self._kept_splits = functools.lru_cache(SPLITS)(self._deal)
        # Large where there are many clients; those of a seed come one after another.
        self._kept_shards = functools.lru_cache(maxsize=1)(self._hold_out)
        self._kept_shifts = functools.lru_cache(maxsize=1)(self._shifted)

    def data(self, dataset: Resolved, *, beside: bool = False) -> LabelledSet:
        """Return a data set, on the device; the last one is kept.

        Args:
            dataset: Which one.
            beside: Whether it is one beside the clients', so that theirs stays too.

        Raises:
            DataError: If its files are missing or damaged, or the plug-in that reads
                them fails.
        """
        return (self._kept_beside if beside else self._kept_data)(dataset)

    def split(
        self,
        dataset: Resolved,
        partition: Resolved,
        clients: int,
        seed: int,
        share: float | None = None,
    ) -> Partition:
        """Return how training data is split, the same for every strategy; it is kept.

        Args:
            dataset: Whose training images are split.
            partition: The scheme.
            clients: Number of clients.
            seed: Of the run.
            share: Of the training images that is public and left out; none if None.

        Raises:
            ConfigError: If the data cannot be split so.
        """
        return self._kept_splits(dataset, partition, clients, seed, share)

    def federation(self, cell: Cell) -> tuple[Federation, Partition]:
        """Return the federation of a run, and the split that it holds.

        Raises:
            FedKDError: If it cannot be put together.
        """
        parts, run = cell.parts, cell.run
        share = None if parts.public is None else parts.public.share
        dealing = (parts.dataset, parts.partition, run.clients, run.seed, share)
        split, held = self._validated(parts.validation, dealing)
        key = (parts.protocol.test_shards, *dealing)
        if parts.shift.is_none:
            world = Shifted(self.data(parts.dataset), self._kept_shards(*key))
        else:
            world = self._kept_shifts(
                parts.shift, parts.protocol.test_shards, dealing, parts.validation
            )
        server = parts.models.server
        federation = Federation(
            world.data,
            split.indices,
            world.test_shards,
            [_spec(model) for model in parts.models.clients],
            self.registry.model,
            server=None if server is None else _spec(server),
            periods=world.periods,
            validation=Validation(held, parts.blind) if held else None,
            public=self._kept_public(
                parts.public, parts.dataset, parts.partition, run.seed
            ),
        )
        return federation, split

    def strategy(self, cell: Cell) -> Strategy[Any, Any, Any]:
        """Return the strategy of a run: a new one, so that no run can change another."""
        strategy: Strategy[Any, Any, Any]
        strategy = made(self.registry, "strategies", cell.parts.strategy)
        return strategy

    def metrics(self, cell: Cell) -> dict[str, Metric]:
        """Return what a run measures beside accuracy, by label."""
        return built(self.registry, cell.parts.metrics)

    def _load(self, dataset: Resolved) -> LabelledSet:
        with _sentences(self.notes.setdefault(dataset, [])) as notes:
            read = self._read(dataset)
            notes.extend(read.notes)
        return replace(read.to(self.device), notes=tuple(notes))

    def _read(self, dataset: Resolved) -> LabelledSet:
        reader: Dataset = made(self.registry, "datasets", dataset)
        with named_faults(self.registry, dataset.name):
            if isinstance(reader, FileDataset):
                whole = prepared.images(reader, self.root, dataset.content)
                return finished(whole, reader)
            read = reader.load(self.root)
            require_content(dataset.name, reader.content(), dataset.content)
            return read

    def _deal(
        self,
        dataset: Resolved,
        partition: Resolved,
        clients: int,
        seed: int,
        share: float | None,
    ) -> Partition:
        data = self.data(dataset)
        partitioner: Partitioner = made(self.registry, "partitioners", partition)
        partitioner.classes = data.classes
        if data.groups is not None:
            partitioner.groups = data.groups.train.numpy()
        labels = data.y_train.cpu().numpy()
        left = None
        if share is not None:
            drawn = _seed_of(partitioner, seed)
            _, left = PublicData.held_out(len(labels), share, drawn)
            if partitioner.groups is not None:
                partitioner.groups = partitioner.groups[left]
        key = (dataset, partition, clients, seed, share)
        split = dealt(
            partitioner,
            partition.name,
            labels if left is None else labels[left],
            clients,
            data.num_classes,
            seed,
            known=self.hashes.get(key),
        )
        self.hashes[key] = split.hash
        return split if left is None else _within(split, left, labels, data.num_classes)

    def _make_public(
        self,
        public: Public | None,
        dataset: Resolved,
        partition: Resolved,
        seed: int,
    ) -> PublicData | None:
        """Return the images that everybody may see; None without any."""
        if public is None:
            return None
        data = self.data(dataset)
        if public.dataset is not None:
            return PublicData.of_set(data, self.data(public.dataset, beside=True))
        assert public.share is not None, "there is a share where there is no data set"
        drawn = _seed_of(made(self.registry, "partitioners", partition), seed)
        held, _ = PublicData.held_out(len(data.y_train), public.share, drawn)
        return PublicData.of_share(data, held)

    def _hold_out(
        self,
        kind: str,
        dataset: Resolved,
        partition: Resolved,
        clients: int,
        seed: int,
        share: float | None,
    ) -> tuple[NDArray[np.int64], ...]:
        """Return the test images that measure each client: of its group, if it has one."""
        rng = numpy_stream(seed, "test shards")
        data = self.data(dataset)
        labels = data.y_test.cpu().numpy()
        split = self.split(dataset, partition, clients, seed, share)
        table = np.asarray(split.counts)

        def deal(
            some: NDArray[np.int64], labels: NDArray[np.int64]
        ) -> tuple[NDArray[np.int64], ...]:
            if kind == "matched":
                return matched_shards(table[some], labels, rng)
            return even_shards(len(some), labels, rng)

        if split.groups is None or data.groups is None:
            return deal(np.arange(len(table)), labels)
        return shards_within(split.groups, data.groups.test.numpy(), labels, deal)

    def _validated(
        self, share: float | None, dealing: SplitKey
    ) -> tuple[Partition, tuple[NDArray[np.int64], ...]]:
        """Return what clients train on, and what is held out of it for validation."""
        split = self.split(*dealing)
        if share is None:
            return split, ()
        dataset, partition, _, seed, _ = dealing
        drawn = _seed_of(made(self.registry, "partitioners", partition), seed)
        labels = self.data(dataset).y_train.cpu().numpy()
        return held_out(split, labels, share, drawn)

    def _shifted(
        self,
        shift: ShiftConfig,
        kind: str,
        dealing: SplitKey,
        validation: float | None,
    ) -> Shifted:
        """Return the data as each client sees them, the same for every strategy."""
        dataset, _, _, seed, _ = dealing
        tests = self._kept_shards(kind, *dealing)
        split, held = self._validated(validation, dealing)
        return shifted(self.data(dataset), split.indices, tests, shift, seed, held)


@contextmanager
def _sentences(notes: list[str]) -> Iterator[list[str]]:
    """Give an empty list, and add to it what Python warns of in the block, each once."""
    notes.clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield notes
        finally:
            notes += (" ".join(str(warning.message).split()) for warning in caught)
            notes[:] = dict.fromkeys(notes)


@contextmanager
def named_faults(registry: Registry, dataset: str) -> Iterator[None]:
    """Turn whatever a data set's reader raises in the block into an error that names it.

    Raises:
        DataError: If the files are missing or damaged, or the reader fails.
    """
    try:
        yield
    except (FedKDError, KeyboardInterrupt):
        raise
    # Reading runs a plug-in's code, which may raise anything.
    except BaseException as error:
        title = registry.entries("datasets")[dataset].title
        raise DataError(
            f"{title} could not be loaded: {cause(error)}{line_of(error)}."
        ) from error


def _within(
    split: Partition, left: NDArray[np.int64], labels: NDArray[np.int64], classes: int
) -> Partition:
    """Return a split of what is left of a training set, in positions of the whole."""
    held = counted(len(labels) - len(left), "training image")
    note = f"{held} held out before the partition, as public data"
    whole = [left[indices] for indices in split.indices]
    made_whole = Partition.of(whole, labels, classes, (*split.notes, note))
    return replace(made_whole, groups=split.groups)


def _seed_of(partitioner: Partitioner, seed: int) -> int:
    """Return the seed of the split: the run's, or the one that the scheme is fixed to."""
    config = partitioner.config
    fixed = config.seed if isinstance(config, SplitConfig) else None
    return seed if fixed is None else fixed


def _spec(model: Resolved) -> ModelSpec:
    # Without defaults: initial weights hang on the spec, and an option that models
    # gain tomorrow must not change the weights of today.
    return ModelSpec(model.name, model.changed)
