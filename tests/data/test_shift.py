"""What differs from client to client beside labels, and what stays as it was."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fedkd.base.randomness import numpy_stream
from fedkd.config import build
from fedkd.data.groups import Groups
from fedkd.data.looks import LOOKS
from fedkd.data.shift import NO_SHIFT, ShiftConfig, concept, parts_of, shifted
from fedkd.errors import ConfigError
from fedkd.testing.toys import toy_images

DATA = toy_images()
SHARDS = [np.arange(12), np.arange(12, 30)]
TESTS = [np.arange(0, 20), np.arange(10, 36)]


def moved(seed=0, data=DATA, **options):
    return shifted(data, SHARDS, TESTS, ShiftConfig(**options), seed)


def test_each_clients_images_are_changed_as_its_own_streams_say():
    world = moved(3, features=("noise",), strength=0.5)
    for k, (own, tests) in enumerate(zip(SHARDS, TESTS, strict=True)):
        levels = numpy_stream(3, "shift", k, "noise").uniform(-1, 1, 8)
        for half, x, seen in (
            ("train", DATA.x_train[own], world.data.x_train[own]),
            ("test", DATA.x_test[tests], world.data.x_test[world.test_shards[k]]),
        ):
            rng = numpy_stream(3, "shift", k, "noise", half)
            expected = LOOKS["noise"](x.float(), levels, 0.5, rng)
            assert torch.equal(seen, expected.round().clamp(0, 255).byte())


def test_the_test_half_has_an_image_once_for_each_client_that_is_tested_on_it():
    world = moved(features=("rotation",))
    assert [shard.tolist() for shard in world.test_shards] == [
        list(range(20)),
        list(range(20, 46)),
    ]
    assert world.data.y_test.tolist() == [
        *DATA.y_test[:20].tolist(),
        *DATA.y_test[10:].tolist(),
    ]
    # Image 15 is seen by both, and by each in its own way.
    assert not torch.equal(world.data.x_test[15], world.data.x_test[20 + 5])
    assert world.data.notes[-1].endswith("as they see them: 46 images.")


@pytest.mark.parametrize("feature", LOOKS)
def test_a_client_may_have_no_image_to_be_tested_or_validated_on(feature):
    shift, none = ShiftConfig(features=(feature,)), np.arange(0)
    world = shifted(DATA, SHARDS, [none, TESTS[1]], shift, 0, [np.arange(30, 33), none])
    assert [len(shard) for shard in world.test_shards] == [0, len(TESTS[1])]
    usual = moved(features=(feature,))
    assert torch.equal(world.data.x_test, usual.data.x_test[usual.test_shards[1]])


@pytest.mark.parametrize("feature", LOOKS)
def test_images_may_have_more_than_four_channels(feature):
    six = torch.cat([DATA.x_train, DATA.x_train.flip(3)], 1)
    six = torch.cat([six] * (6 // six.shape[1] + 1), 1)[:, :6]
    test = six[: len(DATA.x_test)]
    statistics = {"mean": (0.5,) * 6, "std": (0.25,) * 6}
    data = replace(DATA, x_train=six, x_test=test, **statistics)
    world = moved(data=data, features=(feature,))
    assert world.data.x_train.shape == six.shape
    assert not torch.equal(world.data.x_train, six)


def test_images_that_no_client_has_stay_and_so_does_the_set_before():
    before = DATA.x_train.clone()
    world = moved(features=("colour",), strength=1.0)
    assert torch.equal(world.data.x_train[30:], before[30:])
    assert torch.equal(DATA.x_train, before)
    assert torch.equal(world.data.y_train, DATA.y_train)


def test_features_follow_each_other_and_draw_apart():
    one = moved(features=("blur",))
    both = moved(features=("blur", "colour"))
    levels = numpy_stream(0, "shift", 1, "colour").uniform(-1, 1, 8)
    x = one.data.x_train[SHARDS[1]].float()
    expected = LOOKS["colour"](x, levels, 0.5, None).round().clamp(0, 255).byte()
    assert torch.equal(both.data.x_train[SHARDS[1]], expected)


def test_a_seed_gives_the_same_world_and_another_seed_another():
    one, two, other = (moved(seed, features=("noise",)) for seed in (0, 0, 1))
    assert torch.equal(one.data.x_train, two.data.x_train)
    assert not torch.equal(one.data.x_train, other.data.x_train)


def test_no_shift_leaves_data_and_shards_as_they_are():
    world = shifted(DATA, SHARDS, TESTS, NO_SHIFT, 0)
    assert world.data is DATA
    assert world.test_shards == tuple(TESTS)
    assert world.periods is None


def test_the_first_cluster_calls_classes_as_they_are_and_others_call_each_another():
    assert concept(0, 5, 7).tolist() == [0, 1, 2, 3, 4]
    order = numpy_stream(7, "shift", "concept", 2).permutation(5)
    names = concept(2, 5, 7)
    assert sorted(names) == [0, 1, 2, 3, 4]
    assert all(names[order[i]] == order[(i + 1) % 5] for i in range(5))
    assert all(names != np.arange(5))


def test_client_k_is_of_cluster_k_mod_concepts_in_training_and_test():
    world = moved(concepts=2)
    names = torch.from_numpy(concept(1, 3, 0))
    assert torch.equal(world.data.y_train[SHARDS[0]], DATA.y_train[SHARDS[0]])
    assert torch.equal(world.data.y_train[SHARDS[1]], names[DATA.y_train[SHARDS[1]]])
    tests = world.data.y_test[world.test_shards[1]]
    assert torch.equal(tests, names[DATA.y_test[TESTS[1]]])
    assert torch.equal(world.data.x_train, DATA.x_train)


def test_groups_of_test_images_go_with_them():
    groups = Groups(DATA.y_train, torch.arange(36))
    world = moved(data=replace(DATA, groups=groups), concepts=2)
    assert world.data.groups.test.tolist() == [*range(20), *range(10, 36)]
    assert world.data.groups.train.tolist() == DATA.y_train.tolist()


def test_periods_share_a_clients_images_and_have_other_mixes():
    labels = np.tile([0, 1, 2], 100)
    shards = [np.arange(0, 150), np.arange(150, 300)]
    shift = ShiftConfig(periods=3, period_alpha=0.05)
    dealt = parts_of(shards, labels, shift, 0)
    for parts, shard in zip(dealt, shards, strict=True):
        assert sorted(np.concatenate(parts)) == shard.tolist()
        mixes = np.array([np.bincount(labels[p], minlength=3) / len(p) for p in parts])
        assert mixes.std(0).max() > 0.3
    again, other = (parts_of(shards, labels, shift, seed) for seed in (0, 1))
    assert [p.tolist() for p in again[0]] == [p.tolist() for p in dealt[0]]
    assert [p.tolist() for p in other[0]] != [p.tolist() for p in dealt[0]]


def test_more_periods_than_images_are_refused():
    with pytest.raises(ConfigError, match=r"13 periods and fewer images at client 0,"):
        moved(periods=13)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"features": ["blur", "blur"]}, "a feature comes twice"),
        ({"strength": 0.7}, "strength is of features, found none"),
        ({"period_alpha": 0.7}, "period_alpha is of periods, found 1"),
        ({"features": ["hue"]}, "features"),
    ],
)
def test_options_that_would_do_nothing_are_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        build(ShiftConfig, options, "here")


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({}, ""),
        ({"features": ["rotation", "noise"], "strength": 0.25}, "rotation+noise 0.25"),
        ({"concepts": 2, "periods": 4}, "2 concepts, 4 periods 0.1"),
    ],
)
def test_a_shift_is_called_by_what_it_does(options, shown):
    assert ShiftConfig(**options).shown == shown
