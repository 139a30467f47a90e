"""The MNIST family: reading, padding, colour; sizes and checksums of its files."""

import hashlib
import os
import struct
from pathlib import Path

import pytest
import torch

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


def test_resolution_32_adds_two_black_pixels_on_each_side(small):
    cls, root = small
    x = cls(MnistConfig(resolution=32)).load(root).x_train
    assert x.shape == (6, 1, 32, 32)
    assert torch.equal(x[3, 0, 2:30, 2:30], image(3).to(torch.uint8))
    assert int(x[3].sum()) == int(image(3).sum())


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
    assert "--data-root, then FEDKD_DATA (now /elsewhere), then " in message


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
    ("cls", "mean", "std"), [(MNIST, 0.1307, 0.3081), (FashionMNIST, 0.2860, 0.3530)]
)
def test_real_files_have_the_known_mean_and_deviation(cls, mean, std):
    root = Path(os.environ.get("FEDKD_DATA", ""))
    if not all((root / name).is_file() for name in cls.files):
        pytest.skip(f"FEDKD_DATA holds no {cls.name}")
    data = cls().load(root)
    pixels = data.x_train.double() / 255
    assert float(pixels.mean()) == pytest.approx(mean, abs=5e-5)
    assert float(pixels.std()) == pytest.approx(std, abs=5e-5)
    assert (len(data.x_train), len(data.x_test)) == (60_000, 10_000)
