"""Dirichlet splits: label skew of strength ``alpha``, by class or by client."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from fedkd.errors import ConfigError
from fedkd.partition.base import (
    AnyRandom,
    Indices,
    Partition,
    Partitioner,
    SplitConfig,
    Table,
    apportion,
    check_demand,
    class_pools,
    deal,
    repaired,
)

Shares = NDArray[np.float64]


class DirichletConfig(SplitConfig):
    """Options of ``dirichlet``."""

    alpha: float = Field(0.1, gt=0, le=1e6)
    """Concentration. Small is strong skew: 0.01 gives a client one class or two, 100 is
    nearly even. Papers use 0.01 to 1."""
    min_size: int = Field(10, ge=1)
    """Samples that each client gets at least; 10 in the published scheme."""
    tries: int = Field(20, ge=1)
    """Splits that are drawn until one gives each client ``min_size`` samples; then the
    best is repaired. The published scheme draws for ever: in its forms (see ``rng``)
    the default is 10,000, nothing is repaired, and the run is refused after them."""
    rng: Literal["default", "legacy", "legacy-niid-bench"] = "default"
    """The other two draw from ``numpy.random.RandomState(seed)`` as published code does
    after ``numpy.random.seed(seed)``, and need ``seed``. ``legacy`` is the form of
    Mosaic's released code and LightFed, which shuffle every client's samples in each
    try; ``legacy-niid-bench`` that of NIID-Bench and DENSE, which shuffle after the
    last. They differ where the first try fails. Mosaic's splits of its seed s have
    5363 + s here."""

    @model_validator(mode="before")
    @classmethod
    def _published_forms_draw_on(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("rng", "default") != "default":
            return {"tries": 10_000, **given}
        return given

    @model_validator(mode="after")
    def _legacy_has_a_seed(self) -> DirichletConfig:
        if self.rng != "default" and self.seed is None:
            raise ValueError(
                f"rng {self.rng!r} needs a seed; with 'legacy', 5363 gives the splits "
                "published with Mosaic"
            )
        return self


class Dirichlet(Partitioner):
    """Class by class, shares ~ Dirichlet(alpha) over the clients; sizes are capped.

    The scheme of Mosaic's released code (``non_iid_dirichlet_unbalanced``), DENSE and
    most descendants of NIID-Bench: a client that holds N/K samples or more gets none of
    the classes that follow. The cap makes sizes less uneven than a plain Dirichlet
    does.

    Departures: tries are bounded and then repaired (with ``rng: legacy``, refused).
    Weights that all underflow, which make the published scheme fail, count as their
    limit, the whole class at one client. Cuts are rounded to whole samples; the
    published scheme truncates them, which gives the last client one sample of nearly
    every class, at the cap or not (its forms, ``rng: legacy``, do so too).
    """

    Config = DirichletConfig

    def split(
        self, labels: Indices, clients: int, num_classes: int, rng: np.random.Generator
    ) -> Partition:
        """See :meth:`Partitioner.split`."""
        config: DirichletConfig = self.config
        check_demand(labels, clients, num_classes, config.min_size)
        random: AnyRandom = config.stream(rng)
        if config.rng != "default":
            random = np.random.RandomState(config.seed)
        positions = [np.flatnonzero(labels == c) for c in range(num_classes)]
        best, least = None, np.inf
        for _ in range(config.tries):
            pools, counts = _draw(positions, clients, config.alpha, random)
            lacking = np.maximum(config.min_size - counts.sum(1), 0).sum()
            if lacking < least:
                best, least = (pools, counts), lacking
            if not lacking:
                break
            if config.rng == "legacy":
                for size in counts.sum(1):
                    random.shuffle(np.empty(size, np.int8))  # drawn by released code
        assert best is not None  # at least one try
        pools, counts = best
        notes: list[str] = []
        if config.rng == "default":
            counts, notes = repaired(counts, config.min_size)
        elif least:
            raise ConfigError(self._refusal(clients, counts.sum(1)))
        dealt = deal(pools, counts, random)
        return Partition.of(dealt, labels, num_classes, notes)

    def _refusal(self, clients: int, sizes: Indices) -> str:
        """Say that no try gave every client enough; ``sizes [K]`` are the best's."""
        config: DirichletConfig = self.config
        poor = int((sizes < config.min_size).sum())
        return (
            f"found no split in {config.tries} tries that gives each of {clients} "
            f"clients {config.min_size} samples (the best leaves {poor} with fewer), "
            f"expected one, as rng {config.rng!r} draws on and repairs nothing; give a "
            "larger alpha, fewer clients, a smaller min_size, more tries or rng default."
        )


