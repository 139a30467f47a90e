"""Downloads by torchvision's own readers, interrupted and at once; from files here."""

import gzip
import hashlib
import multiprocessing
import shutil
import sys
import tarfile
import time
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import published
import pytest
import test_cifar
import test_mnist
from torchvision import datasets as readers
from torchvision.datasets import utils

from fedkd.datasets import svhn
from fedkd.datasets.mnist import MNIST
from fedkd.datasets.published_files import md5
from fedkd.datasets.svhn import SVHN
from fedkd.datasets.torchvision_files import TorchvisionSet
from fedkd.errors import DataError

small_mnist = test_mnist.small
small_cifar = test_cifar.small
PUT = {"one": b"first", "two": b"second"}


@pytest.fixture(autouse=True)
def network(monkeypatch):
    """Addresses are those of files here."""

    def copy(url, place):
        shutil.copyfile(url2pathname(urlsplit(url).path), place)

    monkeypatch.setattr(utils, "_urlretrieve", copy)
    monkeypatch.setattr(utils, "_get_redirect_url", lambda url, max_hops: url)


def urls_fail_after(monkeypatch, number):
    """Have the network break after so many files, in the middle of the next one."""
    whole = utils._urlretrieve
    fetched = []

    def broken(url, place):
        if len(fetched) >= number:
            Path(place).write_bytes(b"half a f")  # in its place, as torchvision does
            raise KeyboardInterrupt
        fetched.append(url)
        whole(url, place)

    monkeypatch.setattr(utils, "_urlretrieve", broken)
    return fetched


@pytest.fixture
def served_svhn(tmp_path, monkeypatch):
    """A folder that SVHN's addresses lead to; two small files, held to their MD5."""
    served = tmp_path / "served"
    published.write_svhn(served, train=40, test=20)
    monkeypatch.setattr(svhn, "COUNTS", {"train": 40, "test": 20})
    sizes = {name: (served / name).stat().st_size for name in SVHN.files}
    monkeypatch.setattr(SVHN, "files", sizes)
    list_of = {
        half: [(served / name).as_uri(), name, md5(served / name)]
        for half, name in zip(("train", "test"), sizes, strict=True)
    }
    monkeypatch.setattr(readers.SVHN, "split_list", list_of)
    return served


def test_svhn_is_fetched_by_torchvision(served_svhn, tmp_path):
    root = tmp_path / "new"
    SVHN().prepare(root)
    names = sorted(path.name for path in root.iterdir())
    assert names == ["svhn.lock", "test_32x32.mat", "train_32x32.mat"]
    assert len(SVHN().load(root).x_train) == 40


def test_an_interrupted_download_leaves_no_half_file_under_its_name(
    served_svhn, tmp_path, monkeypatch
):
    root = tmp_path / "new"
    for whole in (1, 0, 0):
        with monkeypatch.context() as patch:
            urls_fail_after(patch, whole)
            with pytest.raises(KeyboardInterrupt):
                SVHN().prepare(root)
        assert sorted(path.name for path in root.iterdir()) == [
            "svhn.lock",
            "svhn.part",
        ]
    fetched = urls_fail_after(monkeypatch, 1)  # the training images are there already
    SVHN().prepare(root)
    assert len(fetched) == 1
    assert not list(root.rglob("*.damaged*"))
    assert len(SVHN().load(root).x_test) == 20


def test_a_sound_file_beside_a_damaged_one_is_not_fetched_again(
    served_svhn, tmp_path, monkeypatch
):
    root = tmp_path / "new"
    SVHN().prepare(root)
    before = (root / "train_32x32.mat").stat().st_ino
    (root / "test_32x32.mat").write_bytes(b"short")
    for _ in range(2):
        with monkeypatch.context() as patch:
            urls_fail_after(patch, 0)
            with pytest.raises(KeyboardInterrupt):
                SVHN().prepare(root)
        assert (root / "test_32x32.mat").read_bytes() == b"short"
    fetched = urls_fail_after(monkeypatch, 1)
    SVHN().prepare(root)
    assert [url.rpartition("/")[2] for url in fetched] == ["test_32x32.mat"]
    assert (root / "train_32x32.mat").stat().st_ino == before
    assert sorted(path.name for path in root.iterdir()) == [
        "svhn.lock",
        "test_32x32.mat",
        "test_32x32.mat.damaged",
        "train_32x32.mat",
    ]


