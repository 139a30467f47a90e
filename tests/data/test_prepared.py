"""Prepared files: same bits as the source, whole or not there, mapped and never harmed."""

import contextlib
import errno
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import published
import pytest
import torch
from safetensors.torch import load_file

from fedkd.data.dataset import DatasetConfig, FileDataset, Source, Split
from fedkd.data.images import Augmentation
from fedkd.data.prepared import store as prepared
from fedkd.data.prepared import write as prepared_write
from fedkd.data.prepared.files import folders_under, read_prepared
from fedkd.data.subsets import subset
from fedkd.errors import DataError
from fedkd.harness.builder import RunBuilder
from fedkd.plugins.options import resolve
from fedkd.plugins.registry import load_registry

REGISTRY = load_registry()
FACTS = ("name", "classes", "mean", "std", "augmentation")
TENSORS = ("x_train", "y_train", "x_test", "y_test")


class ToyConfig(DatasetConfig):
    """Options of the toy."""

    size: int = 4
    """Height and width."""


class Toy(FileDataset):
    """Images whose pixels are made from one file; counts what is read."""

    name = "toy"
    Config = ToyConfig
    files = {"toy.bin": 4}  # noqa: RUF012
    numbers = (1300, 520)

    def __init__(self, config=None):
        super().__init__(config)
        self.read = []
        self.broken_from = None

    def open(self, root):
        seed = list((root / "toy.bin").read_bytes())
        train, test = (self.half(seed, i, n) for i, n in enumerate(self.numbers))
        names = tuple(f"class {c}" for c in range(7))
        return Source(train, test, names, (0.1,) * 3, (0.3,) * 3, Augmentation(2, True))

    def fingerprint(self, root):
        try:
            return (root / "toy.bin").read_bytes().hex()
        except FileNotFoundError as error:
            raise DataError("toy: toy.bin is missing.") from error

    def half(self, seed, index, number):
        shape = (3, self.config.size, self.config.size)
        rng = np.random.default_rng([*seed, index])
        x = torch.from_numpy(rng.integers(0, 256, (number, *shape), np.uint8))

        def read(start, stop):
            self.read.append((index, start, stop))
            if self.broken_from is not None and stop > self.broken_from[index]:
                raise DataError("toy: image 600 is damaged.")
            return x[start:stop]

        return Split(torch.arange(number) % 7, shape, read)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "toy.bin").write_bytes(b"good")
    return tmp_path


def equal(a, b):
    same = all(torch.equal(getattr(a, name), getattr(b, name)) for name in TENSORS)
    return same and all(getattr(a, name) == getattr(b, name) for name in FACTS)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_prepared_images_equal_those_of_the_source_to_the_bit(root):
    assert equal(prepared.images(Toy(), root), Toy().load(root))


def test_a_prepared_set_is_not_read_again(root):
    prepared.images(Toy(), root)
    again = Toy()
    assert equal(prepared.images(again, root), Toy().load(root))
    assert again.read == []


def test_a_prepared_file_is_safetensors_with_the_facts_in_its_header(root):
    prepared.images(Toy(), root)
    (folder,) = folders_under(root, "toy")
    found = load_file(folder / "test.safetensors")
    source = Toy().load(root)
    assert torch.equal(found["images"], source.x_test)
    assert torch.equal(found["labels"], source.y_test)
    header = read_prepared(folder / "test.safetensors").header
    assert (header.name, header.split, header.number) == ("toy", "test", 520)
    assert header.shape == (3, 4, 4)
    assert header.options == {"size": 4}
    assert header.fingerprint == "1-676f6f64"
    assert header.sources == {"toy.bin": "755f85c2723bb39381c7379a604160d8"}
    assert sorted(contents(folder)) == [
        "lock", "sound.json", "test.safetensors", "train.safetensors",
    ]  # fmt: skip


def test_writing_to_mapped_images_leaves_the_file_as_it_was(root):
    found = prepared.images(Toy(), root)
    (folder,) = folders_under(root, "toy")
    before = contents(folder)
    found.x_train.fill_(7)
    found.y_train.fill_(1)
    assert contents(folder) == before
    assert equal(prepared.images(Toy(), root), Toy().load(root))


def test_options_of_subsets_share_prepared_files_and_others_do_not(root):
    prepared.images(Toy(ToyConfig(fraction=0.5, subset_seed=3)), root)
    prepared.images(Toy(ToyConfig(per_class=2, test_fraction=0.1)), root)
    assert len(list(folders_under(root, "toy"))) == 1
    assert prepared.images(Toy(ToyConfig(size=5)), root).shape == (3, 5, 5)
    assert len(list(folders_under(root, "toy"))) == 2


