"""The world of an experiment: data, shards and a model for each client."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedkd.base.randomness import torch_stream
from fedkd.base.shown import brief
from fedkd.data.images import ClientData, LabelledSet
from fedkd.data.positions import positions_in
from fedkd.data.public import PublicData
from fedkd.errors import ConfigError
from fedkd.metrics.columns import VALIDATION
from fedkd.party import ModelSpec
from fedkd.strategy import Requires, Round

ModelFactory = Callable[[str], Callable[..., nn.Module]]
"""Maps a registered name to ``build(input_shape, num_classes, **options)``."""


@dataclass(frozen=True)
class Exam:
    """What models are measured on: a test half, and the part of it of each client."""

    data: LabelledSet
    """Its test half is what a global model is measured on."""
    shards: Sequence[Tensor]
    """For each client, positions in that half."""


@dataclass(frozen=True)
class Validation:
    """Training images held out from their clients, to choose by instead of the test set."""

    shards: tuple[np.ndarray, ...]
    """For each client, positions in the training half; no client trains on them."""
    alone: bool = False
    """Whether the test set is left alone: nothing is measured on it."""

    def pooled(self) -> Validation:
        """Return the validation images of one client that has those of all."""
        return Validation((np.sort(np.concatenate(self.shards)),), self.alone)

    def exam(self, data: LabelledSet) -> Exam:
        """Return the set whose test half is these images, one client after the other."""
        every = torch.from_numpy(np.concatenate(self.shards)).to(data.x_train.device)
        half = replace(
            data, x_test=data.x_train[every], y_test=data.y_train[every], groups=None
        )
        ends = np.cumsum([0, *map(len, self.shards)])
        parts = [torch.arange(a, b) for a, b in itertools.pairwise(ends)]
        return Exam(half, parts)


class Federation:
    """Data, a shard of it for each client, and a model for each side."""

    def __init__(  # noqa: PLR0913 - a world is put together in one place
        self,
        data: LabelledSet,
        shards: Sequence[np.ndarray],
        test_shards: Sequence[np.ndarray],
        models: Sequence[ModelSpec],
        factory: ModelFactory,
        *,
        server: ModelSpec | None = None,
        public: PublicData | None = None,
        periods: Sequence[Sequence[np.ndarray]] | None = None,
        validation: Validation | None = None,
    ) -> None:
        """Put a federation together.

        Args:
            data: The set, on the device where training happens.
            shards: For each client, positions in the training set: whole numbers, in an
                array, a tensor or a list.
            test_shards: For each client, positions in the test set.
            models: The mix: client ``i`` has entry ``i mod n``.
            factory: Gives the builder of a registered model.
            server: The server's model; the first of ``models`` if None.
            public: Images that everybody may see; none if None.
            periods: For each client, its positions in the training set by period of
                the run; None if clients train on all of theirs in every round.
            validation: Training images that no client trains on; none if None.

        Raises:
            ConfigError: If there is no client, no model, a client without data, one
                that has a public image, or a position that is none.
        """
        _require_clients(shards, test_shards, models, periods)
        self.data = data
        rows, images = len(data.y_train), partial(ClientData, data)
        self.clients = [images(i) for i in _positions(rows, shards, "shards")]
        self.periods = [
            [images(positions_in(rows, part, f"periods: client {k}")) for part in parts]
            for k, parts in enumerate(periods or ())
        ]
        """For each client, the images of each period; empty if there are no periods."""
        self.test_shards = _positions(len(data.y_test), test_shards, "test_shards")
        self.validation = validation
        """Images that are measured on beside the test set; None if there are none."""
        self.server_model = models[0] if server is None else server
        self.client_models = [models[k % len(models)] for k in range(len(shards))]
        self._factory = factory
        self.public = public
        """Images that everybody may see, without labels; None if there are none."""
        self.server_public: PublicData | None = None
        """Those that the server has: none, unless its strategy declares the need."""
        self.client_public: PublicData | None = None
        """Those that every client has: none, unless its strategy declares the need."""
        self.seed: int | None = None
        """The seed that its split was dealt by, if it is known."""
        self.attack: Exam | None = None
        """What the success of a backdoor is measured on; None without one."""
        _refuse_public_clients(self.clients, self.periods, public)

    def __repr__(self) -> str:
        """Return data, clients and models."""
        specs = ", ".join(spec.shown for spec in self.specs)
        seed = "" if self.seed is None else f"seed {self.seed}"
        return brief(self, self.data.name, f"{len(self)} clients", specs, seed)

    @property
    def specs(self) -> list[ModelSpec]:
        """The different models of the federation, the server's first."""
        every = (self.server_model, *self.client_models)
        return list({spec.key: spec for spec in every}.values())

    def pooled(self) -> Federation:
        """Return the federation of one client that has all the clients' data."""
        shard = np.sort(torch.cat([c.indices.cpu() for c in self.clients]).numpy())
        tests = np.unique(torch.cat(self.test_shards).numpy())
        whole = Federation(
            self.data,
            [shard],
            [tests],
            [self.server_model],
            self._factory,
            public=self.public,
            validation=self.validation and self.validation.pooled(),
        )
        whole.attack = self.attack
        return whole

    def offering(self, requires: Requires) -> Federation:
        """Return the federation whose sides have the public images that they declare."""
        if self.public is None:
            return self
        twin = copy.copy(self)
        everywhere = requires.public_data_at_clients
        twin.server_public = self.public if everywhere or requires.public_data else None
        twin.client_public = self.public if everywhere else None
        return twin

    def data_in(self, k: int, round: Round) -> ClientData:
        """Return the images that client ``k`` has in a round.

        Periods are of equal length, but for rounding: in round i of n it is that of
        number floor(i T / n) of T.
        """
        if not self.periods:
            return self.clients[k]
        parts = self.periods[k]
        return parts[round.index * len(parts) // round.total]

    @cached_property
    def exams(self) -> dict[str, Exam]:
        """What models are measured on, by what stands before its columns.

        The test set is under ``""``, and left out if it is left alone.
        """
        exams = {"": Exam(self.data, self.test_shards)}
        if self.validation is not None:
            exams[VALIDATION] = self.validation.exam(self.data)
            if self.validation.alone:
                del exams[""]
        return exams

    @property
    def device(self) -> torch.device:
        """Where training happens."""
        return self.data.x_train.device

    def __len__(self) -> int:
        """Return the number of clients."""
        return len(self.clients)

    def label_counts(self) -> Tensor:
        """Return the client x class table of training images, int64 ``[K, C]``."""
        return torch.stack([client.label_counts() for client in self.clients])

    def build(self, name: str, **options: Any) -> nn.Module:
        """Return a new registered model for this data, from the current stream."""
        model = self._factory(name)(self.data.shape, self.data.num_classes, **options)
        # Convolutions run 1.4 to 3 times as fast on the CPU in this memory format.
        return model.to(self.device).to(memory_format=torch.channels_last)

    def build_spec(self, spec: ModelSpec, seed: int) -> nn.Module:
        """Return the model of ``spec`` with the initial weights of run ``seed``.

        They depend on the seed and the spec only, so every strategy starts alike.
        """
        with torch_stream(seed, "init", spec.key, device=self.device):
            return self.build(spec.name, **spec.options)


def _positions(size: int, shards: Sequence[Any], name: str) -> list[Tensor]:
    """Return the positions of each client in a half of ``size`` images."""
    return [
        positions_in(size, shard, f"{name}: client {k}")
        for k, shard in enumerate(shards)
    ]


def _require_clients(
    shards: Sequence[np.ndarray],
    test_shards: Sequence[np.ndarray],
    models: Sequence[ModelSpec],
    periods: Sequence[Sequence[np.ndarray]] | None,
) -> None:
    """Refuse a world without clients or models, or with a client without data."""
    empty = [k for k, shard in enumerate(shards) if len(shard) == 0]
    if not shards or not models or len(shards) != len(test_shards) or empty:
        raise ConfigError(
            f"a federation needs clients with data and a model; found {len(shards)} "
            f"shards, {len(test_shards)} test shards, {len(models)} models, and "
            f"clients without data: {empty}. Lower the number of clients."
        )
    if periods is not None and len(periods) != len(shards):
        raise ConfigError(
            f"periods: found those of {len(periods)} clients, expected {len(shards)}."
        )


def _refuse_public_clients(
    clients: Sequence[ClientData],
    periods: Sequence[Sequence[ClientData]],
    public: PublicData | None,
) -> None:
    """Refuse clients that have an image which is public, be it in one period."""
    if public is None or public.positions is None:
        return
    for k, client in enumerate(clients):
        own = [client, *(periods[k] if periods else ())]
        indices = torch.cat([part.indices for part in own]).cpu().numpy()
        both = np.intersect1d(indices, public.positions)
        if len(both):
            raise ConfigError(
                f"public data: client {k} has {len(both)} of the public images, the "
                f"first at position {both[0]} of the training set; expected none. Deal "
                "out only what PublicData.held_out leaves to the clients."
            )
