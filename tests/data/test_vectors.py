"""Vectors as a data set: checks, normalisation, batches, subsets."""

import pickle

import numpy as np
import pytest
import torch

from fedkd.data.dataset import Dataset, DatasetConfig
from fedkd.data.groups import Groups
from fedkd.data.images import ClientData, ImageSet
from fedkd.data.public import PublicData
from fedkd.data.shift import ShiftConfig, shifted
from fedkd.data.subsets import subset
from fedkd.data.vectors import VectorSet, vector_moments
from fedkd.errors import ConfigError, ContractError, DataError
from fedkd.testing import toy_images

X = torch.tensor(
    [[1.0, 10.0, 7.0], [3.0, 30.0, 7.0], [1.0, 10.0, 7.0], [3.0, 30.0, 7.0]]
)
Y = torch.tensor([0, 1, 0, 1])
GOOD = {
    "name": "toy",
    "x_train": X,
    "y_train": Y,
    "x_test": X[:2] + 1,
    "y_test": Y[:2],
    "classes": ("a", "b"),
    "mean": (2.0, 20.0, 7.0),
    "std": (1.0, 10.0, 1.0),
}


def vectors(**changes):
    return VectorSet(**{**GOOD, **changes})


def test_moments_divide_by_n_and_a_value_that_never_changes_has_deviation_one():
    assert vector_moments(X) == ((2.0, 20.0, 7.0), (1.0, 10.0, 1.0))


def test_a_value_that_never_changes_is_found_whatever_rounding_makes_of_its_mean():
    assert vector_moments(torch.full((7, 1), 0.1))[1] == (1.0,)


def test_vectors_are_normalised_by_mean_and_deviation_of_each_value():
    data = vectors()
    expected = torch.tensor([[-1.0, -1.0, 0.0], [1.0, 1.0, 0.0]])
    assert torch.equal(data.normalise(X[:2]), expected)
    x, y = next(ClientData(data, torch.tensor([0, 1])).inputs(5))
    assert torch.equal(x, expected)
    assert y.tolist() == [0, 1]


def test_values_far_from_zero_keep_their_digits():
    x = torch.tensor([[10_000.0], [10_000.5]])
    mean, std = vector_moments(x)
    data = vectors(x_train=x, y_train=Y[:2], x_test=x, mean=mean, std=std)
    assert data.normalise(x).flatten().tolist() == [-1.0, 1.0]


def test_the_facts_are_shape_classes_and_normalisation():
    info = vectors().info
    assert (info.shape, info.num_classes) == ((3,), 2)
    assert (info.mean, info.std) == (GOOD["mean"], GOOD["std"])


def test_batches_are_drawn_as_those_of_images_without_augmentation():
    shard = ClientData(vectors(), torch.arange(4))
    torch.manual_seed(0)
    order = torch.randperm(4)
    after = torch.rand(())
    torch.manual_seed(0)
    batches = list(shard.batches(2, epochs=1))
    assert torch.equal(torch.rand(()), after)
    expected = vectors().normalise(X[order])
    assert torch.equal(torch.cat([x for x, _ in batches]), expected)
    assert torch.equal(torch.cat([y for _, y in batches]), Y[order])


def test_a_clients_data_travel_to_another_process():
    shard = pickle.loads(pickle.dumps(ClientData(vectors(), torch.arange(2))))
    assert next(shard.inputs(2))[0].shape == (2, 3)


def test_vectors_are_not_given_as_images():
    shard = ClientData(vectors(), torch.arange(4))
    with pytest.raises(
        ContractError, match=r"vectors of 3 values; take client.data.inp"
    ):
        shard.images(2)


