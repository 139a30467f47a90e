"""Public data: images without labels, seen as clients' are, drawn before a partition."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fedkd import ConfigError, PublicData, testing
from fedkd.data.images import Augmentation, ClientData

IMAGES = replace(testing.toy_images(), augmentation=Augmentation(pad=1, flip=True))


def test_a_share_and_the_rest_are_the_whole_set_without_overlap():
    public, left = PublicData.held_out(50, 0.2, seed=3)
    assert (len(public), len(left)) == (10, 40)
    assert sorted([*public, *left]) == list(range(50))
    assert list(public) == sorted(public)
    assert list(left) == sorted(left)


def test_a_share_hangs_on_the_seed_alone():
    first, again, other = (PublicData.held_out(50, 0.2, seed)[0] for seed in (3, 3, 4))
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_a_share_that_leaves_nothing_to_one_side_is_refused(share):
    with pytest.raises(ConfigError, match=r"public.share.*leaves images to both sides"):
        PublicData.held_out(50, share, seed=0)


def test_a_share_has_the_images_of_its_positions_and_no_labels():
    public = PublicData.of_share(IMAGES, np.array([5, 2]))
    assert len(public) == 2
    assert (public.pixels == IMAGES.x_train[[5, 2]]).all()
    expected = IMAGES.normalise(IMAGES.x_train[[2]])
    torch.testing.assert_close(public.at(torch.tensor([1])), expected)
    assert public._inputs.labels.tolist() == [0, 0]
    (batch,) = public.batches(8, epochs=1)
    assert batch.shape == (2, 1, 8, 8)


@pytest.mark.parametrize(
    ("positions", "said"),
    [
        ([0, 36], "positions of public: found position 36, expected 0 to 35"),
        ([0], "positions of public: found 1, expected 2, one for each input"),
        ([0.5, 1.0], "positions of public: found float64 of shape"),
    ],
)
def test_positions_that_are_not_those_of_the_inputs_are_refused(positions, said):
    with pytest.raises(ConfigError, match=f"^{said}"):
        PublicData(IMAGES.x_train[:2], IMAGES, positions=positions)


def test_a_share_takes_positions_in_a_list_and_refuses_others():
    assert PublicData.of_share(IMAGES, [5, 2]).positions.tolist() == [5, 2]
    with pytest.raises(ConfigError, match="positions of toy: found position -1"):
        PublicData.of_share(IMAGES, [-1])


def test_images_of_another_set_are_normalised_as_the_clients_are():
    other = replace(IMAGES, name="other", mean=(0.9,), std=(0.1,))
    public = PublicData.of_set(IMAGES, other)
    assert public.positions is None
    expected = IMAGES.normalise(other.x_train[[4]])
    torch.testing.assert_close(public.at(torch.tensor([4])), expected)


def test_batches_are_drawn_as_a_clients_are():
    public = PublicData.of_share(IMAGES, np.arange(20))
    client = ClientData(IMAGES, torch.arange(20))
    torch.manual_seed(1)
    ours = list(public.batches(8, steps=4))
    torch.manual_seed(1)
    theirs = [x for x, _ in client.batches(8, steps=4)]
    assert len(ours) == 4
    for one, other in zip(ours, theirs, strict=True):
        assert torch.equal(one, other)


def test_images_of_another_shape_are_refused():
    other = replace(testing.toy_images(channels=3, size=16), name="large")
    with pytest.raises(
        ConfigError,
        match="images of 3x16x16 in large, expected images of 1x8x8, as toy has them",
    ):
        PublicData.of_set(IMAGES, other)
