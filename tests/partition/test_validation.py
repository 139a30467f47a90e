"""Validation images: a stratified share of each client, the same whatever else runs."""

import numpy as np
import pytest

from fedkd.errors import ConfigError
from fedkd.partition.base import Partition
from fedkd.partition.validation import amounts, held_out

LABELS = np.array([0] * 10 + [1] * 6 + [2] * 4 + [0] * 5)
SPLIT = Partition.of([np.arange(20), np.arange(20, 25)], LABELS, 3)


@pytest.mark.parametrize(
    ("counts", "share", "taken"),
    [
        (
            [10, 6, 4],
            0.2,
            [2, 1, 1],
        ),  # 4 of 20: 2, 1.2 and 0.8, whose remainder is largest
        ([10, 6, 4], 0.1, [1, 1, 0]),  # 2 of 20: 1, 0.6 and 0.4
        ([5, 5], 0.1, [1, 0]),  # 1 of 10: 0.5 each, the first of equal ones
        ([1], 0.9, [0]),  # the only image is left
        ([3], 0.9, [2]),
        ([4], 0.1, [0]),
    ],
)
def test_each_class_gives_its_share(counts, share, taken):
    assert amounts(counts, share).tolist() == taken


def test_what_is_held_out_and_what_is_left_is_what_there_was():
    rest, held = held_out(SPLIT, LABELS, 0.2, seed=0)
    assert [len(one) for one in held] == [4, 1]
    for own, left, taken in zip(SPLIT.indices, rest.indices, held, strict=True):
        assert sorted([*left, *taken]) == sorted(own)
        assert taken.tolist() == sorted(taken)
    assert rest.counts.tolist() == [[8, 5, 3], [4, 0, 0]]
    assert rest.hash != SPLIT.hash
    assert rest.notes == (
        "5 training images held out from the clients, for validation",
    )


def test_it_hangs_on_the_seed_and_the_client_only():
    _, one = held_out(SPLIT, LABELS, 0.2, seed=0)
    _, same = held_out(Partition.of([SPLIT.indices[0]], LABELS, 3), LABELS, 0.2, 0)
    _, other = held_out(SPLIT, LABELS, 0.2, seed=1)
    assert one[0].tolist() == same[0].tolist()
    assert one[0].tolist() != other[0].tolist()


def test_a_small_client_gives_nothing_and_all_small_clients_are_refused():
    rest, held = held_out(SPLIT, LABELS, 0.09, seed=0)
    assert [len(one) for one in held] == [2, 0]
    assert rest.notes[-1] == "1 client too small to have validation images"
    with pytest.raises(ConfigError, match=r"found 0.01, .* sizes are 5 to 20"):
        held_out(SPLIT, LABELS, 0.01, seed=0)
