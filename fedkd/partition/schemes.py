"""Splits that are not Dirichlet: even, by shards, by classes, by size."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from fedkd.errors import ConfigError, counted, listing
from fedkd.partition.base import (
    LEFT_OUT,
    Indices,
    Partition,
    Partitioner,
    SplitConfig,
    Table,
    check_demand,
    class_pools,
    deal,
)
from fedkd.partition.dirichlet import log_dirichlet, uneven_sizes


class IID(Partitioner):
    """Samples in random order, in equal parts; sizes differ by one at most."""

    Config = SplitConfig

    def split(
        self, labels: Indices, clients: int, num_classes: int, rng: np.random.Generator
    ) -> Partition:
        """See :meth:`Partitioner.split`."""
        check_demand(labels, clients, num_classes)
        order = self.config.stream(rng).permutation(len(labels))
        return Partition.of(np.array_split(order, clients), labels, num_classes)


class ShardsConfig(SplitConfig):
    """Options of ``shards``."""

    per_client: int = Field(2, ge=1)
    """Shards that each client gets; 2 in the paper."""


class Shards(Partitioner):
    """Samples sorted by label, cut into equal shards, a few shards to each client.

    The split of McMahan et al. 2017 (arXiv:1602.05629v4, section 3): with 100 clients
    and 2 shards, most clients have two classes. Which samples of a class are in which
    shard is random.
    """

    Config = ShardsConfig

    def split(
        self, labels: Indices, clients: int, num_classes: int, rng: np.random.Generator
    ) -> Partition:
        """See :meth:`Partitioner.split`."""
        each = self.config.per_client
        check_demand(labels, clients, num_classes, each, option="per_client")
        random = self.config.stream(rng)
        order = np.concatenate(class_pools(labels, num_classes, random))
        shards = np.array_split(order, clients * each)
        hands = random.permutation(len(shards)).reshape(clients, each)
        dealt = [np.concatenate([shards[s] for s in hand]) for hand in hands]
        return Partition.of(dealt, labels, num_classes)


class ClassesConfig(SplitConfig):
    """Options of ``classes``."""

    per_client: int = Field(2, ge=1)
    """Classes that each client has, no fewer and no more."""
    min_size: int = Field(10, ge=1)
    """Samples that each client must get; refused if it cannot be, for a repair would
    give a client other classes."""


class Classes(Partitioner):
    """Exactly so many classes a client; holders of a class share it evenly.

    Classes are handed out at random, but those with the fewest holders first. So each
    class has about as many holders as any other, and every class has one where there
    are enough clients; samples of a class without a holder are left out.
    """

    Config = ClassesConfig

    def split(
        self, labels: Indices, clients: int, num_classes: int, rng: np.random.Generator
    ) -> Partition:
        """See :meth:`Partitioner.split`."""
        config: ClassesConfig = self.config
        check_demand(labels, clients, num_classes, config.min_size)
        random = config.stream(rng)
        pools = class_pools(labels, num_classes, random)
        there = np.array([len(pool) for pool in pools])
        holds = _hand_out(there, clients, config.per_client, random)
        counts = _shared(there, holds, random)
        _check_shares(counts, holds, config.min_size)
        dealt = deal(pools, counts, random)
        return Partition.of(dealt, labels, num_classes, _left_out(there, holds))


def _hand_out(
    there: Indices, clients: int, each: int, rng: np.random.Generator
) -> Table:
    """Return who holds which class: zeros and ones ``[K, C]``, ``each`` in a row."""
    present = np.flatnonzero(there)
    if each > len(present):
        raise ConfigError(
            f"each client is to have {counted(each, 'class')}; the data has "
            f"{len(present)}. "
            f"Expected at most {len(present)}; lower the option per_client."
        )
    holds = np.zeros((clients, len(there)), np.int64)
    holders = np.zeros(len(present), np.int64)
    for row in holds:
        chosen = np.lexsort((rng.random(len(present)), holders))[:each]
        holders[chosen] += 1
        row[present[chosen]] = 1
    return holds


def _shared(there: Indices, holds: Table, rng: np.random.Generator) -> Table:
    """Share each class evenly among its holders; what is over goes to random ones."""
    counts = np.zeros_like(holds)
    for label, number in enumerate(there):
        holders = rng.permutation(np.flatnonzero(holds[:, label]))
        if len(holders):
            counts[holders, label] = number // len(holders)
            counts[holders[: number % len(holders)], label] += 1
    return counts


def _check_shares(counts: Table, holds: Table, min_size: int) -> None:
    empty = np.argwhere((counts == 0) & (holds == 1))
    if len(empty):
        label = empty[0, 1]
        raise ConfigError(
            f"class {label} has fewer samples ({counts[:, label].sum()}) than clients "
            f"that are to hold it ({holds[:, label].sum()}). Lower the number of "
            "clients or the option per_client."
        )
    sizes = counts.sum(1)
    if sizes.min() < min_size:
        raise ConfigError(
            f"client {sizes.argmin()} would have {sizes.min()} samples of its classes; "
            f"expected at least {min_size} (min_size). Lower the number of clients or "
            "min_size, or raise the option per_client."
        )


def _left_out(there: Indices, holds: Table) -> list[str]:
    alone = np.flatnonzero((holds.sum(0) == 0) & (there > 0))
    if not len(alone):
        return []
    return [
        f"{LEFT_OUT}no client holds classes {listing(map(str, alone))}; "
        f"{there[alone].sum()} samples are not used"
    ]


class QuantityConfig(SplitConfig):
    """Options of ``quantity``."""

    alpha: float = Field(0.5, gt=0, le=1e6)
    """Strength of the skew: the concentration of the Dirichlet distribution (small is
    strong), or the exponent of the power law (large is strong)."""
    law: Literal["dirichlet", "power"] = "dirichlet"
    """``dirichlet``: sizes ~ Dirichlet(alpha). ``power``: the r-th largest client has a
    share proportional to r^-alpha; which client that is, is random."""
    min_size: int = Field(10, ge=1)
    """Samples that each client gets at least; the largest clients give them."""


class Quantity(Partitioner):
    """Clients of uneven sizes; the mix of classes is that of the data.

    With ``dirichlet`` the quantity skew of Li et al. 2022 (NIID-Bench,
    arXiv:2102.02079).
    """

    Config = QuantityConfig

    def split(
        self, labels: Indices, clients: int, num_classes: int, rng: np.random.Generator
    ) -> Partition:
        """See :meth:`Partitioner.split`."""
        config: QuantityConfig = self.config
        check_demand(labels, clients, num_classes, config.min_size)
        random = config.stream(rng)
        if config.law == "dirichlet":
            logs = log_dirichlet(random, config.alpha, clients)
        else:
            logs = -config.alpha * np.log(1 + random.permutation(clients))
        sizes, notes = uneven_sizes(logs, len(labels), config.min_size)
        cuts = np.cumsum(sizes)[:-1]
        order = random.permutation(len(labels))
        return Partition.of(np.split(order, cuts), labels, num_classes, notes)