@pytest.fixture
def served_mnist(small_mnist, tmp_path, monkeypatch):
    """A class of the family, and an empty data root; its archives are at its mirror."""
    cls, root = small_mnist
    served, new = tmp_path / "served", tmp_path / "new"
    served.mkdir()
    resources = []
    for name in cls.files:
        archive = served / f"{name.rpartition('/')[2]}.gz"
        archive.write_bytes(gzip.compress((root / name).read_bytes()))
        resources.append((archive.name, md5(archive)))
    reader = getattr(readers, cls.__name__)
    monkeypatch.setattr(reader, "resources", resources)
    monkeypatch.setattr(reader, "mirrors", [served.as_uri() + "/"])
    return cls, new


def test_a_file_that_was_half_unpacked_is_unpacked_again(served_mnist):
    cls, root = served_mnist
    part = root / f"{cls.name}.part"
    for name in cls.files:  # torchvision asks only whether they are there
        (part / name).parent.mkdir(parents=True, exist_ok=True)
        (part / name).write_bytes(b"half")
    cls().prepare(root)
    assert len(cls().load(root).x_train) == test_mnist.TRAIN
    assert not part.exists()


def test_archives_that_are_at_hand_are_not_fetched_again(served_mnist, monkeypatch):
    cls, root = served_mnist
    cls().prepare(root)
    for name in cls.files:
        (root / name).unlink()
    fetched = urls_fail_after(monkeypatch, 0)
    cls().prepare(root)
    assert fetched == []
    assert len(cls().load(root).x_test) == test_mnist.TEST


def test_cifar_is_fetched_and_unpacked(small_cifar, tmp_path, monkeypatch):
    cls, root = small_cifar
    reader = cls().reader()
    archive = tmp_path / "served.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(root / reader.base_folder, reader.base_folder)
    monkeypatch.setattr(reader, "url", archive.as_uri(), raising=False)
    monkeypatch.setattr(reader, "tgz_md5", md5(archive), raising=False)
    new = tmp_path / "new"
    with monkeypatch.context() as patch:
        urls_fail_after(patch, 0)
        with pytest.raises(KeyboardInterrupt):
            cls().prepare(new)
    cls().prepare(new)
    names = sorted(path.name for path in new.iterdir())
    assert names == sorted([reader.base_folder, reader.filename, f"{cls.name}.lock"])
    assert len(cls().load(new).x_train) > 0


class Slow(TorchvisionSet):
    """Two files, and a log of who fetches them."""

    name = "slow"
    files = {name: len(content) for name, content in PUT.items()}  # noqa: RUF012

    def checksums(self):
        return {name: hashlib.md5(content).hexdigest() for name, content in PUT.items()}

    def read(self, root):
        raise NotImplementedError

    def fetch(self, root):
        with (root.parent / "log").open("a") as log:
            log.write("begin\n")
        for name, content in PUT.items():
            (root / name).write_bytes(content)
            time.sleep(0.2)
        with (root.parent / "log").open("a") as log:
            log.write("end\n")

    def by_hand(self, root):
        return "nothing."


@pytest.mark.skipif(sys.platform != "linux", reason="needs processes that are forked")
def test_two_processes_fetch_one_after_the_other(tmp_path):
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=Slow().prepare, args=(tmp_path,)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, 0]
    # The second one finds the files of the first.
    assert (tmp_path / "log").read_text().split() == ["begin", "end"]
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["log", "one", "slow.lock", "two"]


def test_a_data_root_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="mnist could not be downloaded: "):
        MNIST().prepare(tmp_path / "file" / "root")
