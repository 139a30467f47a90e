"""Which test images measure a client's own accuracy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


Deal = Callable[[Indices, Indices], tuple[Indices, ...]]
"""``deal(clients, labels)`` gives each of some clients ``[k]`` positions in ``labels``."""


def shards_within(
    own: Indices, groups: Indices, labels: Indices, deal: Deal
) -> tuple[Indices, ...]:
    """Deal every client test images of its own group.

    Args:
        own: The group of each client, ``[K]``.
        groups: The groups of the test set, ``[N]``.
        labels: Labels of the test set, ``[N]``.
        deal: Deals the images of one group to its clients; called group by group.

    Returns:
        For each client, ascending positions in the test set; none for a client of whose
        group there is no test image.
    """
    shards = [np.empty(0, np.int64) for _ in own]
    for group in np.unique(own):
        places = np.flatnonzero(groups == group)
        if not len(places):
            continue
        clients = np.flatnonzero(own == group)
        for client, shard in zip(clients, deal(clients, labels[places]), strict=True):
            shards[client] = places[shard]
    return tuple(shards)


def matched_shards(
    counts: NDArray[np.int64], labels: Indices, rng: np.random.Generator
) -> tuple[Indices, ...]:
    """Give every client test images with the label mix of its training images.

    Each shard is the largest that the test set allows without repeating an image: all
    images of the client's commonest class, and of others in proportion. Shards of
    different clients overlap, which is harmless: nothing is trained on them.

    Args:
        counts: Training images by client and class, ``[K, C]``.
        labels: Labels of the test set, ``[N]``.
        rng: Draws which images of a class are taken.

    Returns:
        For each client, ascending positions in the test set; none for a client of whose
        classes there is no test image.
    """
    positions = [np.flatnonzero(labels == c) for c in range(counts.shape[1])]
    available = np.array([len(places) for places in positions])
    return tuple(_matched(row, positions, available, rng) for row in counts)


def _matched(
    counts: NDArray[np.int64],
    positions: list[Indices],
    available: NDArray[np.int64],
    rng: np.random.Generator,
) -> Indices:
    mix = np.where(available > 0, counts, 0) / max(counts.sum(), 1)
    if not mix.any():
        return np.empty(0, np.int64)
    held = mix > 0
    size = (available[held] / mix[held]).min()
    wanted = np.minimum(np.rint(mix * size).astype(np.int64), available)
    chosen = [
        rng.permutation(places)[:number]
        for places, number in zip(positions, wanted, strict=True)
    ]
    return np.sort(np.concatenate(chosen))


def even_shards(
    clients: int, labels: Indices, rng: np.random.Generator
) -> tuple[Indices, ...]:
    """Give every client an even share of every class of the test set.

    Shares of a class, and whole shares, differ by one image at most. With more clients
    than test images, images are given more than once. Source: released Mosaic code,
    whose test shards are stratified by class.

    Args:
        clients: Number of clients.
        labels: Labels of the test set, ``[N]``.
        rng: Draws who gets which image of a class.

    Returns:
        For each client, ascending positions in the test set.
    """
    shuffled = rng.permutation(len(labels))
    # One class after the other, dealt out in turn.
    order = shuffled[np.argsort(labels[shuffled], kind="stable")]
    if clients > len(order):
        order = np.resize(order, clients)
    return tuple(np.sort(order[k::clients]) for k in range(clients))
