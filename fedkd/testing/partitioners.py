"""Promises that every partitioner keeps, one function each: ``check(make, folder)``.

``make()`` gives the partitioner. The toy world has 400 images of 4 classes and
6 groups, and 6 clients.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from fedkd.errors import ConfigError
from fedkd.partition.base import LEFT_OUT, Indices, Partition, Partitioner
from fedkd.testing.foreign import (
    called,
    no_global_touched,
    options_have_descriptions,
    refusal,
    untouched,
)
from fedkd.testing.runs import NotApplicable

PartitionerFactory: TypeAlias = Callable[[], Partitioner]
IMAGES, CLIENTS, CLASSES = 400, 6, 4
_REMEDY = "Return fedkd.Partition.of(indices, labels, num_classes)."


def toy_labels() -> Indices:
    """Return the labels of the toy world, int64 ``[400]``, four classes in no order."""
    return np.random.default_rng(0).integers(0, CLASSES, IMAGES)


def toy_groups() -> Indices:
    """Return the groups of the toy world's images, int64 ``[400]``, one for a client."""
    return np.arange(IMAGES) % CLIENTS


def options_are_documented(make: PartitionerFactory, folder: Path) -> None:
    """Every option has a description, which its card shows."""
    del folder
    options_have_descriptions(type(make()).Config)


def a_partition_is_returned(make: PartitionerFactory, folder: Path) -> None:
    """``split`` returns a Partition with a list of positions for each client."""
    del folder
    found = _split(make)
    assert len(found.indices) == CLIENTS, (
        f"split gave {len(found.indices)} lists for {CLIENTS} clients. Give one list to "
        "each client, in their order."
    )
    for k, each in enumerate(found.indices):
        assert (each.dtype, each.ndim) == (np.dtype("i8"), 1), (
            f"split gave client {k} positions of type {each.dtype} and shape "
            f"{list(each.shape)}; expected int64 [n]. {_REMEDY}"
        )


def positions_are_in_the_training_set(make: PartitionerFactory, folder: Path) -> None:
    """Every position is one of the training set's."""
    del folder
    for k, each in enumerate(_split(make).indices):
        wrong = each[(each < 0) | (each >= IMAGES)]
        assert not len(wrong), (
            f"split gave client {k} the position {wrong[0]}; expected 0 to {IMAGES - 1}. "
            "Give positions in labels, not labels or images."
        )


def no_image_is_at_two_clients(make: PartitionerFactory, folder: Path) -> None:
    """No image goes to two clients, or twice to one."""
    del folder
    owner: dict[int, int] = {}
    for k, each in enumerate(_split(make).indices):
        for position in each.tolist():
            assert position not in owner, (
                f"split gave image {position} to client {owner[position]} and to client "
                f"{k}. Give each image to one client, once."
            )
            owner[position] = k


def every_client_has_images(make: PartitionerFactory, folder: Path) -> None:
    """No client is left without an image where there are enough."""
    del folder
    for k, each in enumerate(_split(make).indices):
        assert len(each), (
            f"split gave client {k} no image, and there are {IMAGES} for {CLIENTS} "
            "clients. Move some to it from those that have most."
        )


def what_is_left_out_is_noted(make: PartitionerFactory, folder: Path) -> None:
    """Images that nobody has are told in a note."""
    del folder
    found = _split(make)
    missing = IMAGES - sum(map(len, found.indices))
    said = any(note.startswith(LEFT_OUT) for note in found.notes)
    assert bool(missing) == said, (
        f"split left out {missing} of {IMAGES} images, and its notes say "
        f"{list(found.notes)}. Give Partition.of a note '{LEFT_OUT}...' if there are any, "
        "and only then."
    )


def the_table_counts_the_lists(make: PartitionerFactory, folder: Path) -> None:
    """The client x class table and the hash are those of the lists."""
    del folder
    found, labels = _split(make), toy_labels()
    right = Partition.of(found.indices, labels, CLASSES, groups=found.groups)
    assert found.counts.shape == right.counts.shape, (
        f"split gave a table of shape {list(found.counts.shape)}; expected "
        f"{list(right.counts.shape)}, clients x classes. {_REMEDY}"
    )
    wrong = np.argwhere(found.counts != right.counts)
    if len(wrong):
        k, c = wrong[0]
        raise AssertionError(
            f"split counts {found.counts[k, c]} images of class {c} at client {k}, whose "
            f"list has {right.counts[k, c]}. {_REMEDY}"
        )
    assert found.hash == right.hash, (
        f"split gave the hash {found.hash!r}, and that of its lists is {right.hash!r}. "
        f"{_REMEDY}"
    )


def one_stream_gives_one_split(make: PartitionerFactory, folder: Path) -> None:
    """The same random stream gives the same split, of one object and of another."""
    del folder
    first = _split(make)
    scheme = make()
    for who, again in (
        ("another object", _split(make)),
        ("the same object at its first call", _split(lambda: scheme)),
        ("the same object at its second call", _split(lambda: scheme)),
    ):
        k = _first_difference(first, again)
        assert k is None, (
            f"split gave client {k} other images from an equal rng, of {who}. Draw from "
            "rng only, and keep nothing in self."
        )