def _draw(
    positions: list[Indices], clients: int, alpha: float, rng: AnyRandom
) -> tuple[list[Indices], Table]:
    """Return shuffled positions of each class and a table ``[K, C]``: one try."""
    cap = sum(map(len, positions)) / clients
    sizes = np.zeros(clients, np.int64)
    counts = np.zeros((clients, len(positions)), np.int64)
    pools = []
    for label, members in enumerate(positions):
        pool = members.copy()
        rng.shuffle(pool)
        pools.append(pool)
        cuts = np.cumsum(_weights(rng, alpha, is_open=sizes < cap)) * len(pool)
        if isinstance(rng, np.random.Generator):
            cuts = np.rint(cuts)
        cuts[-1] = len(pool)
        counts[:, label] = np.diff(cuts.astype(np.int64), prepend=0)
        sizes += counts[:, label]
    return pools, counts


def _weights(rng: AnyRandom, alpha: float, is_open: NDArray[np.bool_]) -> Shares:
    """Return one class's shares ``[K]``; clients that are not open have none."""
    if not is_open.any():  # every sample is dealt; the class is empty
        is_open = ~is_open
    if isinstance(rng, np.random.Generator):
        logs = np.where(is_open, log_dirichlet(rng, alpha, len(is_open)), -np.inf)
        shares = np.exp(logs - logs.max())
    else:
        shares = rng.dirichlet(np.repeat(alpha, len(is_open))) * is_open
        if not 0 < shares.sum() < np.inf:  # underflow: zeros or, from NumPy, NaN, inf
            shares = np.zeros(len(is_open))
            shares[rng.choice(np.flatnonzero(is_open))] = 1.0
    weights: Shares = shares / shares.sum()
    return weights


def log_dirichlet(rng: np.random.Generator, alpha: float, size: int) -> Shares:
    """Draw from Dirichlet(alpha, ..., alpha); logarithms ``[size]``, not normalised.

    A gamma variate of shape alpha is one of shape alpha + 1 times U^(1/alpha). Its
    logarithm is finite where the variate itself underflows.
    """
    gamma = np.log(rng.standard_gamma(alpha + 1, size))
    logs: Shares = gamma - rng.standard_exponential(size) / alpha
    return logs


class BalancedConfig(SplitConfig):
    """Options of ``dirichlet-balanced``."""

    alpha: float = Field(0.1, gt=0, le=1e6)
    """Concentration of each client's mix of classes; small is strong skew."""


class DirichletBalanced(Partitioner):
    """Clients of equal size, each with a mix of classes ~ Dirichlet(alpha).

    The scheme of Mosaic's released code (``non_iid_dirichlet_balanced``): client after
    client draws its samples without replacement from those that are left, a sample of
    class c with weight q_c. Later clients get what earlier ones leave over.

    Departures: all samples are dealt (sizes differ by one at most), and a client whose
    classes are used up goes on with its next likely class; the released code gives it
    everything that is left.
    """

    Config = BalancedConfig

    def split(
        self, labels: Indices, clients: int, num_classes: int, rng: np.random.Generator
    ) -> Partition:
        """See :meth:`Partitioner.split`."""
        check_demand(labels, clients, num_classes)
        random = self.config.stream(rng)
        sizes = (len(labels) + np.arange(clients)) // clients
        dealt = _in_turn(labels, sizes, self.config.alpha, num_classes, random)
        return Partition.of(dealt, labels, num_classes)


