"""The digits of scikit-learn: scale, split, constants."""

import hashlib
import sys
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits

from fedkd.datasets import digits
from fedkd.datasets.digits import Digits, is_test


@pytest.fixture(scope="module")
def data():
    return Digits().load(Path("/nowhere"))


def test_there_are_1437_training_and_360_test_images_of_8_by_8(data):
    assert data.x_train.shape == (1437, 1, 8, 8)
    assert data.x_test.shape == (360, 1, 8, 8)
    assert data.x_train.dtype == torch.uint8
    assert data.classes == ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")


def test_grey_levels_0_to_16_are_scaled_to_0_to_255(data):
    levels = [
        0,
        16,
        32,
        48,
        64,
        80,
        96,
        112,
        128,
        143,
        159,
        175,
        191,
        207,
        223,
        239,
        255,
    ]
    assert data.x_train.unique().tolist() == levels


def test_the_constants_are_those_of_the_training_pixels(data):
    pixels = data.x_train.double() / 255
    assert data.mean[0] == pytest.approx(float(pixels.mean()), abs=5e-5)
    assert data.std[0] == pytest.approx(float(pixels.std()), abs=5e-5)


def test_the_test_set_has_a_fifth_of_every_class(data):
    assert data.y_test.bincount().tolist() == [36, 37, 35, 37, 36, 36, 36, 36, 35, 36]
    assert data.y_train.bincount().tolist() == [
        142, 145, 142, 146, 145, 146, 145, 143, 139, 144
    ]  # fmt: skip


def test_the_split_is_the_same_everywhere():
    chosen = is_test(load_digits().target)
    digest = hashlib.sha256(chosen.tobytes()).hexdigest()[:16]
    assert digest == "5707225e4e15e834"


def test_images_keep_their_labels(data):
    found = load_digits()
    chosen = is_test(found.target)
    assert data.y_test.tolist() == found.target[chosen].tolist()
    first = torch.from_numpy(found.images[chosen][0] * 255 / 16).round()
    assert torch.equal(data.x_test[0, 0].double(), first)


def test_they_are_read_without_scikit_learn_which_takes_seconds_to_import(
    data, monkeypatch
):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    assert torch.equal(Digits().load(Path()).x_train, data.x_train)


def test_where_its_file_is_elsewhere_scikit_learn_finds_it(data, monkeypatch):
    monkeypatch.setattr(digits, "find_spec", lambda name: None)
    found = Digits().load(Path())
    for part in ("x_train", "y_train", "x_test", "y_test"):
        assert torch.equal(getattr(found, part), getattr(data, part))


def test_nothing_is_augmented(data):
    assert (data.augmentation.pad, data.augmentation.flip) == (0, False)
