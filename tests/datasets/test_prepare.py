"""Fetching files: what is downloaded, what is kept, what to do when it fails."""

import hashlib
import os
import socket
import tarfile
from urllib.error import URLError

import pytest

from fedkd.datasets.cifar10 import CIFAR10
from fedkd.datasets.mnist import MNIST
from fedkd.datasets.published_files import TIMEOUT, md5, set_aside, stamp
from fedkd.datasets.torchvision_files import TorchvisionSet
from fedkd.errors import DataError

GOOD = b"good content"


class Tiny(TorchvisionSet):
    """A set of one file."""

    name = "tiny"
    files = {"raw/one": len(GOOD)}  # noqa: RUF012
    delivered = GOOD
    calls = 0

    def checksums(self):
        return {"raw/one": hashlib.md5(GOOD).hexdigest()}

    def read(self, root):
        raise NotImplementedError

    def fetch(self, root):
        self.calls += 1
        self.timeout = socket.getdefaulttimeout()
        (root / "raw").mkdir(parents=True, exist_ok=True)
        (root / "raw/one").write_bytes(self.delivered)

    def by_hand(self, root):
        return f"get one from somewhere and put it into {root}/raw."


@pytest.fixture
def tiny():
    return Tiny()


def test_missing_files_are_downloaded_into_the_data_root(tiny, tmp_path):
    tiny.prepare(tmp_path / "new")
    assert (tmp_path / "new/raw/one").read_bytes() == GOOD


def test_sound_files_are_left_alone(tiny, tmp_path):
    tiny.prepare(tmp_path)
    tiny.prepare(tmp_path)
    assert tiny.calls == 1


def test_a_damaged_file_is_fetched_again_and_kept_aside(tiny, tmp_path):
    tiny.prepare(tmp_path)
    (tmp_path / "raw/one").write_bytes(b"bad  content")
    tiny.prepare(tmp_path)
    assert (tmp_path / "raw/one").read_bytes() == GOOD
    assert (tmp_path / "raw/one.damaged").read_bytes() == b"bad  content"


def test_a_second_damaged_file_does_not_replace_the_first(tmp_path):
    for content in ("one", "two", "three"):
        (tmp_path / "x").write_text(content)
        set_aside(tmp_path / "x")
    kept = [tmp_path / name for name in ("x.damaged", "x.damaged-2", "x.damaged-3")]
    assert [path.read_text() for path in kept] == ["one", "two", "three"]


def test_a_stamp_changes_with_size_time_and_files_in_a_folder(tmp_path):
    (tmp_path / "folder").mkdir()
    file = tmp_path / "file"
    paths = [file, tmp_path / "folder"]
    found = set()
    for content, second in (("a", 1), ("ab", 1), ("ab", 2)):
        file.write_text(content)
        os.utime(file, (second, second))
        os.utime(tmp_path / "folder", (1, 1))
        found.add(stamp(tmp_path, paths))
    (tmp_path / "folder" / "new").touch()
    found.add(stamp(tmp_path, paths))
    assert len(found) == 4


def test_a_server_that_does_not_answer_is_not_waited_for_for_ever(tiny, tmp_path):
    tiny.prepare(tmp_path)
    assert tiny.timeout == TIMEOUT
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize(
    "error",
    [
        URLError("no route\nto host"),
        RuntimeError("File not found or corrupted."),
        EOFError(),
        tarfile.ReadError("not a gzip file"),
        TimeoutError("timed out"),
    ],
)
def test_a_failed_download_says_what_to_do_by_hand(tiny, tmp_path, error):
    def fail(root):
        raise error

    tiny.fetch = fail
    with pytest.raises(DataError) as caught:
        tiny.prepare(tmp_path)
    message = str(caught.value)
    assert message.startswith("tiny could not be downloaded: ")
    assert f"By hand: get one from somewhere and put it into {tmp_path}/raw." in message
    assert f"Then run 'fedkd data check tiny --data-root {tmp_path}'." in message
    assert "\n" not in message
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize("delivered", [b"a page of HTML", b"evil content"])
def test_what_was_downloaded_is_checked(tiny, tmp_path, delivered):
    tiny.delivered = delivered
    for _ in range(2):
        with pytest.raises(DataError, match=r"loaded: raw/one came with MD5 .*, exp"):
            tiny.prepare(tmp_path)
        assert not (tmp_path / "raw").exists()


def test_the_command_in_a_message_can_be_pasted(tiny, tmp_path):
    with pytest.raises(DataError) as caught:
        tiny.load(tmp_path / "my data")
    assert f"--data-root '{tmp_path}/my data''" in str(caught.value)


def test_mnist_by_hand_names_the_archives_and_the_folder(tmp_path):
    text = MNIST().by_hand(tmp_path)
    assert text.startswith(
        "get train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, "
    )
    assert text.endswith(f"and unpack them into {tmp_path}/MNIST/raw.")


def test_cifar_by_hand_names_the_archive_and_its_checksum(tmp_path):
    assert CIFAR10().by_hand(tmp_path) == (
        "get https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz "
        f"(MD5 c58f30108f718f92721af3b95e74349a) and unpack it into {tmp_path}."
    )


def test_torchvision_is_asked_to_download_into_the_data_root(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        MNIST,
        "reader",
        lambda self: lambda root, download: asked.append((root, download)),
    )
    MNIST().fetch(tmp_path)
    assert asked == [(tmp_path, True)]


def test_the_checksum_of_a_long_file_covers_all_of_it(tmp_path):
    path = tmp_path / "long"
    content = b"x" * (1 << 20) + b"y"
    path.write_bytes(content)
    assert md5(path) == hashlib.md5(content).hexdigest()
