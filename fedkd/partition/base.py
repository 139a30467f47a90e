"""Splits of a training set over clients: what a split is, and how one is dealt.

The schemes are in :mod:`fedkd.partition.schemes`, :mod:`fedkd.partition.dirichlet` and
:mod:`fedkd.partition.counts`. Most of them decide on a client x class table first;
repairing it and dealing the samples out is common to all and lives here.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from fedkd.base.randomness import numpy_stream
from fedkd.base.shown import brief
from fedkd.config import Config, options_text
from fedkd.errors import ConfigError, ContractError, DataError, counted, listing
from fedkd.partition.table import table_text

Indices: TypeAlias = NDArray[np.int64]
"""Positions in the training set, ``[n]``."""
Table: TypeAlias = NDArray[np.int64]
"""Samples by client and class, ``[K, C]``."""
AnyRandom: TypeAlias = np.random.Generator | np.random.RandomState
"""NumPy's generators, today's and the legacy one."""

NOTES = 10
"""Repaired clients that get a note of their own."""
LEFT_OUT = "left out: "
"""What a note begins with that tells of samples which nobody has."""


@dataclass(frozen=True, eq=False)
class Partition:
    """Which samples each client has. Made by :meth:`of`."""

    indices: tuple[Indices, ...]
    """For each client, positions in the training set, int64 ``[n_k]``."""
    counts: Table
    """Samples by client and class, int64 ``[K, C]``."""
    notes: tuple[str, ...] = ()
    """What a reader of results should know: repairs, samples that nobody has."""
    hash: str = ""
    """First 16 hexadecimal digits of the SHA-256 of the index lists."""
    groups: Indices | None = None
    """The group that each client is of, int64 ``[K]``, from which its test images are
    taken; None where clients are of no group."""

    def __repr__(self) -> str:
        """Return clients, classes and sizes: not who has which sample."""
        clients, classes = self.counts.shape
        sizes = f"{self.sizes.min():,} to {self.sizes.max():,} samples each"
        return brief(
            self, f"{clients} clients", f"{classes} classes", sizes, f"hash {self.hash}"
        )

    @classmethod
    def of(
        cls,
        indices: Sequence[ArrayLike],
        labels: Indices,
        num_classes: int,
        notes: Sequence[str] = (),
        groups: ArrayLike | None = None,
    ) -> Partition:
        """Put a split together from each client's positions in the training set.

        Args:
            indices: For each client, positions in ``labels``.
            labels: Labels of the training set, int64 ``[N]``.
            num_classes: C, the number of classes.
            notes: What a reader of results should know.
            groups: The group that each client is of, ``[K]``; None if of none.

        Raises:
            ContractError: If a position is no whole number, does not exist or is given
                twice.
        """
        lists = tuple(_whole(each, k) for k, each in enumerate(indices))
        every = np.concatenate([np.empty(0, np.int64), *lists])
        _check_positions(every, len(labels))
        owner = np.repeat(np.arange(len(lists)), [len(each) for each in lists])
        cells = owner * num_classes + labels[every]
        counts = np.bincount(cells, minlength=len(lists) * num_classes)
        table = counts.reshape(len(lists), num_classes).astype(np.int64)
        of = None if groups is None else np.asarray(groups, dtype=np.int64)
        return cls(lists, table, tuple(notes), _hash(lists), of)

    @property
    def sizes(self) -> Indices:
        """Number of samples of each client, ``[K]``."""
        sizes: Indices = self.counts.sum(1)
        return sizes

    @property
    def left_out(self) -> tuple[str, ...]:
        """The notes on samples that nobody has: what is trained on is not all."""
        return tuple(note for note in self.notes if note.startswith(LEFT_OUT))

    def to_csv(self, classes: Sequence[str]) -> str:
        """Return the client x class table as CSV, as partitioner ``counts`` reads it.

        Args:
            classes: The C class names, for the header; see
                :func:`~fedkd.partition.table.table_text`.
        """
        return table_text(self.counts, classes)


class Partitioner(ABC):
    """A scheme that splits a training set over clients. Subclasses are final."""

    Config: ClassVar[type[Config]] = Config
    """Options of the scheme."""
    argument: ClassVar[str] = ""
    """The option that ``NAME:VALUE`` sets where a scheme is named; none if empty."""
    classes: tuple[str, ...] = ()
    """Names of the classes, by label; set before a split, empty if nobody knows them."""
    groups: Indices | None = None
    """Groups of the samples, int64 ``[N]``: writer, domain, user; set before a split,
    None if the data set has none."""

    def __init__(self, config: Any = None) -> None:
        self.config: Any = self.Config() if config is None else config

    def __repr__(self) -> str:
        """Return the class, and the options that differ from their defaults."""
        return brief(self, options_text(self.config))

    @abstractmethod
    def split(
        self, labels: Indices, clients: int, num_classes: int, rng: np.random.Generator
    ) -> Partition:
        """Split the samples over the clients; no sample goes to two of them.

        Args:
            labels: Labels of the training set, int64 ``[N]`` in 0..C-1.
            clients: K, the number of clients.
            num_classes: C, the number of classes.
            rng: The only source of random numbers.

        Raises:
            ConfigError: If the samples cannot be split so.
        """

    def content(self) -> str:
        """Return a digest of the files that the split is read from; "" if there are none.

        It is part of what a run is told, so that other content makes another run.

        Raises:
            ConfigError: If a file cannot be read.
        """
        return ""


class SplitConfig(Config):
    """Options that every built-in scheme has."""

    seed: int | None = Field(None, ge=0, lt=2**32)
    """Fixes the split: runs of every seed get that of a run with this seed. By default
    each seed of a suite has a split of its own."""

    def stream(self, rng: np.random.Generator) -> np.random.Generator:
        """Return where the split is drawn from: ``seed`` if there is one, or ``rng``."""
        return rng if self.seed is None else numpy_stream(self.seed, "partition")


def check_demand(
    labels: Indices,
    clients: int,
    num_classes: int,
    min_size: int = 1,
    option: str = "min_size",
) -> None:
    """Refuse what cannot be split: ``min_size`` samples for each client must be there.

    Args:
        labels: Labels of the training set, int64 ``[N]``.
        clients: K, the number of clients.
        num_classes: C, the number of classes.
        min_size: Samples that each client needs.
        option: The option that ``min_size`` comes from, for the message.

    Raises:
        ConfigError: If there is no client, or too many for the samples.
        DataError: If a label is no class.
    """
    if clients < 1:
        raise ConfigError(f"found {clients} clients, expected at least 1.")
    number = len(labels)
    if number and not 0 <= labels.min() <= labels.max() < num_classes:
        raise DataError(
            f"found labels {labels.min()} to {labels.max()}, expected 0 to "
            f"{num_classes - 1}; the data set names {counted(num_classes, 'class')}."
        )
    if clients * min_size > number:
        # With less than a sample for each client, the option alone does not help.
        also = f" or the option {option}" if number >= clients else ""
        raise ConfigError(
            f"{counted(clients, 'client')} with {counted(min_size, 'sample')} each, or "
            "more, need "
            f"{counted(clients * min_size, 'sample')}; found {number}, enough for "
            f"{counted(number // min_size, 'client')}. Lower the number of clients{also}."
        )


def class_pools(labels: Indices, num_classes: int, rng: AnyRandom) -> list[Indices]:
    """Return the positions of each class in random order: C arrays."""
    order = rng.permutation(len(labels))
    grouped = order[np.argsort(labels[order], kind="stable")]
    sizes = np.bincount(labels, minlength=num_classes)
    pools: list[Indices] = np.split(grouped, np.cumsum(sizes)[:-1])
    return pools


def deal(pools: Sequence[Indices], counts: Table, rng: AnyRandom) -> list[Indices]:
    """Deal samples out by a client x class table; a client's samples are shuffled.

    Args:
        pools: For each class, positions of its samples, as many as are dealt or more.
        counts: How many samples of each class a client gets, ``[K, C]``.
        rng: Shuffles each client's samples, which would be sorted by class otherwise.
    """
    clients = np.arange(len(counts))
    taken = counts.sum(0)
    every = np.concatenate([p[:n] for p, n in zip(pools, taken, strict=True)])
    owner = np.concatenate([np.repeat(clients, column) for column in counts.T])
    by_client = every[np.argsort(owner, kind="stable")]
    dealt: list[Indices] = np.split(by_client, np.cumsum(counts.sum(1))[:-1])
    for samples in dealt:
        rng.shuffle(samples)
    return dealt


def apportion(weights: ArrayLike, total: int) -> Indices:
    """Round shares of ``total`` by largest remainders; whole numbers that sum to it.

    Args:
        weights: What the shares are proportional to, ``[n]``, not all zero.
        total: What is shared out.
    """
    exact = np.asarray(weights, dtype=np.float64)
    exact = exact / exact.sum() * total
    shares: Indices = np.floor(exact).astype(np.int64)
    rest = total - int(shares.sum())
    shares[np.argsort(shares - exact, kind="stable")[:rest]] += 1
    return shares


def repaired(counts: Table, min_size: int) -> tuple[Table, list[str]]:
    """Fill every client up to ``min_size`` samples; the largest clients give.

    A client is given classes that it has, as long as somebody can spare them; failing
    that, and to clients with nothing, the largest client gives of its own mix. So mixes
    keep their skew. Nobody is brought below ``min_size``.

    Args:
        counts: Samples by client and class, ``[K, C]``, at least K * ``min_size``.
        min_size: Samples that each client must have.

    Returns:
        The repaired table, and a note for each repaired client (the first ten).
    """
    table = counts.copy()
    sizes = table.sum(1)
    poor = np.flatnonzero(sizes < min_size).tolist()
    notes = []
    for client in poor:
        had = sizes[client]
        gifts: dict[int, int] = {}
        while sizes[client] < min_size:
            donor, gift = _gift(table, sizes, client, min_size)
            table[donor] -= gift
            table[client] += gift
            moved = int(gift.sum())
            sizes[donor] -= moved
            sizes[client] += moved
            gifts[donor] = gifts.get(donor, 0) + moved
        given = listing(
            f"{number} moved from client {k}" for k, number in gifts.items()
        )
        notes.append(
            f"repaired: client {client} had {had}, expected {min_size}; {given}"
        )
    if len(poor) > NOTES:
        rest = len(poor) - NOTES
        notes[NOTES:] = [
            f"repaired: {counted(rest, 'more client')}, filled up likewise"
        ]
    return table, notes


def _gift(
    table: Table, sizes: Indices, client: int, min_size: int
) -> tuple[int, Indices]:
    """Return who gives to a client that has too little, and how much of each class."""
    spare = np.maximum(sizes - min_size, 0)
    wanted = table[client] > 0
    stock = np.minimum(table[:, wanted].sum(1), spare)
    if not stock.any():
        wanted = np.ones(table.shape[1], bool)
        stock = spare
    donor = int(np.argmax(np.where(stock > 0, sizes, -1)))
    amount = min(min_size - int(sizes[client]), int(stock[donor]))
    return donor, apportion(np.where(wanted, table[donor], 0), amount)


def _whole(given: ArrayLike, client: int) -> Indices:
    """Return a client's positions in one row; truth values would be taken for 0 and 1."""
    found = np.asarray(given).reshape(-1)
    if found.size and not np.issubdtype(found.dtype, np.integer):
        raise ContractError(
            f"client {client}: found {found.dtype}, expected positions of samples, which "
            "are whole numbers."
        )
    return found.astype(np.int64, copy=False)


def _check_positions(every: Indices, number: int) -> None:
    wrong = every[(every < 0) | (every >= number)]
    if len(wrong):
        raise ContractError(
            f"a split has the position {wrong[0]}; expected 0 to {number - 1}, positions "
            "in the training set."
        )
    times = np.bincount(every, minlength=1)
    if times.max() > 1:
        raise ContractError(
            f"a split has sample {times.argmax()} {times.max()} times; expected each "
            "sample at most once, at one client."
        )


def _hash(lists: Sequence[Indices]) -> str:
    digest = hashlib.sha256()
    for each in lists:
        digest.update(np.int64(len(each)).astype("<i8").tobytes())
        digest.update(each.astype("<i8").tobytes())
    return digest.hexdigest()[:16]