def test_changed_source_files_are_prepared_again(root):
    before = prepared.images(Toy(), root)
    (root / "toy.bin").write_bytes(b"newer")
    after = prepared.images(Toy(), root)
    assert equal(after, Toy().load(root))
    assert not torch.equal(after.x_train, before.x_train)


def test_another_version_of_the_reader_prepares_again(root, monkeypatch):
    prepared.images(Toy(), root)
    monkeypatch.setattr(Toy, "preparation", 2)
    again = Toy()
    prepared.images(again, root)
    assert again.read


def test_prepared_files_are_used_when_the_source_files_are_gone(root):
    expected = Toy().load(root)
    prepared.images(Toy(), root)
    (root / "toy.bin").unlink()
    assert equal(prepared.images(Toy(), root), expected)


def test_missing_files_are_said_and_no_folder_is_made(tmp_path):
    with pytest.raises(DataError, match=r"toy\.bin is missing"):
        prepared.images(Toy(), tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("half", [0, 1])
def test_damaged_source_files_leave_what_was_prepared_untouched(root, half):
    prepared.images(Toy(), root)
    (folder,) = folders_under(root, "toy")
    before = {name: path for name, path in contents(folder).items() if "safe" in name}
    (root / "toy.bin").write_bytes(b"newer")
    bad = Toy()
    bad.broken_from = {half: 512, 1 - half: 9999}
    with pytest.raises(DataError, match="toy: image 600 is damaged"):
        prepared.images(bad, root)
    assert before.items() <= contents(folder).items()
    (root / "toy.bin").write_bytes(b"good")
    again = Toy()
    prepared.images(again, root)
    assert again.read == []


def test_what_was_interrupted_goes_on_where_it_stopped(root):
    def interrupt(split, done, number):
        if done >= 1024:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepared.prepare(Toy(), root, interrupt)
    (folder,) = folders_under(root, "toy")
    assert not list(folder.glob("*.safetensors"))
    again = Toy()
    assert equal(prepared.images(again, root), Toy().load(root))
    assert again.read == [(0, 1024, 1300), (1, 0, 512), (1, 512, 520)]


@pytest.mark.parametrize("damage", ["journal", "file", "cut", "line"])
def test_a_piece_that_is_not_as_the_journal_says_is_read_again(root, damage):
    def interrupt(split, done, number):
        if done >= 1024:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepared.prepare(Toy(), root, interrupt)
    (folder,) = folders_under(root, "toy")
    part, journal = folder / "train.part", folder / "train.journal"
    if damage == "file":
        content = bytearray(part.read_bytes())
        content[-1] ^= 1
        part.write_bytes(content)
    elif damage == "cut":
        os.truncate(part, part.stat().st_size - 1)
    elif damage == "journal":
        journal.write_text(journal.read_text() + "nonsense\n")
    else:
        journal.write_text(journal.read_text()[:-1])
    again = Toy()
    assert equal(prepared.images(again, root), Toy().load(root))
    first = 1024 if damage == "journal" else 512
    assert again.read[0][1] == first


def test_the_journal_of_other_source_files_is_thrown_away(root):
    def interrupt(split, done, number):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepared.prepare(Toy(), root, interrupt)
    (root / "toy.bin").write_bytes(b"newer")
    again = Toy()
    assert equal(prepared.images(again, root), Toy().load(root))
    assert sorted(again.read)[0] == (0, 0, 512)


def test_a_process_that_is_killed_leaves_nothing_under_the_final_name(root):
    published.write_food101(root, train=30, test=10, classes=published.DISHES[:5])
    code = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from fedkd.data.prepared import store as prepared\n"
        "from fedkd.data.prepared import write as prepared_write\n"
        "from fedkd.plugins.registry import load_registry\n"
        "prepared_write.PIECE = 8\n"
        "reader, _ = load_registry().dataset('food101', {'partial': True})\n"
        "def show(split, done, number):\n"
        "    print(split, done, flush=True)\n"
        "    time.sleep(0.05)\n"
        "prepared.prepare(reader, Path(sys.argv[1]), show)\n"
    )
    command = [sys.executable, "-c", code, str(root)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.split() == ["train", "48"]:
                process.send_signal(signal.SIGKILL)
                break
        process.wait()
    (folder,) = folders_under(root, "food101")
    assert not list(folder.glob("*.safetensors"))
    assert (folder / "train.journal").read_text().splitlines()[5].startswith("48 ")
    reader, _ = REGISTRY.dataset("food101", {"partial": True})
    seen = []
    prepared.prepare(reader, root, lambda *args: seen.append(args))
    assert seen[0][0] == "train"
    assert seen[0][1] >= 48
    assert equal(prepared.images(reader, root), reader.load(root))


def test_a_second_process_waits_and_uses_what_the_first_prepared(root):
    folder = prepared.folder_of_set(Toy(), root)
    folder.mkdir(parents=True)
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from fedkd.base.locks import locked\n"
        "with locked(Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.readline()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(folder / "lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with other:
        assert other.stdout.readline() == "held\n"
        done = []
        mine = Toy()
        thread = threading.Thread(
            target=lambda: done.append(prepared.images(mine, root))
        )
        thread.start()
        time.sleep(0.3)
        assert not done
        assert mine.read == []
        other.stdin.write("\n")
        other.stdin.flush()
        thread.join(120)
    assert equal(done[0], Toy().load(root))


def test_what_another_process_wrote_meanwhile_is_not_written_again(root, monkeypatch):
    mine = Toy()
    real = prepared.locked

    def late(path):
        monkeypatch.setattr(prepared, "locked", real)
        prepared.prepare(Toy(), root)
        return real(path)

    monkeypatch.setattr(prepared, "locked", late)
    prepared.prepare(mine, root)
    assert mine.read == []


def test_who_waited_prepares_what_another_process_gave_up(root, monkeypatch):
    real, waited = prepared.locked, []

    @contextlib.contextmanager
    def given_up(path):
        if not waited:  # the other process removed its folder meanwhile
            waited.append(path)
            path.parent.rmdir()
        with real(path):
            yield

    monkeypatch.setattr(prepared, "locked", given_up)
    prepared.prepare(Toy(), root)
    assert waited
    assert equal(prepared.images(Toy(), root), Toy().load(root))


def test_a_folder_that_cannot_be_written_to_is_one_sentence(root):
    (root / "prepared").write_text("a file where a folder should be")
    with pytest.raises(prepared.UnwritableError) as caught:
        prepared.prepare(Toy(), root)
    message = str(caught.value)
    assert message.startswith("toy: its prepared images could not be written: ")
    assert message.endswith("choose a folder that you may write to with --data-root.")
    assert "\n" not in message


def test_a_run_reads_into_memory_where_nothing_can_be_written(root):
    (root / "prepared").write_text("a file where a folder should be")
    with pytest.warns(RuntimeWarning, match="could not be written"):
        found = prepared.images(Toy(), root)
    assert equal(found, Toy().load(root))


def test_a_full_disk_is_one_sentence_and_what_is_done_is_kept(root, monkeypatch):
    def full(self):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "train.part")

    with monkeypatch.context() as patch:
        patch.setattr(prepared_write.HalfWritten, "seal", full)
        with pytest.raises(prepared.UnwritableError) as caught:
            prepared.prepare(Toy(), root)
    assert str(caught.value) == (
        "toy: its prepared images could not be written: train.part: No space left on "
        "device; free some space, or choose a folder that you may write to with "
        "--data-root; it goes on where it stopped."
    )
    again = Toy()
    assert equal(prepared.images(again, root), Toy().load(root))
    assert again.read == []