class DirichletQuantityConfig(BalancedConfig):
    """Options of ``dirichlet-quantity``."""

    size_alpha: float = Field(0.5, gt=0, le=1e6)
    """Concentration of the clients' sizes; small is strong skew, as in ``quantity``."""
    min_size: int = Field(10, ge=1)
    """Samples that each client gets at least; the largest clients give them."""


class DirichletQuantity(Partitioner):
    """Clients of uneven size, each with a mix of classes of its own.

    Sizes ~ Dirichlet(size_alpha), as in ``quantity``; mixes ~ Dirichlet(alpha), and
    samples are drawn client after client, as in ``dirichlet-balanced``. So both skews
    are set apart, which ``dirichlet`` ties to each other: a small client there is one
    with small shares of every class.
    """

    Config = DirichletQuantityConfig

    def split(
        self, labels: Indices, clients: int, num_classes: int, rng: np.random.Generator
    ) -> Partition:
        """See :meth:`Partitioner.split`."""
        config: DirichletQuantityConfig = self.config
        check_demand(labels, clients, num_classes, config.min_size)
        random = config.stream(rng)
        logs = log_dirichlet(random, config.size_alpha, clients)
        sizes, notes = uneven_sizes(logs, len(labels), config.min_size)
        dealt = _in_turn(labels, sizes, config.alpha, num_classes, random)
        return Partition.of(dealt, labels, num_classes, notes)


def uneven_sizes(logs: Shares, total: int, min_size: int) -> tuple[Indices, list[str]]:
    """Return sizes ``[K]`` that sum to ``total``, and a note for each that was repaired.

    Args:
        logs: Logarithms of what the sizes are proportional to, ``[K]``.
        total: Samples that are shared out.
        min_size: What each client gets at least; the largest give it.
    """
    sizes = apportion(np.exp(logs - logs.max()), total)
    table, notes = repaired(sizes[:, None], min_size)
    return table[:, 0], notes


def _in_turn(
    labels: Indices,
    sizes: Indices,
    alpha: float,
    num_classes: int,
    rng: np.random.Generator,
) -> list[Indices]:
    """Have each client draw its samples, of a mix of its own, from those that are left.

    Args:
        labels: Labels of the training set, int64 ``[N]``.
        sizes: Samples that each client draws, ``[K]``; N in all, or fewer.
        alpha: Concentration of the mixes.
        num_classes: C, the number of classes.
        rng: Where to draw from.
    """
    pools = class_pools(labels, num_classes, rng)
    left = np.array([len(pool) for pool in pools])
    counts = np.zeros((len(sizes), num_classes), np.int64)
    for client, size in enumerate(sizes.tolist()):
        logs = log_dirichlet(rng, alpha, num_classes)
        counts[client] = _weighted_draw(left, logs, size, rng)
        left = left - counts[client]
    return deal(pools, counts, rng)


def _weighted_draw(
    left: Indices, logs: Shares, size: int, rng: np.random.Generator
) -> Indices:
    """Draw ``size`` of the samples left without replacement; how many of each class.

    Drawing one by one with weights w_i is taking the ``size`` smallest E_i / w_i, with
    E_i standard exponential (Efraimidis and Spirakis 2006). Weights are equal within a
    class, so its keys are needed in order only: the j-th smallest of m exponentials is
    the sum of j spacings E / (m - i) (Renyi). Keys are compared as logarithms.

    Args:
        left: Samples that are left of each class, ``[C]``.
        logs: Logarithms of the weights of a sample of each class, ``[C]``.
        size: How many to draw; at most ``left.sum()``.
        rng: Where to draw from.
    """
    number = np.minimum(size, left)
    rank = np.arange(number.max())
    exists = rank < number[:, None]
    spacings = rng.standard_exponential(exists.shape)
    spacings /= np.maximum(left[:, None] - rank, 1)
    keys = np.log(np.cumsum(spacings, axis=1)) - logs[:, None]
    labels = np.repeat(np.arange(len(left)), number)
    chosen = labels[np.argpartition(keys[exists], size - 1)[:size]]
    return np.bincount(chosen, minlength=len(left)).astype(np.int64)
