"""The test images that measure a client: its own mix of classes, or an even share."""

import numpy as np

from fedkd.partition.held_out import even_shards, matched_shards

LABELS = np.tile([0, 1, 2], 100)


def matched(counts, labels=LABELS, seed=0):
    table = np.array(counts)
    shards = matched_shards(table, labels, np.random.default_rng(seed))
    return [np.bincount(labels[s], minlength=table.shape[1]).tolist() for s in shards]


def test_a_shard_has_the_mix_of_the_clients_training_images():
    assert matched([[600, 300, 0], [0, 0, 7]]) == [[100, 50, 0], [0, 0, 100]]


def test_a_shard_is_as_large_as_the_rarest_class_allows():
    labels = np.repeat([0, 1], [100, 10])
    assert matched([[50, 50]], labels) == [[10, 10]]


def test_a_shard_holds_no_image_twice():
    (shard,) = matched_shards(np.array([[5, 3, 1]]), LABELS, np.random.default_rng(0))
    assert len(set(shard)) == len(shard)


def test_which_images_of_a_class_are_taken_is_random():
    counts = np.array([[2, 1, 0]])
    one, two = (
        matched_shards(counts, LABELS, np.random.default_rng(s)) for s in (0, 1)
    )
    assert one[0].tolist() != two[0].tolist()


def test_a_class_that_is_never_tested_is_left_out_of_the_mix():
    labels = np.repeat([0, 1], 20)
    assert matched([[10, 5, 100]], labels) == [[20, 10, 0]]


def test_a_client_whose_classes_are_never_tested_gets_no_image():
    labels = np.repeat([0, 1], 20)
    assert matched([[0, 0, 9], [5, 0, 0]], labels) == [[0, 0, 0], [20, 0, 0]]


def test_even_shards_are_a_partition_of_the_test_set():
    shards = even_shards(7, LABELS, np.random.default_rng(0))
    assert sorted(np.concatenate(shards)) == list(range(300))
    assert {len(shard) for shard in shards} == {42, 43}


def test_even_shards_have_an_even_share_of_every_class():
    labels = np.repeat([0, 1, 2], [7, 70, 23])
    shards = even_shards(7, labels, np.random.default_rng(0))
    counts = np.array([np.bincount(labels[s], minlength=3) for s in shards])
    assert counts[:, 0].tolist() == [1] * 7
    assert counts[:, 1].tolist() == [10] * 7
    assert sorted(counts[:, 2]) == [3, 3, 3, 3, 3, 4, 4]
    assert sorted(np.concatenate(shards)) == list(range(100))


def test_which_images_of_a_class_an_even_shard_has_is_random():
    one, two = (even_shards(3, LABELS, np.random.default_rng(s)) for s in (0, 1))
    assert one[0].tolist() != two[0].tolist()


def test_even_shards_of_many_clients_repeat_images():
    shards = even_shards(5, np.array([0, 1]), np.random.default_rng(0))
    assert [len(shard) for shard in shards] == [1] * 5
    assert set(np.concatenate(shards)) == {0, 1}
