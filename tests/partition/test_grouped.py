"""Splits by groups: who gets which, what is refused, who is measured on what."""

import numpy as np
import pytest

from fedkd.errors import ConfigError, ContractError
from fedkd.partition.base import Partition, Partitioner
from fedkd.partition.dealing import dealt
from fedkd.partition.grouped import Groups, GroupsConfig, Natural
from fedkd.partition.held_out import even_shards, matched_shards, shards_within

LABELS = np.tile([0, 1, 2], 80)
GROUPS = np.repeat([0, 2, 1], [30, 120, 90])


def split(scheme, clients, groups=GROUPS, seed=0):
    scheme.groups = groups
    return scheme.split(LABELS, clients, 3, np.random.default_rng(seed))


def test_natural_gives_each_client_the_samples_of_one_group_in_the_order_of_groups():
    found = split(Natural(), 3)
    assert found.sizes.tolist() == [30, 90, 120]
    assert found.groups.tolist() == [0, 1, 2]
    assert found.indices[1].tolist() == list(range(150, 240))


def test_natural_leaves_out_groups_without_training_samples():
    found = split(Natural(), 2, np.where(GROUPS == 0, 7, 4))
    assert found.groups.tolist() == [4, 7]
    assert found.sizes.tolist() == [210, 30]


@pytest.mark.parametrize("clients", [2, 4])
def test_natural_says_how_many_clients_there_must_be(clients):
    with pytest.raises(ConfigError, match=r"expected 3, .* Set clients: 3, or use"):
        split(Natural(), clients)


@pytest.mark.parametrize("scheme", [Natural, Groups])
def test_a_data_set_without_groups_is_refused_and_told_what_helps(scheme):
    with pytest.raises(ConfigError, match=r"without groups.*digits-five.*dirichlet"):
        split(scheme(), 3, None)


@pytest.mark.parametrize("scheme", [Natural, Groups])
def test_groups_of_other_samples_are_refused(scheme):
    with pytest.raises(ConfigError, match="found 5 groups and 240 samples"):
        split(scheme(), 3, GROUPS[:5])


def test_clients_take_the_groups_in_turn_and_share_what_is_theirs():
    found = split(Groups(GroupsConfig(min_size=3)), 7)
    assert found.groups.tolist() == [0, 1, 2, 0, 1, 2, 0]
    for own, group in zip(found.indices, found.groups, strict=True):
        assert set(GROUPS[own]) == {group}
        assert len(own) >= 3
    assert sorted(np.concatenate(found.indices)) == list(range(240))


def test_within_a_group_a_small_alpha_skews_labels_and_a_large_one_does_not():
    def spread(alpha):
        counts = split(Groups(GroupsConfig(alpha=alpha, min_size=1)), 6).counts
        return (counts / counts.sum(1, keepdims=True)).std(1).mean()

    assert spread(0.05) > 0.3
    assert spread(1e6) < 0.02


def test_a_client_that_is_filled_up_is_noted_with_its_group():
    found = split(Groups(GroupsConfig(alpha=0.01, min_size=12, tries=1)), 6)
    assert any(note.endswith("(clients of group 0)") for note in found.notes)
    assert found.sizes.min() >= 12


def test_fewer_clients_than_groups_are_refused():
    with pytest.raises(ConfigError, match=r"found 2 clients, expected at least 3"):
        split(Groups(), 2)


def test_test_images_are_those_of_a_clients_own_group():
    groups = np.tile([0, 1], 120)
    counts = np.array([[4, 4, 0], [2, 0, 0], [0, 0, 9]])
    rng = np.random.default_rng(0)

    def deal(clients, labels):
        return matched_shards(counts[clients], labels, rng)

    shards = shards_within(np.array([0, 1, 0]), groups, LABELS, deal)
    assert [set(groups[shard]) for shard in shards] == [{0}, {1}, {0}]
    mixes = [np.bincount(LABELS[shard], minlength=3).tolist() for shard in shards]
    assert mixes == [[40, 40, 0], [40, 0, 0], [0, 0, 40]]


def test_clients_of_one_group_share_its_test_images_evenly():
    groups = np.tile([0, 1], 120)
    rng = np.random.default_rng(0)
    shards = shards_within(
        np.array([0, 1, 0]),
        groups,
        LABELS,
        lambda clients, labels: even_shards(len(clients), labels, rng),
    )
    assert [len(shard) for shard in shards] == [60, 120, 60]
    assert not set(shards[0]) & set(shards[2])


def test_a_client_of_a_group_that_is_never_tested_gets_no_image():
    shards = shards_within(
        np.array([0, 5]),
        np.zeros(240, np.int64),
        LABELS,
        lambda clients, labels: even_shards(
            len(clients), labels, np.random.default_rng(0)
        ),
    )
    assert [len(shard) for shard in shards] == [240, 0]


class Wrong(Partitioner):
    """Says a group for one client of two."""

    def split(self, labels, clients, num_classes, rng):
        parts = np.array_split(np.arange(len(labels)), clients)
        return Partition.of(parts, labels, num_classes, groups=[0])


def test_groups_that_are_not_one_a_client_are_a_fault_of_the_partitioner():
    with pytest.raises(ContractError, match=r"groups of shape \[1\]; expected \[2\]"):
        dealt(Wrong(), "wrong", LABELS, 2, 3, 0)


class Writes(Partitioner):
    """Changes what it is given."""

    def split(self, labels, clients, num_classes, rng):
        self.groups[0] = 1


def test_the_groups_that_a_partitioner_is_given_cannot_be_written_to():
    scheme = Writes()
    scheme.groups = GROUPS.copy()
    with pytest.raises(ValueError, match="read-only"):
        dealt(scheme, "writes", LABELS, 3, 3, 0)


@pytest.mark.parametrize(
    ("samples", "clients", "least", "ways"),
    [
        (25, 8, 30, "the option min_size, or the number of clients"),
        (25, 2, 30, "the option min_size"),
        (2, 6, 1, "the number of clients"),
        (2, 6, 30, "the number of clients"),
    ],
)
def test_a_group_that_is_too_small_is_told_with_what_helps(
    samples, clients, least, ways
):
    partitioner = Groups(GroupsConfig(min_size=least))
    partitioner.groups = np.repeat([0, 1], [500, samples])
    words = (
        rf"found {samples} samples in group 1, expected {clients // 2 * least} or more, "
        rf".*\. Lower {ways}\."
    )
    labels = np.zeros(500 + samples, int)
    with pytest.raises(ConfigError, match=words):
        partitioner.split(labels, clients, 1, np.random.default_rng(0))
