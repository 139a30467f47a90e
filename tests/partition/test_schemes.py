"""Splits that are not Dirichlet: iid, shards, classes, quantity."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedkd.errors import ConfigError
from fedkd.partition.schemes import (
    IID,
    Classes,
    ClassesConfig,
    Quantity,
    QuantityConfig,
    Shards,
    ShardsConfig,
)

LABELS = np.tile(np.arange(10), 600)


def split(scheme, clients, labels=LABELS, num_classes=10, seed=0):
    return scheme.split(labels, clients, num_classes, np.random.default_rng(seed))


def classes(each, **options):
    return Classes(ClassesConfig(per_client=each, **options))


def quantity(alpha, **options):
    return Quantity(QuantityConfig(alpha=alpha, **options))


def held(found):
    return (found.counts > 0).sum(1)


def test_iid_parts_are_equal_but_for_one_sample():
    assert split(IID(), 7).sizes.tolist() == [858, 857, 857, 857, 857, 857, 857]


def test_iid_parts_have_the_mix_of_the_data():
    counts = split(IID(), 10).counts
    assert counts.min() > 30
    assert counts.max() < 95


def test_iid_parts_are_random():
    assert sorted(split(IID(), 2).indices[0]) != list(range(3000))


def test_a_client_gets_two_shards_of_one_class_each():
    found = split(Shards(), 10)
    assert found.sizes.tolist() == [600] * 10
    assert set(found.counts.flatten()) <= {0, 300, 600}
    assert held(found).max() == 2


def test_the_number_of_shards_is_an_option():
    found = split(Shards(ShardsConfig(per_client=5)), 4)
    assert found.sizes.tolist() == [1500] * 4
    assert set(found.counts.flatten()) <= {0, 300, 600}


def test_shards_are_handed_out_at_random():
    tables = [split(Shards(), 10, seed=seed).counts.tolist() for seed in (0, 1)]
    assert tables[0] != tables[1]


def test_which_samples_of_a_class_are_in_a_shard_is_random():
    first = split(Shards(ShardsConfig(per_client=1)), 20)
    mine = np.sort(first.indices[0])
    assert len(set(np.diff(mine))) > 1


def test_more_shards_than_samples_are_refused():
    with pytest.raises(ConfigError, match="or the option per_client"):
        split(Shards(ShardsConfig(per_client=601)), 10)


@pytest.mark.parametrize("each", [1, 2, 3, 10])
def test_every_client_has_exactly_so_many_classes(each):
    assert held(split(classes(each), 30)).tolist() == [each] * 30


def test_every_class_is_held_where_there_are_enough_clients():
    found = split(classes(2), 5)
    assert found.counts.sum(0).tolist() == [600] * 10
    assert found.notes == ()


def test_classes_have_equally_many_holders_but_for_one():
    holders = (split(classes(3), 17).counts > 0).sum(0)
    assert holders.max() - holders.min() == 1


def test_holders_of_a_class_share_it_evenly():
    counts = split(classes(1), 40).counts
    assert set(counts[counts > 0]) == {150}


def test_what_is_over_goes_to_holders_one_each():
    counts = split(classes(1, min_size=1), 30, LABELS[:110]).counts
    assert sorted(counts[counts > 0]) == [3] * 10 + [4] * 20


def test_what_is_over_does_not_always_go_to_the_first_holders():
    tables = [split(classes(10, min_size=1), 3, LABELS[:40], seed=s) for s in range(8)]
    assert {int(found.sizes.argmax()) for found in tables} == {0, 1, 2}


def test_classes_that_nobody_holds_are_noted():
    found = split(classes(2), 3)
    assert found.sizes.sum() == 3600
    (note,) = found.notes
    assert note.startswith("left out: no client holds classes ")
    assert note.endswith("; 2400 samples are not used")


def test_pairs_of_classes_are_random():
    pairs = {tuple(np.flatnonzero(row)) for row in split(classes(2), 200).counts}
    assert len(pairs) > 30


def test_more_classes_than_the_data_has_are_refused():
    with pytest.raises(ConfigError, match="to have 11 classes; the data has 10"):
        split(classes(11), 2)


def test_classes_without_samples_do_not_count():
    with pytest.raises(ConfigError, match="to have 3 classes; the data has 2"):
        split(classes(3), 2, np.repeat([0, 5], 100))


def test_more_holders_than_samples_of_a_class_are_refused():
    labels = np.concatenate([np.zeros(500, int), np.ones(3, int)])
    with pytest.raises(
        ConfigError, match=r"class 1 has fewer samples \(3\) than .*\(5\)"
    ):
        split(classes(1, min_size=1), 10, labels)


def test_too_few_samples_of_a_clients_classes_are_refused():
    labels = np.concatenate([np.zeros(500, int), np.ones(20, int)])
    with pytest.raises(ConfigError, match="would have 4 samples of its classes; expec"):
        split(classes(1), 10, labels)


def test_quantity_sizes_are_uneven_and_mixes_are_not():
    found = split(quantity(0.5), 5)
    assert found.sizes.max() > 3 * found.sizes.min()
    largest = found.counts[found.sizes.argmax()] / found.sizes.max()
    assert largest == pytest.approx(np.full(10, 0.1), abs=0.03)


def test_a_large_alpha_gives_clients_of_one_size():
    sizes = split(quantity(1e6), 10).sizes
    assert sizes.min() > 590
    assert sizes.max() < 610


def test_the_power_law_gives_the_r_th_largest_a_share_of_r_to_the_minus_alpha():
    # 6000 shared as 1 : 1/2 : 1/3 : 1/4
    sizes = split(quantity(1, law="power"), 4).sizes
    assert sorted(sizes, reverse=True) == [2880, 1440, 960, 720]


def test_the_power_law_picks_the_largest_client_at_random():
    largest = {
        int(split(quantity(1, law="power"), 4, seed=seed).sizes.argmax())
        for seed in range(20)
    }
    assert largest == {0, 1, 2, 3}


def test_quantity_fills_small_clients_up():
    found = split(quantity(0.001), 20, seed=1)
    assert found.sizes.min() == 10
    assert len(found.notes) == 11


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 70),
    st.floats(-3, 3),
    st.sampled_from(["dirichlet", "power"]),
    st.integers(0, 1000),
)
def test_every_quantity_split_is_a_partition(clients, exponent, law, seed):
    labels = LABELS[:700]
    found = split(quantity(10**exponent, law=law), clients, labels, seed=seed)
    assert sorted(np.concatenate(found.indices)) == list(range(700))
    assert found.sizes.min() >= 10


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 70), st.integers(1, 10), st.integers(0, 1000))
def test_every_classes_split_is_a_partition_of_the_classes_held(clients, each, seed):
    labels = LABELS[:700]
    found = split(classes(each, min_size=1), clients, labels, seed=seed)
    every = np.concatenate(found.indices)
    assert len(set(every)) == len(every)
    assert held(found).tolist() == [each] * clients
    assert (found.counts.sum(0) > 0).sum() == min(10, clients * each)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 70), st.integers(1, 10), st.integers(0, 1000))
def test_every_shards_split_is_a_partition(clients, each, seed):
    scheme = Shards(ShardsConfig(per_client=each))
    found = split(scheme, clients, LABELS[:700], seed=seed)
    assert sorted(np.concatenate(found.indices)) == list(range(700))