def test_a_reader_that_cannot_read_is_not_taken_for_a_full_disk(root):
    def fail(start, stop):
        raise OSError(errno.EIO, "Input/output error", "toy.bin")

    class Unreadable(Toy):
        def half(self, *args):
            return replace(super().half(*args), read=fail)

    with pytest.raises(DataError, match="could not be read") as caught:
        prepared.images(Unreadable(), root)
    assert not isinstance(caught.value, prepared.UnwritableError)


@pytest.mark.parametrize("damage", ["cut", "longer", "header", "foreign", "version"])
def test_a_prepared_file_that_is_not_whole_is_prepared_again(root, damage):
    prepared.images(Toy(), root)
    (folder,) = folders_under(root, "toy")
    path = folder / "train.safetensors"
    content = path.read_bytes()
    changed = {
        "cut": content[:-1],
        "longer": content + b"x",
        "header": content[:100],
        "foreign": struct.pack("<Q", 2) + json.dumps({}).encode(),
        "version": content.replace(b'"version": "1"', b'"version": "0"'),
    }
    path.write_bytes(changed[damage])
    assert read_prepared(path) is None
    assert equal(prepared.images(Toy(), root), Toy().load(root))
    assert path.read_bytes() == content


def test_halves_of_different_source_files_do_not_go_together(root):
    prepared.images(Toy(), root)
    (folder,) = folders_under(root, "toy")
    old = (folder / "test.safetensors").read_bytes()
    (root / "toy.bin").write_bytes(b"newer")
    prepared.images(Toy(), root)
    (folder / "test.safetensors").write_bytes(old)
    (root / "toy.bin").unlink()
    with pytest.raises(DataError, match=r"toy\.bin is missing"):
        prepared.images(Toy(), root)


