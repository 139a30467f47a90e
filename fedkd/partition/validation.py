"""Validation images: a stratified share of every client's training images, held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fedkd.base.randomness import numpy_stream
from fedkd.errors import ConfigError, counted
from fedkd.partition.base import Indices, Partition


def held_out(
    split: Partition, labels: Indices, share: float, seed: int
) -> tuple[Partition, tuple[Indices, ...]]:
    """Take a share of every client's images away, class by class in proportion.

    What is drawn hangs on the seed and the client only: the stream is ``(seed,
    "validation", client)``.

    Args:
        split: Who has which training images.
        labels: Labels of the training set, int64 ``[N]``.
        share: Of each client's images, between 0 and 1.
        seed: Names the streams.

    Returns:
        The split of what is left for training, where every client has an image at
        least; and for each client, ascending positions in the training set of what was
        taken, which may be none.

    Raises:
        ConfigError: If no client has so many images that one would be held out.
    """
    held = tuple(
        _drawn(own, labels[own], share, numpy_stream(seed, "validation", k))
        for k, own in enumerate(split.indices)
    )
    left = [
        own[~np.isin(own, taken)]
        for own, taken in zip(split.indices, held, strict=True)
    ]
    if not any(map(len, held)):
        raise ConfigError(
            f"validation: found {share:g}, which is no image of any client; their sizes "
            f"are {split.sizes.min()} to {split.sizes.max()}. Give a larger share."
        )
    number = counted(sum(map(len, held)), "training image")
    notes = [*split.notes, f"{number} held out from the clients, for validation"]
    poor = sum(not len(taken) for taken in held)
    if poor:
        notes.append(f"{counted(poor, 'client')} too small to have validation images")
    rest = Partition.of(left, labels, split.counts.shape[1], notes)
    return replace(rest, groups=split.groups), held


def _drawn(
    own: Indices, labels: Indices, share: float, rng: np.random.Generator
) -> Indices:
    """Draw the images of one client: of ``labels`` ``[n]`` as many as :func:`amounts`."""
    classes, counts = np.unique(labels, return_counts=True)
    taken = [
        rng.permutation(own[labels == one])[:number]
        for one, number in zip(classes, amounts(counts, share), strict=True)
    ]
    return np.sort(np.concatenate([np.empty(0, np.int64), *taken]))


def amounts(counts: Sequence[int] | Indices, share: float) -> NDArray[np.int64]:
    """Return how many images of each class are held out.

    In all it is the share of all, rounded, but one image is left at least; whole
    shares of a class first, and what is missing then from the classes with the largest
    remainders, the first of equal ones.

    Args:
        counts: Images of each class, ``[C]``.
        share: Of all of them.
    """
    given = np.asarray(counts, dtype=np.int64)
    total = min(int(np.rint(share * given.sum())), int(given.sum()) - 1)
    exact = given * (total / given.sum())
    whole: NDArray[np.int64] = np.floor(exact + 1e-9).astype(np.int64)
    missing = total - int(whole.sum())
    first = np.argsort(-np.round(exact - whole, 9), kind="stable")[:missing]
    whole[first] += 1
    return whole
