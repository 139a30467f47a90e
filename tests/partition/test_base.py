"""What a split is: its table and hash, repair, dealing, and what is refused."""

import numpy as np
import pytest

from fedkd.base.randomness import numpy_stream
from fedkd.errors import ConfigError, ContractError, DataError
from fedkd.partition.base import (
    Partition,
    SplitConfig,
    apportion,
    check_demand,
    class_pools,
    deal,
    repaired,
)

LABELS = np.array([0, 1, 2, 0, 1, 2, 0])


def fixed(table, min_size=10):
    counts, notes = repaired(np.array(table), min_size)
    return counts.tolist(), notes


def test_a_split_counts_the_classes_of_each_client():
    split = Partition.of([[0, 3, 1], [2, 5]], LABELS, 4)
    assert split.counts.tolist() == [[2, 1, 0, 0], [0, 0, 2, 0]]
    assert split.sizes.tolist() == [3, 2]


def test_a_split_keeps_the_order_of_its_lists():
    split = Partition.of([[3, 0], [6]], LABELS, 3)
    assert [each.tolist() for each in split.indices] == [[3, 0], [6]]
    assert all(each.dtype == np.int64 for each in split.indices)


def test_the_hash_is_that_of_lengths_and_positions():
    # sha256 of 2, 0, 1, 1, 2 as little-endian 64-bit integers
    assert Partition.of([[0, 1], [2]], LABELS, 3).hash == "4c152be4bb1a4f40"


@pytest.mark.parametrize("other", [[[0], [1, 2]], [[1, 0], [2]], [[2], [0, 1]]])
def test_another_split_of_the_same_samples_has_another_hash(other):
    assert (
        Partition.of(other, LABELS, 3).hash
        != Partition.of([[0, 1], [2]], LABELS, 3).hash
    )


def test_an_empty_client_is_counted_as_such():
    assert Partition.of([[], [1]], LABELS, 3).counts.tolist() == [[0, 0, 0], [0, 1, 0]]


def test_a_sample_at_two_clients_is_refused():
    with pytest.raises(ContractError, match="sample 3 2 times"):
        Partition.of([[3, 1], [3]], LABELS, 3)


@pytest.mark.parametrize("wrong", [-1, 7])
def test_a_position_that_does_not_exist_is_refused(wrong):
    with pytest.raises(ContractError, match=f"position {wrong}; expected 0 to 6"):
        Partition.of([[wrong]], LABELS, 3)


def test_a_table_is_written_with_class_names():
    split = Partition.of([[0, 3, 1], [2]], LABELS, 3)
    written = split.to_csv(["cat", "a, b", "dog"])
    assert written == 'client,cat,"a, b",dog\n0,2,1,0\n1,0,0,1\n'


def test_repair_gives_a_client_more_of_the_class_it_has():
    counts, notes = fixed([[3, 0], [17, 80]])
    assert counts == [[10, 0], [10, 80]]
    assert notes == ["repaired: client 0 had 3, expected 10; 7 moved from client 1"]


def test_repair_prefers_a_smaller_client_with_the_class_to_a_larger_without():
    assert fixed([[3, 0], [20, 0], [0, 80]])[0] == [[10, 0], [13, 0], [0, 80]]


def test_repair_takes_from_the_largest_client_with_the_class():
    table = [[3, 0], [20, 0], [30, 0], [0, 80]]
    assert fixed(table)[0] == [[10, 0], [20, 0], [23, 0], [0, 80]]


def test_repair_makes_an_empty_client_a_small_copy_of_the_largest():
    assert fixed([[0, 0], [60, 40], [50, 0]])[0] == [[6, 4], [54, 36], [50, 0]]


def test_repair_takes_other_classes_when_nobody_can_spare_those_it_has():
    # Client 1 has class 0 too, but no more samples than it must have.
    assert fixed([[3, 0], [10, 0], [0, 80]])[0] == [[3, 7], [10, 0], [0, 73]]


def test_repair_asks_several_clients_if_one_cannot_spare_enough():
    counts, notes = fixed([[0], [14], [16]], min_size=10)
    assert counts == [[10], [10], [10]]
    assert notes == [
        "repaired: client 0 had 0, expected 10; 6 moved from client 2, "
        "4 moved from client 1"
    ]