def test_images_are_inputs_too():
    shard = ClientData(toy_images(), torch.arange(4))
    pairs = zip(shard.images(2), shard.inputs(2), strict=True)
    assert all(torch.equal(a[0], b[0]) for a, b in pairs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"x_train": X.double()},
            r"x_train of type float64, expected float32 \[N, D\]",
        ),
        ({"x_train": X.numpy()}, "x_train of type ndarray, expected a tensor"),
        ({"x_test": X[:2, :2]}, r"training vectors \[3\] and test vectors \[2\]"),
        ({"x_train": X[:, :, None]}, r"x_train of shape \[4, 3, 1\]"),
        ({"x_train": X[:, :, None, None]}, r"Images are an ImageSet"),
        ({"x_test": X[:2] / 0}, r"x_test\[0, 0\] inf, expected finite numbers"),
        ({"y_train": Y[:3]}, "4 vectors in x_train and 3 labels in y_train"),
        (
            {"y_train": Y + 1},
            r"the label 2 at y_train\[1\], expected labels from 0 to 1",
        ),
        ({"mean": (0.0,)}, "1 values of mean and 3 of std, expected 3"),
        ({"std": (1.0, 0.0, 1.0)}, r"std\[1\] 0, expected above 0"),
        ({"mean": (1.0, 0.0, float("nan"))}, r"mean\[2\] nan, expected a finite"),
        ({"classes": ("a", "a")}, "the class 'a' twice"),
    ],
)
def test_each_thing_that_is_wrong_has_a_sentence(changes, message):
    with pytest.raises(DataError, match=message):
        vectors(**changes)


def test_a_plug_in_returns_vectors_which_are_checked_for_repeats_and_cut(tmp_path):
    class Toy(Dataset):
        def load(self, root):
            return vectors(x_test=X[:2])

    data = Toy(Toy.Config(per_class=1)).load(tmp_path)
    assert len(data.x_train) == 2
    assert data.y_train.tolist() == [0, 1]
    (note,) = data.notes
    assert note.startswith("2 of 2 test vectors are equal to training vectors")
    assert not isinstance(data, ImageSet)


def test_groups_go_with_the_vectors_that_are_kept():
    groups = Groups(torch.tensor([0, 1, 2, 3]), torch.tensor([0, 1]))
    whole = vectors(groups=groups).to(torch.device("cpu"))
    config = DatasetConfig(per_class=1, test_fraction=0.5)
    part = subset(whole, config)
    assert len(part.x_train) == 2
    # Vectors 0 and 1 are equal to 2 and 3, so their groups tell which were kept.
    assert (part.groups.train % 2).tolist() == part.y_train.tolist()
    assert part.groups.test.tolist() == part.y_test.tolist()


def test_groups_of_fewer_vectors_are_refused():
    groups = Groups(torch.tensor([0, 1, 2]), torch.tensor([0, 1]))
    with pytest.raises(DataError, match=r"toy: found 3 groups .* 4 samples in x_train"):
        vectors(groups=groups)


def world(**options):
    shards = [np.array([0, 1]), np.array([2, 3])]
    tests = [np.array([0, 1]), np.array([1])]
    return shifted(vectors(), shards, tests, ShiftConfig(**options), 0)


def test_the_looks_of_vectors_cannot_be_changed():
    wanted = (
        "shifts: found the features blur, noise, which are of images, and the data "
        "toy are vectors of 3 values. Leave out features"
    )
    with pytest.raises(ConfigError, match=wanted):
        world(features=("blur", "noise"))


def test_clients_may_call_the_classes_of_vectors_otherwise():
    seen = world(concepts=2)
    assert seen.data.y_train.tolist() == [0, 1, 1, 0]
    assert torch.equal(seen.data.x_train, X)
    assert torch.equal(seen.data.x_test, (X[:2] + 1)[[0, 1, 1]])
    assert seen.data.notes[-1].endswith("own test vectors as they see them: 3 vectors.")


def test_public_vectors_are_normalised_as_the_clients_are_and_have_no_labels():
    groups = Groups(torch.tensor([0, 1, 2, 3]), torch.tensor([0, 1]))
    public = PublicData.of_share(vectors(groups=groups), np.array([0, 3]))
    expected = torch.tensor([[-1.0, -1.0, 0.0], [1.0, 1.0, 0.0]])
    assert torch.equal(public.at(torch.tensor([0, 1])), expected)
    assert sorted(len(x) for x in public.batches(2, epochs=1)) == [2]


def test_public_images_are_refused_where_clients_have_vectors():
    wanted = (
        "found images of 1x8x8 in toy, expected vectors of 3 values, as toy has them"
    )
    with pytest.raises(ConfigError, match=wanted):
        PublicData.of_set(vectors(), toy_images())
