"""The MNIST family: reading, padding, colour; sizes and checksums of its files."""

import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fedkd.config import build
from fedkd.datasets.fashion_mnist import FashionMNIST
from fedkd.datasets.mnist import MNIST, MnistConfig
from fedkd.errors import ConfigError, DataError

TRAIN, TEST = 6, 4


def idx(content):
    """Bytes of an IDX file: magic number, shape, values."""
    magic = 0x0800 + content.dim()
    header = struct.pack(f">I{content.dim()}I", magic, *content.shape)
    return header + content.to(torch.uint8).numpy().tobytes()


def image(number):
    return torch.arange(28 * 28).view(28, 28) % 200 + number


@pytest.fixture(params=[MNIST, FashionMNIST])
def small(request, tmp_path, monkeypatch):
    """A class whose files are small, and the folder where they are."""
    cls = request.param
    contents = []
    for number in (TRAIN, TEST):
        contents += [
            idx(torch.stack([image(i) for i in range(number)])),
            idx(torch.arange(number) % 10),
        ]
    for name, content in zip(cls.files, contents, strict=True):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    settle(monkeypatch, cls, tmp_path)
    return cls, tmp_path


def settle(monkeypatch, cls, root):
    """Let the class expect the files that are there."""
    found = {name: (root / name).read_bytes() for name in cls.files}
    sums = {name: hashlib.md5(content).hexdigest() for name, content in found.items()}
    monkeypatch.setattr(cls, "files", {n: len(content) for n, content in found.items()})
    monkeypatch.setattr(cls, "sums", sums)


def test_images_and_labels_are_those_of_the_files(small):
    cls, root = small
    data = cls().load(root)
    assert (data.x_train.shape, data.x_test.shape) == ((6, 1, 28, 28), (4, 1, 28, 28))
    assert data.x_train.dtype == torch.uint8
    assert torch.equal(data.x_train[5, 0], image(5).to(torch.uint8))
    assert data.y_train.tolist() == [0, 1, 2, 3, 4, 5]
    assert data.y_test.dtype == torch.int64


def test_resolution_32_stretches_as_pillow_does_to_one_grey_level(small):
    cls, root = small
    x = cls(MnistConfig(resolution=32)).load(root).x_train
    assert x.shape == (6, 1, 32, 32)
    picture = Image.fromarray(image(3).to(torch.uint8).numpy())
    expected = np.asarray(picture.resize((32, 32), Image.Resampling.BILINEAR))
    assert np.abs(x[3, 0].int().numpy() - expected.astype(int)).max() <= 1


def test_images_of_another_size_are_named_with_theirs(small):
    cls, root = small
    name = list(cls.files)[2]
    (root / name).write_bytes(idx(torch.zeros(4, 32, 30)))
    with pytest.raises(DataError) as caught:
        cls().load(root)
    expected = (
        f"{root / name} is damaged: found images of 32x30 pixels, expected 28x28."
    )
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"\0\0\x08\x03", b"a page of HTML, not of IDX"]
)
def test_a_file_that_is_no_idx_file_is_named(small, content):
    cls, root = small
    name = next(iter(cls.files))
    (root / name).write_bytes(content)
    with pytest.raises(
        DataError, match=r"images-idx3-ubyte is damaged: found \d+ bytes"
    ):
        cls().load(root)


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        (
            torch.tensor([0, 1, 2, 3, 4, 10]),
            "the label 10, expected labels from 0 to 9",
        ),
        (torch.tensor([0, 1, 2, 3, 4]), "5 labels, expected one for each of 6 images"),
    ],
)
def test_labels_must_be_classes_one_for_each_image(small, monkeypatch, labels, problem):
    cls, root = small
    name = list(cls.files)[1]
    (root / name).write_bytes(idx(labels))
    settle(monkeypatch, cls, root)  # else the checksum speaks first
    with pytest.raises(DataError) as caught:
        cls().load(root)
    assert f"{root / name} is damaged: found {problem}." in str(caught.value)


def test_a_changed_file_has_another_fingerprint(small):
    cls, root = small
    before = cls().fingerprint(root)
    name = next(iter(cls.files))
    (root / name).write_bytes((root / name).read_bytes() + b"x")
    assert cls().fingerprint(root) != before


