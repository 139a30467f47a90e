"""Prototypes of classes."""

import pytest
import torch

from fedkd.errors import DivergedError
from fedkd.ops.prototypes import class_prototypes


def test_a_class_with_fewer_images_than_centres_gives_their_mean():
    features = torch.tensor([[1.0, 0.0], [3.0, 4.0], [9.0, 9.0]])
    centres = class_prototypes(features, torch.tensor([4, 4, 0]), 3, 42)
    assert list(centres) == [0, 4]
    assert centres[4].tolist() == [[2.0, 2.0]]
    assert centres[0].tolist() == [[9.0, 9.0]]


def test_as_many_images_as_centres_are_their_own_centres():
    features = torch.tensor([[0.0], [10.0], [20.0]])
    centres = class_prototypes(features, torch.zeros(3, dtype=torch.long), 3, 42)
    assert sorted(centres[0].flatten().tolist()) == [0.0, 10.0, 20.0]


def test_centres_are_the_means_of_clusters():
    features = torch.tensor([[0.0], [2.0], [100.0], [104.0]])
    centres = class_prototypes(features, torch.zeros(4, dtype=torch.long), 2, 42)
    assert sorted(centres[0].flatten().tolist()) == [1.0, 102.0]


def test_all_centres_come_back_not_only_ten():
    torch.manual_seed(0)
    centres = class_prototypes(
        torch.randn(50, 4), torch.zeros(50, dtype=torch.long), 12, 0
    )
    assert centres[0].shape == (12, 4)


def test_classes_do_not_mix():
    features = torch.tensor([[0.0], [1.0], [100.0], [101.0]])
    centres = class_prototypes(features, torch.tensor([0, 0, 1, 1]), 2, 42)
    assert centres[0].max() < 50 < centres[1].min()


def test_equal_features_give_all_centres_without_a_warning():
    centres = class_prototypes(
        torch.ones(6, 2), torch.zeros(6, dtype=torch.long), 3, 42
    )
    assert torch.equal(centres[0], torch.ones(3, 2))


def test_a_seed_gives_the_same_centres_again():
    torch.manual_seed(0)
    features, labels = torch.randn(60, 8), torch.zeros(60, dtype=torch.long)
    first, again, other = (class_prototypes(features, labels, 5, s) for s in (1, 1, 2))
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], other[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("per_class", [1, 2, 9])
def test_centres_are_detached_and_of_the_features_type(dtype, per_class):
    features = torch.randn(4, 3, dtype=dtype, requires_grad=True)
    rows = class_prototypes(features, torch.ones(4, dtype=torch.long), per_class, 0)[1]
    assert rows.dtype == dtype
    assert not rows.requires_grad


def test_short_floats_have_centres_in_float32():
    features = torch.arange(6.0).view(6, 1).bfloat16()
    rows = class_prototypes(features, torch.zeros(6, dtype=torch.long), 6, 0)[0]
    assert rows.dtype == torch.float32
    assert sorted(rows.flatten().tolist()) == [0, 1, 2, 3, 4, 5]


def test_features_that_are_not_finite_are_refused():
    features = torch.tensor([[float("nan")], [1.0]])
    with pytest.raises(DivergedError, match="not finite"):
        class_prototypes(features, torch.zeros(2, dtype=torch.long), 1, 0)


def test_no_centres_cannot_be_asked_for():
    with pytest.raises(ValueError, match="per_class=0"):
        class_prototypes(torch.ones(1, 1), torch.zeros(1, dtype=torch.long), 0, 0)