def another_stream_gives_another_split(make: PartitionerFactory, folder: Path) -> None:
    """What is drawn from the stream decides the split."""
    del folder
    rng = np.random.default_rng(3)
    before = str(rng.bit_generator.state)
    first = _split(make, rng)
    if str(rng.bit_generator.state) == before:
        raise NotApplicable(
            "it draws nothing: there is one split of each training set."
        )
    again = _split(make, np.random.default_rng(4))
    assert _first_difference(first, again) is not None, (
        "split drew from rng and gave every client the same images from another. Use "
        "what is drawn, or draw nothing."
    )


def labels_are_left_alone(make: PartitionerFactory, folder: Path) -> None:
    """``split`` writes nothing into the labels, which all strategies share."""
    del folder
    labels = toy_labels()
    _split(make, labels=labels)
    wrong = np.flatnonzero(labels != toy_labels())
    assert not len(wrong), (
        f"split changed the label of image {(*wrong, 0)[0]}. Others use the same array: "
        "work on a copy."
    )


def nothing_is_kept_in_self(make: PartitionerFactory, folder: Path) -> None:
    """``split`` leaves the partitioner as it was."""
    del folder
    scheme = _made(make)
    remedy = "All seeds and strategies use one object: keep nothing in it."
    with untouched("split", remedy, self=vars(scheme)):
        _split(lambda: scheme)


def global_generators_are_left_alone(make: PartitionerFactory, folder: Path) -> None:
    """``split`` draws from no generator but the one it is given."""
    del folder
    with no_global_touched("split"):
        _split(make)


def no_client_is_refused(make: PartitionerFactory, folder: Path) -> None:
    """A split over no client is refused with a sentence."""
    del folder
    scheme = _made(make)
    refusal(
        "split (0 clients)",
        lambda: scheme.split(toy_labels(), 0, CLASSES, np.random.default_rng(0)),
        ConfigError,
        "a number of clients below 1",
        "Check clients first.",
    )


def more_clients_than_images_are_refused(
    make: PartitionerFactory, folder: Path
) -> None:
    """More clients than images are refused with a sentence."""
    del folder
    scheme = _made(make)
    number = IMAGES + 1
    refusal(
        f"split ({number} clients, {IMAGES} images)",
        lambda: scheme.split(toy_labels(), number, CLASSES, np.random.default_rng(0)),
        ConfigError,
        "more clients than images",
        "Check len(labels) first.",
    )


def a_class_may_have_no_image(make: PartitionerFactory, folder: Path) -> None:
    """A class of which there is no image, or few, is no reason to fail."""
    del folder
    labels = np.where(toy_labels() == 3, 0, toy_labels())
    labels[17] = 2
    found = _split(make, labels=labels, what="split (no image of class 3)")
    assert not found.counts[:, 3].any(), (
        "split counts images of class 3, which has none."
    )


PARTITIONER_CHECKS: tuple[Callable[[Any, Path], None], ...] = (
    options_are_documented,
    a_partition_is_returned,
    positions_are_in_the_training_set,
    no_image_is_at_two_clients,
    every_client_has_images,
    what_is_left_out_is_noted,
    the_table_counts_the_lists,
    one_stream_gives_one_split,
    another_stream_gives_another_split,
    labels_are_left_alone,
    nothing_is_kept_in_self,
    global_generators_are_left_alone,
    no_client_is_refused,
    more_clients_than_images_are_refused,
    a_class_may_have_no_image,
)
"""Every promise of a partitioner, one function each: ``check(make, folder)``."""


def _made(make: PartitionerFactory) -> Partitioner:
    """Return a partitioner that knows the groups of the toy world."""
    scheme = make()
    if scheme.groups is None:
        scheme.groups = toy_groups()
    return scheme


def _split(
    make: PartitionerFactory,
    rng: np.random.Generator | None = None,
    labels: Indices | None = None,
    what: str = "split",
) -> Partition:
    """Split the toy world.

    Raises:
        NotApplicable: If the split is that of a file, made for another world.
        AssertionError: If it raises, or gives something else than a split.
    """
    scheme = _made(make)
    stream = np.random.default_rng(0) if rng is None else rng
    world = toy_labels() if labels is None else labels

    def split() -> Partition:
        try:
            return scheme.split(world, CLIENTS, CLASSES, stream)
        except ConfigError as error:
            if scheme.content():
                raise NotApplicable(f"its file is of another world: {error}") from error
            raise

    found = called(what, split)
    assert isinstance(found, Partition), (
        f"{what} returned a {type(found).__name__}, expected a fedkd.Partition. {_REMEDY}"
    )
    return found


def _first_difference(one: Partition, other: Partition) -> int | None:
    """Return the first client whose images differ; None if none does."""
    pairs = zip(one.indices, other.indices, strict=False)
    differing = (k for k, (a, b) in enumerate(pairs) if not np.array_equal(a, b))
    return next(differing, None)
