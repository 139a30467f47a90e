"""The CIFAR family: reading its batches; sizes and checksums of its files."""

import hashlib
import pickle

import numpy as np
import pytest
import torch
from torchvision import datasets as readers

from fedkd.datasets.cifar10 import CIFAR10
from fedkd.datasets.cifar100 import CIFAR100
from fedkd.errors import DataError

KEYS = {
    CIFAR10: ("labels", "label_names"),
    CIFAR100: ("fine_labels", "fine_label_names"),
}
CONSTANTS = {
    CIFAR10: ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    CIFAR100: ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
}


@pytest.fixture(params=[CIFAR10, CIFAR100])
def small(request, tmp_path, monkeypatch):
    """A class whose batches hold two images each, and the folder where they are."""
    cls = request.param
    real = getattr(readers, cls.__name__)
    folder = tmp_path / real.base_folder
    folder.mkdir()
    labels, names = KEYS[cls]
    number = 0
    lists = []
    for entries in (real.train_list, real.test_list):
        lists.append([])
        for name, _ in entries:
            pixels = np.stack([pixels_of(number), pixels_of(number + 1)])
            batch = {"data": pixels, labels: [number % 10, (number + 1) % 10]}
            lists[-1].append([name, write(folder / name, batch)])
            number += 2
    meta = {**real.meta}
    meta["md5"] = write(
        folder / meta["filename"], {names: [f"c{i}" for i in range(10)]}
    )

    class Small(real):
        train_list, test_list = lists

    Small.meta = meta
    monkeypatch.setattr(cls, "reader", lambda self: Small)
    sizes = {name: (tmp_path / name).stat().st_size for name in cls.files}
    monkeypatch.setattr(cls, "files", sizes)
    return cls, tmp_path


def pixels_of(number):
    """The 3072 bytes of an image: all red, then all green, then all blue."""
    return (np.arange(3072) % 251 + number % 5).astype(np.uint8)


def write(path, content):
    """Write a pickle and return its MD5."""
    written = pickle.dumps(content)
    path.write_bytes(written)
    return hashlib.md5(written).hexdigest()


def test_images_and_labels_are_those_of_the_batches_in_order(small):
    cls, root = small
    data = cls().load(root)
    batches = 5 if cls is CIFAR10 else 1
    assert data.x_train.shape == (2 * batches, 3, 32, 32)
    assert data.x_train.dtype == torch.uint8
    assert data.x_train[1].flatten().tolist() == pixels_of(1).tolist()
    assert data.y_train.tolist() == [i % 10 for i in range(2 * batches)]
    assert data.y_test.tolist() == [2 * batches % 10, (2 * batches + 1) % 10]
    assert data.x_test.is_contiguous()
    assert data.classes == tuple(f"c{i}" for i in range(10))


def test_the_constants_and_the_augmentation_are_those_of_mosaics_code(small):
    cls, root = small
    data = cls().load(root)
    assert (data.mean, data.std) == CONSTANTS[cls]
    assert (data.augmentation.pad, data.augmentation.flip) == (4, True)


def test_a_damaged_batch_is_named_with_its_checksum(small):
    cls, root = small
    name = next(iter(cls.files))
    content = bytearray((root / name).read_bytes())
    content[500] ^= 1
    (root / name).write_bytes(content)
    found = hashlib.md5(content).hexdigest()
    with pytest.raises(DataError) as caught:
        cls().load(root)
    assert f"{root / name} is damaged: found MD5 {found}, expected " in str(
        caught.value
    )
    assert f"fedkd data prepare {cls.name} --data-root" in str(caught.value)


def test_damaged_class_names_are_found(small):
    cls, root = small
    name = list(cls.files)[-1]
    content = (root / name).read_bytes()
    (root / name).write_bytes(content[:-1] + b"!")
    with pytest.raises(DataError, match=r"meta is damaged: found MD5"):
        cls().load(root)


def test_a_truncated_batch_is_named_with_its_size(small):
    cls, root = small
    name = next(iter(cls.files))
    (root / name).write_bytes(b"short")
    with pytest.raises(DataError, match="is damaged: found 5 bytes, expected "):
        cls().load(root)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(
        DataError, match=r"cifar100: 3 of 3 files are not in .*\(155,249"
    ):
        CIFAR100().load(tmp_path)


@pytest.mark.parametrize("cls", [CIFAR10, CIFAR100])
def test_every_file_has_a_checksum(cls):
    assert set(cls().checksums()) == set(cls.files)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (
            {"data": np.zeros((2, 784), np.uint8)},
            r"no batch of CIFAR \(cannot reshape ",
        ),
        ({"data": np.zeros((3, 3072), np.uint8)}, "3 images and 2 labels, expected"),
        ({"data": None}, r"no batch of CIFAR \("),
        ({}, r"no batch of CIFAR \('data'\), expected rows of 3,072 bytes"),
    ],
)
def test_a_batch_of_wrong_shape_is_named(small, monkeypatch, content, problem):
    cls, root = small
    check_batch(monkeypatch, cls, root, {KEYS[cls][0]: [0, 1], **content}, problem)


def test_a_label_out_of_range_is_named(small, monkeypatch):
    cls, root = small
    content = {"data": np.zeros((2, 3072), np.uint8), KEYS[cls][0]: [0, 10]}
    problem = "the label 10, expected labels from 0 to 9"
    check_batch(monkeypatch, cls, root, content, problem)


def check_batch(monkeypatch, cls, root, content, problem):
    """Write one batch, let the class expect its bytes, and read."""
    name = list(cls.files)[-2]
    sums = {**cls().checksums(), name: write(root / name, content)}
    sizes = {**cls.files, name: (root / name).stat().st_size}
    monkeypatch.setattr(cls, "checksums", lambda self: sums)
    monkeypatch.setattr(cls, "files", sizes)
    with pytest.raises(DataError, match=f"{root / name} is damaged: found {problem}"):
        cls().load(root)


@pytest.mark.data
@pytest.mark.parametrize("cls", [CIFAR10, CIFAR100])
def test_real_files_have_the_published_counts_and_the_known_means(cls, data_folder):
    if not all((data_folder / name).is_file() for name in cls.files):
        pytest.skip(f"FEDKD_DATA holds no {cls.name}")
    data = cls().load(data_folder)
    means = [float(data.x_train[:, c].double().mean() / 255) for c in range(3)]
    assert means == pytest.approx(CONSTANTS[cls][0], abs=6e-5)
    assert data.y_train.bincount().tolist() == [50_000 // data.num_classes] * (
        data.num_classes
    )
    assert set(data.y_test.bincount().tolist()) == {10_000 // data.num_classes}
