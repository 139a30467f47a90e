"""Has a partitioner deal a split, and refuses what is not one or is not its stream's."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from fedkd.base.randomness import numpy_stream
from fedkd.errors import ContractError, counted, raised_in
from fedkd.partition.base import Indices, Partition, Partitioner


def dealt(  # noqa: PLR0913 - what a split hangs on
    partitioner: Partitioner,
    name: str,
    labels: Indices,
    clients: int,
    num_classes: int,
    seed: int,
    *,
    known: str | None = None,
) -> Partition:
    """Return the split of a seed; where it is not known, it is dealt twice and compared.

    Args:
        partitioner: The scheme.
        name: What it is registered as, for messages.
        labels: Labels of the training set, int64 ``[N]``; they cannot be written to.
        clients: K, the number of clients.
        num_classes: C, the number of classes.
        seed: Of the run; names the stream.
        known: The hash of the split, if another process has dealt it before.

    Raises:
        ConfigError: If the samples cannot be split so.
        ContractError: If it gives anything but a split for that many clients, draws from
            another stream than its own, or changes a global generator.
    """
    where = f"the partitioner {name!r}"
    given = _locked(labels)
    if partitioner.groups is not None:
        partitioner.groups = _locked(partitioner.groups)
    before = _generators()
    with raised_in(f"{where} ({counted(clients, 'client')}, seed {seed})"):
        splits = [
            partitioner.split(
                given, clients, num_classes, numpy_stream(seed, "partition")
            )
            for _ in range(1 if known else 2)
        ]
    split = splits[0]
    for one in splits:
        _check(one, where, clients)
    changed = [kind for kind, state in _generators().items() if state != before[kind]]
    if changed:
        raise ContractError(
            f"{where} used {changed[0]}, so that its split hangs on what ran before. "
            "Draw from the generator rng that split is given, and from nothing else."
        )
    before_it = known or splits[1].hash
    if split.hash != before_it:
        raise ContractError(
            f"{where} gave two splits for one seed, {before_it} and {split.hash}; "
            "strategies would be compared on different clients. Draw from the generator "
            "rng that split is given, and from nothing else; the order of a set, and "
            "hash(), are others in every process."
        )
    return split


def _locked(numbers: Indices) -> Indices:
    """Return the same numbers as an array that cannot be written to."""
    given = numbers.view()
    given.flags.writeable = False
    return given


def _check(split: Any, where: str, clients: int) -> None:
    """Refuse what is no split for so many clients."""
    if not isinstance(split, Partition):
        raise ContractError(
            f"{where} returned an object of class {type(split).__name__}; expected a "
            "Partition. Return Partition.of(indices, labels, num_classes), with the "
            "positions of each client."
        )
    if len(split.indices) != clients:
        raise ContractError(
            f"{where} returned a split for {counted(len(split.indices), 'client')}; "
            f"expected one for {clients}. Give it an array of positions for each client."
        )
    if not split.sizes.all():
        raise ContractError(
            f"{where} left client {int(split.sizes.argmin())} without a sample; expected "
            f"one or more for each of {counted(clients, 'client')}. Move some to it from "
            "those that have most, or raise fedkd.ConfigError if there are too few."
        )
    if split.groups is not None and split.groups.shape != (clients,):
        raise ContractError(
            f"{where} returned groups of shape {list(split.groups.shape)}; expected "
            f"[{clients}], the group that each client is of, or None."
        )


def _generators() -> dict[str, int]:
    """Return digests of the generators that are global."""
    _, numbers, place, *_ = np.random.get_state()
    return {
        "NumPy's global generator": hash((np.asarray(numbers).tobytes(), place)),
        "Python's global generator": hash(random.getstate()),
        "torch's global generator": hash(torch.get_rng_state().numpy().tobytes()),
    }
