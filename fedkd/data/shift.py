"""What differs from client to client beside labels: looks, concepts, and over time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from fedkd.base.randomness import numpy_stream
from fedkd.config import Config
from fedkd.data.images import LabelledSet
from fedkd.data.inputs import described, kind_of
from fedkd.data.looks import LOOKS, level_count
from fedkd.errors import ConfigError, counted, listing
from fedkd.partition.dirichlet import Dirichlet, DirichletConfig

Positions = NDArray[np.int64]
Feature = Literal["rotation", "colour", "blur", "noise", "resolution"]
_PIECE = 1024
"""Images that are changed at once."""
_STRENGTH = 0.5
_PERIOD_ALPHA = 0.1


class ShiftConfig(Config):
    """How the clients of a world differ beside their labels; by default they do not."""

    features: tuple[Feature, ...] = ()
    """Feature skew: what is done to the images of each client, for training and test, in
    this order: ``rotation``, ``colour``, ``blur``, ``noise``, ``resolution``. How much is
    drawn for each client."""
    strength: float = Field(_STRENGTH, gt=0, le=1)
    """The most that a client's features are changed; at 1 a rotation is by up to 180
    degrees either way."""
    concepts: int = Field(1, ge=1)
    """Concept skew: clusters of clients, client k in cluster k mod ``concepts``. All but
    the first call every class another, each cluster in its own way, in training and
    test."""
    periods: int = Field(1, ge=1)
    """Temporal drift: the rounds of a run are cut into so many periods, and a client
    trains in each on another part of its images."""
    period_alpha: float = Field(_PERIOD_ALPHA, gt=0, le=1e6)
    """Concentration with which a client's classes are dealt to its periods, as in the
    partitioner ``dirichlet``: small is a mix that changes strongly."""

    @model_validator(mode="after")
    def _every_option_counts(self) -> ShiftConfig:
        if len(set(self.features)) < len(self.features):
            raise ValueError("a feature comes twice in features; name each once")
        if not self.features and self.strength != _STRENGTH:
            raise ValueError("strength is of features, found none; name some")
        if self.periods == 1 and self.period_alpha != _PERIOD_ALPHA:
            raise ValueError("period_alpha is of periods, found 1; expected 2 or more")
        return self

    @property
    def is_none(self) -> bool:
        """Whether clients differ in nothing but their labels."""
        return self == NO_SHIFT

    @property
    def shown(self) -> str:
        """What tables call it: ``rotation+noise 0.5, 2 concepts``; empty for none."""
        parts = []
        if self.features:
            parts.append(f"{'+'.join(self.features)} {self.strength:g}")
        if self.concepts > 1:
            parts.append(f"{self.concepts} concepts")
        if self.periods > 1:
            parts.append(f"{self.periods} periods {self.period_alpha:g}")
        return ", ".join(parts)


NO_SHIFT = ShiftConfig()
"""Clients that differ in nothing but their labels."""


@dataclass(frozen=True)
class Shifted:
    """The data of a world whose clients differ beside their labels."""

    data: LabelledSet
    """Training inputs are where they were, changed for the client that has them. The
    test half holds the clients' own test inputs, one client after the other."""
    test_shards: tuple[Positions, ...]
    """For each client, positions in the test half."""
    periods: Sequence[Sequence[Positions]] | None = None
    """For each client, positions in the training half by period; None without drift."""


def shifted(
    data: LabelledSet,
    shards: Sequence[Positions],
    test_shards: Sequence[Positions],
    shift: ShiftConfig,
    seed: int,
    held: Sequence[Positions] = (),
) -> Shifted:
    """Return a data set with the inputs and labels that each client sees.

    An input that is in the test shards of several clients is there once for each. What
    is drawn hangs on the seed, the client and the feature only: the streams are ``(seed,
    "shift", client, feature)`` and, for concepts, ``(seed, "shift", "concept", cluster)``.

    Args:
        data: The set before, on any device.
        shards: For each client, positions in the training half; none is at two.
        test_shards: For each client, positions in the test half.
        shift: What is to differ.
        seed: Of the run.
        held: For each client, positions in the training half that it is validated on;
            none if empty. They change as its training inputs do, on streams of their own.

    Raises:
        ConfigError: If a client has fewer inputs than there are periods, or features
            are to differ and the data are no images.
    """
    _require_looks(data, shift)
    periods = None
    if shift.periods > 1:
        periods = parts_of(shards, data.y_train.cpu().numpy(), shift, seed)
    if not shift.features and shift.concepts == 1:
        return Shifted(data, tuple(test_shards), periods)
    eyes = [_Client(shift, seed, k, data.num_classes) for k in range(len(shards))]
    x_train, y_train = data.x_train.clone(), data.y_train.clone()
    for client, shard in zip(eyes, shards, strict=True):
        client.change(data, shard, "train", (x_train, y_train))
    for client, shard in zip(eyes, held, strict=False):
        client.change(data, shard, "validation", (x_train, y_train))
    every = torch.from_numpy(np.concatenate(list(test_shards)))
    tests = []
    for client, shard in zip(eyes, test_shards, strict=True):
        own = torch.from_numpy(shard).to(x_train.device)
        inputs = client.inputs(data.x_test[own], "test")
        tests.append((inputs, client.labels(data.y_test[own])))
    number = counted(len(every), data.noun)
    note = f"The test set is the clients' own test {data.noun}s as they see them: {number}."
    moved = replace(
        data,
        x_train=x_train,
        y_train=y_train,
        x_test=torch.cat([x for x, _ in tests]),
        y_test=torch.cat([y for _, y in tests]),
        notes=(*data.notes, note),
        groups=data.groups and data.groups.kept(test=every),
    )
    ends = np.cumsum([0, *map(len, test_shards)])
    places = tuple(np.arange(a, b) for a, b in itertools.pairwise(ends))
    return Shifted(moved, places, periods)