def test_three_channels_repeat_the_grey_one(small):
    cls, root = small
    data = cls(MnistConfig(channels=3)).load(root)
    assert data.shape == (3, 28, 28)
    assert torch.equal(data.x_test[:, 0], data.x_test[:, 2])
    assert data.mean == (0.1307, 0.1307, 0.1307)


def test_the_constants_are_those_of_mosaics_code(small):
    cls, root = small
    data = cls().load(root)
    assert (data.mean, data.std) == ((0.1307,), (0.3081,))
    assert (data.augmentation.pad, data.augmentation.flip) == (0, False)


@pytest.mark.parametrize("options", [{"resolution": 64}, {"channels": 2}, {"size": 28}])
def test_other_options_are_refused(options):
    with pytest.raises(ConfigError, match=r"datasets\.mnist"):
        build(MnistConfig, options, "datasets.mnist")


def test_missing_files_are_named_with_their_sizes_and_the_command(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("FEDKD_DATA", "/elsewhere")
    with pytest.raises(DataError) as caught:
        MNIST().load(tmp_path)
    message = str(caught.value)
    assert message.startswith(
        f"mnist: 4 of 4 files are not in {tmp_path}: "
        "MNIST/raw/train-images-idx3-ubyte (47,040,016 bytes), "
    )
    assert f"Run 'fedkd data prepare mnist --data-root {tmp_path}'" in message
    assert "--data-root, else FEDKD_DATA (now /elsewhere), else " in message


def test_one_missing_file_is_named_alone(small):
    cls, root = small
    lost = root / list(cls.files)[1]
    lost.unlink()
    with pytest.raises(
        DataError, match=r"1 of 4 files are not in .*labels-idx1-ubyte \("
    ):
        cls().load(root)


def test_a_truncated_file_is_named_with_its_size(small):
    cls, root = small
    name = next(iter(cls.files))
    whole = (root / name).read_bytes()
    (root / name).write_bytes(whole[:1000])
    with pytest.raises(DataError) as caught:
        cls().load(root)
    assert f"{root / name} is damaged: found 1,000 bytes, expected 4,720." in str(
        caught.value
    )
    assert f"fedkd data prepare {cls.name} --data-root" in str(caught.value)


@pytest.mark.parametrize(("file", "at"), [(0, 0), (0, 4000), (1, 9), (2, 5), (3, 3)])
def test_a_file_with_a_changed_byte_is_named_with_its_checksum(small, file, at):
    # Bytes of a magic number, of a pixel, of a label, of a count, of a magic number.
    cls, root = small
    name = list(cls.files)[file]
    content = bytearray((root / name).read_bytes())
    content[at] ^= 0xFF
    (root / name).write_bytes(content)
    found = hashlib.md5(content).hexdigest()
    with pytest.raises(DataError) as caught:
        cls().load(root)
    assert f"{root / name} is damaged: found MD5 {found}, " in str(caught.value)
    assert f"expected {cls.sums[name]}." in str(caught.value)


def test_a_processed_copy_of_an_old_torchvision_is_not_read_instead(small):
    cls, root = small
    processed = root / Path(next(iter(cls.files))).parts[0] / "processed"
    processed.mkdir()
    wrong = (torch.zeros(1, 28, 28, dtype=torch.uint8), torch.zeros(1).long())
    for name in ("training.pt", "test.pt"):
        torch.save(wrong, processed / name)
    assert len(cls().load(root).x_train) == TRAIN


@pytest.mark.data
@pytest.mark.parametrize(
    ("cls", "mean", "std", "train", "test"),
    [
        (
            MNIST,
            0.1307,
            0.3081,
            [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
            [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
        ),
        (FashionMNIST, 0.2860, 0.3530, [6000] * 10, [1000] * 10),
    ],
)
def test_real_files_have_the_published_counts_mean_and_deviation(
    cls, mean, std, train, test, data_folder
):
    if not all((data_folder / name).is_file() for name in cls.files):
        pytest.skip(f"FEDKD_DATA holds no {cls.name}")
    data = cls().load(data_folder)
    pixels = data.x_train.double() / 255
    assert float(pixels.mean()) == pytest.approx(mean, abs=5e-5)
    assert float(pixels.std()) == pytest.approx(std, abs=5e-5)
    assert data.y_train.bincount().tolist() == train
    assert data.y_test.bincount().tolist() == test