def test_repair_leaves_alone_what_needs_none():
    assert fixed([[10, 0], [0, 12]]) == ([[10, 0], [0, 12]], [])


def test_repair_does_not_change_the_table_it_is_given():
    table = np.array([[0], [20]])
    repaired(table, 5)
    assert table.tolist() == [[0], [20]]


def test_the_notes_of_many_repairs_are_cut_after_ten():
    notes = fixed([[0]] * 15 + [[1000]])[1]
    assert len(notes) == 11
    assert notes[-1] == "repaired: 5 more clients, filled up likewise"


def test_apportionment_gives_the_rest_to_the_largest_remainders():
    assert apportion([0.5, 0.3, 0.2], 11).tolist() == [6, 3, 2]
    assert apportion([1, 1, 1], 5).tolist() == [2, 2, 1]
    assert apportion([0.0, 7.0], 3).tolist() == [0, 3]


def test_dealing_follows_the_table():
    rng = np.random.default_rng(0)
    pools = class_pools(LABELS, 3, rng)
    dealt = deal(pools, np.array([[2, 0, 1], [1, 2, 0]]), rng)
    assert sorted(LABELS[dealt[0]]) == [0, 0, 2]
    assert sorted(LABELS[dealt[1]]) == [0, 1, 1]
    assert len(set(np.concatenate(dealt))) == 6


def test_a_client_is_not_dealt_its_samples_class_by_class():
    labels = np.repeat([0, 1], 50)
    rng = np.random.default_rng(0)
    (dealt,) = deal(class_pools(labels, 2, rng), np.array([[50, 50]]), rng)
    assert 20 < labels[dealt][:50].sum() < 30


@pytest.mark.parametrize("given", [[0.5], np.ones(3, dtype=bool), ["0"]])
def test_what_is_no_position_is_refused_and_not_rounded(given):
    with pytest.raises(
        ContractError, match=r"^client 1: found .*, expected positions of s"
    ):
        Partition.of([[0], given], np.zeros(3, dtype=np.int64), 1)


def test_positions_may_stand_in_a_column():
    labels = np.array([0, 1, 1])
    split = Partition.of(
        [np.argwhere(labels == 0), np.argwhere(labels == 1)], labels, 2
    )
    assert [list(own) for own in split.indices] == [[0], [1, 2]]


def test_pools_hold_every_position_of_their_class_in_random_order():
    labels = np.tile([2, 0], 100)
    pools = class_pools(labels, 3, np.random.default_rng(0))
    assert [len(pool) for pool in pools] == [100, 0, 100]
    assert sorted(pools[2]) == list(range(0, 200, 2))
    assert pools[2].tolist() != sorted(pools[2])


def test_no_client_is_refused():
    with pytest.raises(ConfigError, match="found 0 clients, expected at least 1"):
        check_demand(LABELS, 0, 3)


def test_more_clients_than_samples_are_refused():
    with pytest.raises(ConfigError, match="need 8 samples; found 7, enough for 7 cli"):
        check_demand(LABELS, 8, 3)


def test_a_minimal_size_that_cannot_be_met_is_refused():
    with pytest.raises(ConfigError) as caught:
        check_demand(LABELS, 4, 3, 2)
    assert str(caught.value) == (
        "4 clients with 2 samples each, or more, need 8 samples; found 7, enough for 3 "
        "clients. Lower the number of clients or the option min_size."
    )


def test_with_less_than_a_sample_for_each_client_no_minimal_size_helps():
    with pytest.raises(ConfigError, match=r"clients\. Lower the number of clients\.$"):
        check_demand(LABELS, 8, 3, 2)


@pytest.mark.parametrize("labels", [[0, 3], [-1, 0]])
def test_labels_that_are_no_class_are_refused(labels):
    with pytest.raises(DataError, match="expected 0 to 2"):
        check_demand(np.array(labels), 1, 3)


def test_a_seed_option_is_the_split_of_a_run_with_this_seed():
    drawn = SplitConfig(seed=4).stream(np.random.default_rng(0)).integers(1 << 60)
    assert drawn == numpy_stream(4, "partition").integers(1 << 60)


def test_without_a_seed_option_the_run_decides():
    rng = np.random.default_rng(0)
    assert SplitConfig().stream(rng) is rng
