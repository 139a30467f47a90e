"""What every data set must be: one sentence for each thing that it is not."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fedkd.data.checks import repeated
from fedkd.data.dataset import Dataset
from fedkd.data.images import ImageSet
from fedkd.errors import ConfigError, DataError
from fedkd.plugins.registry import load_registry

X = torch.arange(6 * 3 * 8 * 9, dtype=torch.int64).remainder(251).to(torch.uint8)
X = X.view(6, 3, 8, 9)
Y = torch.tensor([0, 1, 2, 0, 1, 2])
GOOD = {
    "name": "toy",
    "x_train": X,
    "y_train": Y,
    "x_test": X[:3] + 1,
    "y_test": Y[:3],
    "classes": ("a", "b", "c"),
    "mean": (0.5,) * 3,
    "std": (0.25,) * 3,
}


def loaded(config=None, **changes):
    class Toy(Dataset):
        def load(self, root):
            return ImageSet(**{**GOOD, **changes})

    return Toy(None if config is None else Toy.Config(**config)).load(None)


NAN = X.float().index_fill(0, torch.tensor([2]), float("nan"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"x_train": X / 255},
            "x_train of type float32, expected uint8 [N, C, H, W] in",
        ),
        ({"x_train": X / 255}, "Scale images to 0..255, round them and convert them."),
        ({"x_train": NAN}, "Some values are NaN; replace these first."),
        ({"x_train": X.int()}, "found x_train of type int32"),
        ({"x_test": X.numpy()}, "found x_test of type ndarray, expected a tensor."),
        (
            {"x_train": X[:, 0]},
            "found x_train of shape [6, 8, 9], expected uint8 [N, C,",
        ),
        (
            {"x_train": X.permute(0, 2, 3, 1)},
            "found x_train of shape [6, 8, 9, 3], expected uint8 [N, C, H, W] in 0..255. "
            "Channels come last in x_train: use permute(0, 3, 1, 2).",
        ),
        (
            {"x_test": X[:3, :, :4]},
            "training images [3, 8, 9] and test images [3, 4, 9]",
        ),
        ({"x_test": X[:0], "y_test": Y[:0]}, "found x_test of shape [0, 3, 8, 9]"),
        ({"y_train": Y[:5]}, "found 6 images in x_train and 5 labels in y_train, exp"),
        (
            {"y_train": Y.float()},
            "found y_train of type float32 and shape [6], expected",
        ),
        ({"y_train": Y == 0}, "found y_train of type bool"),
        ({"y_train": torch.eye(3)[Y].long()}, "Of one-hot labels, take argmax(1)."),
        (
            {"y_train": Y - 1},
            "found the label -1 at y_train[0], expected labels from 0 to",
        ),
        (
            {"y_test": Y[:3] + 1},
            "found the label 3 at y_test[2], expected labels from 0 ",
        ),
        (
            {"y_train": [0, 1, 2, 0, 1, 2]},
            "found y_train of type list, expected a tensor",
        ),
        (
            {"mean": (0.5,)},
            "found 1 values of mean and 3 of std, expected 3, one for ea",
        ),
        (
            {"mean": (127.0,) * 3},
            "found mean 127, expected 0 to 1, of images scaled to",
        ),
        (
            {"std": (50.0,) * 3},
            "found std 50, expected above 0, at most 1, of images sc",
        ),
        ({"std": (0.0,) * 3}, "found std 0, expected above 0"),
        ({"mean": (float("nan"),) * 3}, "found mean nan, expected 0 to 1"),
        ({"std": (0.1, float("nan"), 0.1)}, "found std nan, expected above 0"),
        (
            {"classes": ("a", "b", "a")},
            "found the class 'a' twice, expected each name on",
        ),
    ],
)
def test_what_a_data_set_cannot_be_is_one_sentence(changes, message):
    with pytest.raises(DataError) as caught:
        loaded(**changes)
    assert str(caught.value).startswith("toy: found ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "labels", [Y.int(), Y.byte(), Y.short(), Y.to(torch.int8), Y[:, None]]
)
def test_other_whole_numbers_become_labels(labels):
    found = loaded(y_train=labels).y_train
    assert found.dtype == torch.int64
    assert found.tolist() == Y.tolist()


def test_something_else_than_a_data_set_is_named():
    class Toy(Dataset):
        def load(self, root):
            return X, Y

    with pytest.raises(DataError, match="was loaded as tuple, expected an ImageSet"):
        Toy().load(None)


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        (
            {"y_test": Y[:3] * 0},
            "There are no test images of b, c, so accuracy says no",
        ),
        (
            {"y_train": Y * 0},
            "There are no training images of b, c, so no client can le",
        ),
        (
            {"y_train": Y * 0, "y_test": Y[:3] * 0, "classes": ("only",)},
            "There is one class only, 'only', so an accuracy of 100 % means nothing.",
        ),
        (
            {"x_test": X[:3]},
            "3 of 3 test images are equal to training images, byte for",
        ),
    ],
)
def test_what_is_odd_of_a_data_set_is_a_note(changes, note):
    assert any(text.startswith(note) for text in loaded(**changes).notes)
    assert loaded().notes == ()


def test_equal_images_are_counted_by_their_bytes():
    assert repeated(X, torch.cat([X[4:], X[:1] + 1])) == 2
    assert repeated(X, X.transpose(2, 3)) == 0


class TestOptionsActFromPython:
    @pytest.mark.parametrize(
        ("options", "train", "test"),
        [
            ({"fraction": 0.05}, 70, 360),
            ({"per_class": 4}, 40, 360),
            ({"test_fraction": 0.5}, 1437, 182),
            ({}, 1437, 360),
        ],
    )
    def test_a_part_of_the_digits(self, options, train, test):
        data = load_registry().dataset("digits", options)[0].load(None)
        assert (len(data.y_train), len(data.y_test)) == (train, test)

    def test_another_seed_is_another_part(self):
        one, other = (
            load_registry().dataset("digits", {"per_class": 4, "subset_seed": s})[0]
            for s in (0, 1)
        )
        assert not torch.equal(one.load(None).x_train, other.load(None).x_train)

    def test_what_a_subclass_adds_is_not_cut_twice(self):
        class Base(Dataset):
            def load(self, root):
                return ImageSet(**GOOD)

        class Child(Base):
            def load(self, root):
                whole = super().load(root)
                return replace(whole, name=f"{len(whole.y_train)} images")

        found = Child(Child.Config(fraction=0.5)).load(None)
        assert (found.name, len(found.y_train)) == ("6 images", 3)

    def test_own_images_are_cut_too(self, tmp_path):
        x = np.random.default_rng(0).integers(0, 256, (12, 8, 8), np.uint8)
        y = np.arange(12) % 2
        np.savez(tmp_path / "a.npz", x_train=x, y_train=y, x_test=x + 1, y_test=y)
        options = {
            "path": str(tmp_path / "a.npz"),
            "per_class": 2,
            "test_fraction": 0.5,
        }
        data = load_registry().dataset("folder", options)[0].load(None)
        assert (len(data.y_train), len(data.y_test)) == (4, 6)

    def test_more_than_there_is_is_refused(self):
        with pytest.raises(ConfigError, match="found per_class 999"):
            load_registry().dataset("digits", {"per_class": 999})[0].load(None)
