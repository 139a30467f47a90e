"""SVHN through torchvision's reader, on small files in the published format."""

import re

import numpy as np
import published
import pytest
import scipy.io
import torch

from fedkd.datasets import svhn
from fedkd.datasets.svhn import SVHN, SvhnConfig
from fedkd.errors import DataError

PART = SvhnConfig(partial=True)
TRAIN, TEST = "train_32x32.mat", "test_32x32.mat"


@pytest.fixture
def root(tmp_path):
    published.write_svhn(tmp_path, train=40, test=20)
    return tmp_path


def rewrite(path, **changes):
    """Write a file anew with other variables; None leaves one out."""
    found = scipy.io.loadmat(path)
    content = {name: found[name] for name in ("X", "y")} | changes
    kept = {name: value for name, value in content.items() if value is not None}
    scipy.io.savemat(path, kept, do_compression=True)


def error_of(root, config=PART):
    with pytest.raises(DataError) as caught:
        SVHN(config).load(root)
    return str(caught.value)


def test_images_and_labels_are_those_of_the_files(root):
    data = SVHN(PART).load(root)
    assert (data.x_train.shape, data.x_test.shape) == ((40, 3, 32, 32), (20, 3, 32, 32))
    assert data.x_train.dtype == torch.uint8
    expected = published.picture(7, 27).transpose(2, 0, 1)
    assert np.array_equal(data.x_train[27].numpy(), expected)


def test_the_label_10_of_the_files_is_the_digit_0(root):
    assert scipy.io.loadmat(root / TRAIN)["y"][:3].ravel().tolist() == [10, 1, 2]
    data = SVHN(PART).load(root)
    assert data.y_train.tolist() == list(range(10)) * 4
    assert data.y_train.dtype == torch.int64
    assert data.classes == tuple("0123456789")


def test_the_constants_and_the_augmentation_are_those_of_mosaics_code(root):
    data = SVHN(PART).load(root)
    assert (data.mean, data.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert (data.augmentation.pad, data.augmentation.flip) == (4, True)


def test_a_file_of_one_image_is_read(tmp_path):
    published.write_svhn(tmp_path, train=1, test=1)
    assert SVHN(PART).load(tmp_path).y_train.tolist() == [0]


def test_a_part_of_the_set_is_read_only_if_that_is_said(root):
    message = error_of(root, SvhnConfig())
    assert (
        f"{root / TRAIN} holds 40 of 73,257 train images. Run 'fedkd data " in message
    )
    assert "or set the option partial to true" in message


def test_the_published_numbers_are_those_that_torchvision_holds_files_to():
    assert SVHN().checksums() == {
        TRAIN: "e26dedcc434d2e4c54c9b2d4a06d8373",
        TEST: "eb5a983be6a315427106f1b164d9cef3",
    }
    assert sum(svhn.COUNTS.values()) == 99_289


def test_a_damaged_copy_is_named_by_its_size_and_its_checksum(root, monkeypatch):
    monkeypatch.setattr(svhn, "COUNTS", {"train": 40, "test": 20})
    sizes = {name: (root / name).stat().st_size for name in (TRAIN, TEST)}
    monkeypatch.setattr(SVHN, "files", {**sizes, TRAIN: 182_040_794})
    message = error_of(root, SvhnConfig())
    assert (
        f"{TRAIN} is damaged: found {sizes[TRAIN]:,} bytes, expected 182,040" in message
    )
    monkeypatch.setattr(SVHN, "files", sizes)
    message = error_of(root, SvhnConfig())
    assert re.search(f"{TRAIN} is damaged: found MD5 .*, expected e26dedcc", message)


def test_the_published_set_is_read_without_an_option(root, monkeypatch):
    monkeypatch.setattr(svhn, "COUNTS", {"train": 40, "test": 20})
    sizes = {name: (root / name).stat().st_size for name in (TRAIN, TEST)}
    monkeypatch.setattr(SVHN, "files", sizes)
    sums = {name: svhn_sum(root / name) for name in sizes}
    monkeypatch.setattr(SVHN, "checksums", lambda self: sums)
    assert len(SVHN().load(root).x_train) == 40


def svhn_sum(path):
    from fedkd.datasets.published_files import md5

    return md5(path)


@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"X": None}, "no variable X (variables: y), expected X and y"),
        ({"y": None}, "no variable y (variables: X), expected X and y"),
        (
            {"X": np.zeros((28, 32, 3, 20), np.uint8)},
            "X of 28x32x3x20 uint8, expected 32x32x3xN uint8",
        ),
        (
            {"X": np.zeros((32, 32, 3, 20))},
            "X of 32x32x3x20 double, expected 32x32x3xN uint8",
        ),
        ({"X": np.zeros((32, 32), np.uint8)}, "X of 32x32 uint8, expected 32x32x3xN"),
        (
            {"y": np.ones((19, 1), np.uint8)},
            "y of 19x1, expected 20x1, one for each image",
        ),
    ],
)
def test_variables_that_are_missing_or_of_another_shape_are_named(
    root, monkeypatch, held, changes, problem
):
    rewrite(root / TEST, **changes)
    # So that a file that must be the published one gets as far as its variables.
    monkeypatch.setattr(svhn, "COUNTS", {"train": 40, "test": 26_032})
    message = error_of(root, SvhnConfig(partial=not held))
    assert f"{root / TEST} is damaged: found {problem}" in message


def test_a_label_out_of_range_is_named(root):
    rewrite(root / TRAIN, y=np.full((40, 1), 11, np.uint8))
    message = error_of(root)
    assert (
        f"{root / TRAIN} is damaged: found the label 11, expected labels from"
        in message
    )


@pytest.mark.parametrize("held", [True, False])
@pytest.mark.parametrize("content", [b"", b"a page of HTML" * 100])
def test_a_file_that_is_no_mat_file_is_named(root, held, content):
    (root / TRAIN).write_bytes(content)
    message = error_of(root, SvhnConfig(partial=not held))
    assert f"{root / TRAIN} is damaged: found no readable MATLAB v5 file (" in message
    assert "\n" not in message


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_a_truncated_file_is_named(root, share):
    whole = (root / TRAIN).read_bytes()
    (root / TRAIN).write_bytes(whole[: int(share * len(whole))])
    assert f"{root / TRAIN} is damaged: found no " in error_of(root)


def test_a_part_says_which_share_of_the_published_it_is(root):
    data = SVHN(PART).load(root)
    train, test = len(data.y_train), len(data.y_test)
    start, part = data.notes[0].rsplit(" (part ", 1)
    assert start == (
        f"the files hold {train} of 73,257 published training images and {test} of "
        "26,032 test images: no results on the published set"
    )
    # Equal files have one name; one changed pixel gives another.
    assert SVHN(PART).load(root).notes == data.notes
    whole = SVHN(PART).whole(root)
    whole.x_test[0, 0, 0, 0] ^= 1
    assert SVHN(PART).notes_on_part(whole)[0].rsplit(" (part ", 1)[1] != part
    assert re.fullmatch(r"[0-9a-f]{8}\)\.", part)