def test_a_checksum_finds_a_single_wrong_bit(root):
    train, _ = prepared.prepare(Toy(), root)
    prepared.require_sound(train)
    content = bytearray(train.path.read_bytes())
    content[-500] ^= 4
    train.path.write_bytes(content)
    with pytest.raises(
        DataError, match=r"train\.safetensors is damaged: found SHA-256"
    ):
        prepared.require_sound(train)
    prepared.discard_damaged(Toy(), root)
    assert equal(prepared.images(Toy(), root), Toy().load(root))


def test_a_wrong_bit_since_a_set_was_used_is_said_and_prepared_again(root):
    prepared.images(Toy(), root)
    train, _ = prepared.prepare(Toy(), root)
    content = bytearray(train.path.read_bytes())
    content[-500] ^= 4
    train.path.write_bytes(content)
    with pytest.warns(RuntimeWarning, match="is damaged.* It is prepared again now"):
        assert equal(prepared.images(Toy(), root), Toy().load(root))
    train.path.write_bytes(content)
    (root / "toy.bin").unlink()
    with pytest.raises(DataError, match=r"train\.safetensors is damaged"):
        prepared.images(Toy(), root)


def test_no_more_than_a_few_pieces_are_read_ahead(root, monkeypatch):
    monkeypatch.setattr(prepared_write, "PIECE", 10)
    toy = Toy()
    most = []
    prepared.prepare(toy, root, lambda s, d, n: most.append(len(toy.read) - d / 10))
    threads = min(prepared_write.THREADS, os.cpu_count() or 1)
    assert max(most[:100]) <= threads + 2


def test_opening_takes_no_time_however_large_the_set(tmp_path):
    (tmp_path / "toy.bin").write_bytes(b"good")

    class Large(Toy):
        numbers = (400, 8)

    large = Large(ToyConfig(size=256))
    prepared.prepare(large, tmp_path)
    started = time.process_time()
    found = prepared.images(large, tmp_path)
    assert time.process_time() - started < 0.2
    assert found.x_train.shape == (400, 3, 256, 256)


GENERATED = {
    "svhn": (published.write_svhn, {"partial": True}),
    "food101": (published.write_food101, {"partial": True, "resolution": 64}),
    "tiny-imagenet": (published.write_tiny_imagenet, {"partial": True}),
}


@pytest.mark.parametrize("name", GENERATED)
def test_sets_in_the_published_formats_are_prepared_bit_for_bit(name, tmp_path):
    write, options = GENERATED[name]
    write(tmp_path)
    reader, _ = REGISTRY.dataset(name, options)
    assert equal(prepared.images(reader, tmp_path), reader.load(tmp_path))


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mnist", {"resolution": 32, "channels": 3}),
        pytest.param("fashion-mnist", {}, marks=pytest.mark.thorough),
        ("cifar10", {}),
        pytest.param("cifar100", {}, marks=pytest.mark.thorough),
        ("tiny-imagenet", {"partial": True, "resolution": 64}),
    ],
)
def test_real_sets_are_prepared_bit_for_bit(name, options, data_folder, tmp_path):
    for place in data_folder.iterdir():
        if place.name != "prepared":
            (tmp_path / place.name).symlink_to(place)
    reader, _ = REGISTRY.dataset(name, options)
    expected = reader.load(tmp_path)
    assert equal(prepared.images(reader, tmp_path), expected)
    started = time.process_time()
    found = prepared.images(reader, tmp_path)
    assert time.process_time() - started < 0.2
    assert equal(found, expected)
    assert [p.name for p in Path(tmp_path / "prepared").iterdir()] == [
        prepared.folder_of_set(reader, tmp_path).name
    ]


@pytest.mark.parametrize("options", [{}, {"per_class": 2, "test_fraction": 0.5}])
def test_a_run_prepares_a_set_at_its_first_use_and_takes_its_subset(options, tmp_path):
    published.write_food101(tmp_path, train=4, test=2, classes=published.DISHES[:3])
    plain = {"name": "food101", "options": {"partial": True, **options}}
    reader, _ = REGISTRY.dataset(**plain)
    expected = subset(reader.load(tmp_path), reader.config)
    world = RunBuilder(REGISTRY, tmp_path, torch.device("cpu"))
    thing = resolve(REGISTRY, "datasets", **plain, where="a test")
    assert equal(world.data(thing), expected)
    assert len(expected.x_train) == (6 if options else 12)
    assert len(list(folders_under(tmp_path, "food101"))) == 1


def test_a_run_takes_the_subset_of_a_set_without_files_too(tmp_path):
    digits = resolve(REGISTRY, "datasets", "digits", {"per_class": 3}, "a test")
    world = RunBuilder(REGISTRY, tmp_path, torch.device("cpu"))
    data = world.data(digits)
    assert torch.bincount(data.y_train).tolist() == [3] * 10
    assert not list(tmp_path.iterdir())