def _require_looks(data: LabelledSet, shift: ShiftConfig) -> None:
    """Refuse to change the looks of what has none."""
    if shift.features and kind_of(data.shape) != "images":
        raise ConfigError(
            f"shifts: found the features {listing(shift.features)}, which are of images, "
            f"and the data {data.name} are {described(data.shape)}. Leave out features; "
            "concepts and periods are there for both kinds."
        )


class _Client:
    """How one client sees inputs and labels."""

    def __init__(self, shift: ShiftConfig, seed: int, k: int, classes: int) -> None:
        self._shift = shift
        self._name = (seed, "shift", k)
        self._names = torch.from_numpy(concept(k % shift.concepts, classes, seed))

    def change(
        self, data: LabelledSet, own: Positions, half: str, into: tuple[Tensor, Tensor]
    ) -> None:
        """Put training inputs and labels as it sees them into tensors of all of them."""
        places = torch.from_numpy(own).to(data.x_train.device)
        into[0][places] = self.inputs(data.x_train[places], half)
        into[1][places] = self.labels(data.y_train[places])

    def inputs(self, x: Tensor, half: str) -> Tensor:
        """Return images uint8 ``[n, C, H, W]``, or vectors ``[n, D]``, as it sees them."""
        if not len(x):
            return x
        made = x.cpu()
        count = level_count(made.shape[1])
        for feature in self._shift.features:
            levels = numpy_stream(*self._name, feature).uniform(-1, 1, count)
            rng = numpy_stream(*self._name, feature, half)
            look, strength = LOOKS[feature], self._shift.strength
            pieces = [
                look(piece.float(), levels, strength, rng).round().clamp(0, 255).byte()
                for piece in made.split(_PIECE)
            ]
            made = torch.cat(pieces)
        return made.to(x.device)

    def labels(self, y: Tensor) -> Tensor:
        """Return labels int64 ``[n]`` as it calls them."""
        return self._names.to(y.device)[y]


def concept(cluster: int, classes: int, seed: int) -> Positions:
    """Return what a cluster of clients calls each class, int64 ``[C]``.

    The first cluster calls them as they are; in others every class has another's name:
    classes in random order, each called as the next.
    """
    names = np.arange(classes)
    if cluster:
        order = numpy_stream(seed, "shift", "concept", cluster).permutation(classes)
        names[order] = np.roll(order, -1)
    return names


def parts_of(
    shards: Sequence[Positions], labels: Positions, shift: ShiftConfig, seed: int
) -> list[list[Positions]]:
    """Deal each client's images into its periods; the stream is ``(seed, "drift", k)``.

    Args:
        shards: For each client, positions in the training half.
        labels: Labels of the training half, int64 ``[N]``.
        shift: How many periods there are, and how their mixes differ.
        seed: Of the run.

    Returns:
        For each client, positions in the training half by period.

    Raises:
        ConfigError: If a client has fewer images than there are periods.
    """
    poor = [k for k, shard in enumerate(shards) if len(shard) < shift.periods]
    if poor:
        few = listing(map(str, poor))
        raise ConfigError(
            f"shifts: found {shift.periods} periods and fewer images at client {few}, "
            "expected an image for each period. Lower periods, or raise the option "
            "min_size of the partition."
        )
    how = Dirichlet(DirichletConfig(alpha=shift.period_alpha, min_size=1))
    classes = int(labels.max()) + 1
    dealt = []
    for k, shard in enumerate(shards):
        rng = numpy_stream(seed, "drift", k)
        parts = how.split(labels[shard], shift.periods, classes, rng).indices
        dealt.append([shard[part] for part in parts])
    return dealt
