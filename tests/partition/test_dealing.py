"""A split is dealt from its stream, and is a split."""

import random

import numpy as np
import pytest
import torch

from fedkd.base.randomness import numpy_stream
from fedkd.errors import ConfigError, ContractError
from fedkd.partition.base import Partition, Partitioner
from fedkd.partition.dealing import dealt
from fedkd.partition.schemes import IID

LABELS = np.tile([0, 1, 2], 20)


def scheme(order):
    """Return a partitioner that cuts an order of the samples into equal parts."""

    class Mine(Partitioner):
        def split(self, labels, clients, num_classes, rng):
            parts = np.array_split(order(labels, rng), clients)
            return Partition.of(parts, labels, num_classes)

    return Mine()


def deal(partitioner, clients=4, seed=0):
    return dealt(partitioner, "mine", LABELS, clients, 3, seed)


def test_a_split_is_that_of_the_stream_of_its_seed():
    expected = IID().split(LABELS, 4, 3, numpy_stream(5, "partition"))
    assert deal(IID(), seed=5).hash == expected.hash


@pytest.mark.parametrize(
    ("order", "used"),
    [
        (lambda y, rng: np.random.permutation(len(y)), "NumPy's global generator"),
        (
            lambda y, rng: np.array(random.sample(range(len(y)), len(y))),
            "Python's global generator",
        ),
        (lambda y, rng: torch.randperm(len(y)).numpy(), "torch's global generator"),
    ],
    ids=["NumPy", "Python", "torch"],
)
def test_a_partitioner_that_draws_from_a_global_generator_is_refused(order, used):
    with pytest.raises(ContractError, match=f"'mine' used {used}.*the generator rng"):
        deal(scheme(order))


def test_a_partitioner_that_has_a_generator_of_its_own_is_refused():
    fresh = scheme(lambda y, rng: np.random.default_rng().permutation(len(y)))
    with pytest.raises(ContractError, match="'mine' gave two splits for one seed"):
        deal(fresh)
    once = np.random.default_rng(0)
    with pytest.raises(ContractError, match="'mine' gave two splits for one seed"):
        deal(scheme(lambda y, rng: once.permutation(len(y))))


def test_a_split_that_is_known_is_dealt_once_and_is_that_one():
    asked = []
    counting = scheme(lambda y, rng: asked.append(1) or rng.permutation(len(y)))
    split = deal(counting)
    assert len(asked) == 2
    again = dealt(counting, "mine", LABELS, 4, 3, 0, known=split.hash)
    assert (again.hash, len(asked)) == (split.hash, 3)
    with pytest.raises(ContractError, match=f"'mine' gave two splits.*{'0' * 8}.*hash"):
        dealt(counting, "mine", LABELS, 4, 3, 0, known="0" * 8)


class Lists(Partitioner):
    def split(self, labels, clients, num_classes, rng):
        return [part.tolist() for part in np.array_split(rng.permutation(60), clients)]


class TooFew(Partitioner):
    def split(self, labels, clients, num_classes, rng):
        return Partition.of([rng.permutation(60)], labels, num_classes)


def test_what_is_no_split_is_refused_with_what_to_return():
    with pytest.raises(
        ContractError, match=r"'mine' returned an object of class list;.*Partition.of"
    ):
        deal(Lists())
    with pytest.raises(
        ContractError, match=r"'mine' returned a split for 1 client;.*for 4"
    ):
        deal(TooFew())
    with pytest.raises(
        ContractError, match=r"'mine' left client 2 without.*of 4 clients"
    ):
        deal(scheme(lambda y, rng: rng.permutation(len(y))[:2]))


def test_labels_cannot_be_written_to_and_the_error_says_who_tried():
    def order(labels, rng):
        labels.sort()
        return np.arange(len(labels))

    with pytest.raises(ValueError, match="read-only") as caught:
        deal(scheme(order))
    assert caught.value.__notes__[0].startswith(
        "in the partitioner 'mine' (4 clients, seed 0), line "
    )
    assert LABELS.flags.writeable


def test_what_a_scheme_refuses_is_refused():
    with pytest.raises(ConfigError, match="Lower the number of clients"):
        deal(IID(), clients=100)
