"""Prepared files after edits, kills, damage and races: never the wrong images."""

import json
import os
import struct
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fedkd.commands.data.records import checked, presence
from fedkd.data.dataset import Dataset, FileDataset, Source, in_memory
from fedkd.data.prepared import store as prepared
from fedkd.data.prepared import write as prepared_write
from fedkd.data.prepared.files import folders_under, read_prepared
from fedkd.errors import DataError
from fedkd.harness.builder import RunBuilder
from fedkd.plugins.options import Resolved, resolve
from fedkd.plugins.registry import load_registry
from fedkd.testing import toy_images

REGISTRY = load_registry()


class Toy(FileDataset):
    """Images whose pixels are all the first byte of one file; counts what is read."""

    name = "toy"
    numbers = (1300, 520)

    def __init__(self):
        super().__init__()
        self.read = []

    def open(self, root):
        value = (root / "toy.bin").read_bytes()[0]
        train, test = (self.half(value, index) for index in range(2))
        return Source(train, test, (chr(value), "b", "c"), (0.1,), (0.3,))

    def fingerprint(self, root):
        try:
            return (root / "toy.bin").read_bytes().hex()
        except FileNotFoundError as error:
            raise DataError("toy: toy.bin is missing.") from error

    def half(self, value, index):
        number = self.numbers[index]
        x = torch.full((number, 1, 4, 4), value, dtype=torch.uint8)

        def read(start, stop):
            self.read.append((index, start, stop))
            return x[start:stop]

        half = in_memory(x, torch.arange(number) % 3)
        return type(half)(half.labels, half.shape, read)


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "root"
    folder.mkdir()
    (folder / "toy.bin").write_bytes(b"a")
    return folder


def world_of(root, registry=REGISTRY):
    return RunBuilder(registry, root, torch.device("cpu"))


def save(path, value):
    """Write own images, all but one ``value``; size and time are always the same."""
    x = np.full((6, 4, 4), value, np.uint8)
    x[0] = 0
    y = np.arange(6) % 2
    np.savez(path, x_train=x, y_train=y, x_test=x, y_test=y)
    os.utime(path, (1e9, 1e9))


def set_of(path):
    """Return the data set of a run on own images as they are now."""
    return resolve(REGISTRY, "datasets", f"folder:{path}", {}, "a test")


def interrupted(root, at=1024):
    """Prepare a toy and stop after so many images; return the folder."""

    def interrupt(split, done, number):
        if done >= at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepared.prepare(Toy(), root, interrupt)
    (folder,) = folders_under(root, "toy")
    return folder


def test_own_images_that_kept_size_and_time_are_prepared_again(root, tmp_path):
    path = tmp_path / "own.npz"
    save(path, 10)
    assert world_of(root).data(set_of(path)).x_train.max() == 10
    save(path, 20)
    assert world_of(root).data(set_of(path)).x_train.max() == 20
    assert len(list(folders_under(root, "folder"))) == 1


def test_the_header_holds_the_content_of_own_images_only(root, tmp_path):
    save(tmp_path / "own.npz", 10)
    images = set_of(tmp_path / "own.npz")
    world_of(root).data(images)
    (folder,) = folders_under(root, "folder")
    header = read_prepared(folder / "test.safetensors").header
    assert header.content == images.content != ""
    assert prepared.prepare(Toy(), root)[0].header.content == ""


def test_own_images_edited_since_a_run_was_set_up_stop_it(root, tmp_path):
    path = tmp_path / "own.npz"
    save(path, 10)
    images = set_of(path)
    world_of(root).data(images)
    (folder,) = folders_under(root, "folder")
    before = (folder / "train.safetensors").read_bytes()
    save(path, 20)
    os.utime(path, (2e9, 2e9))
    with pytest.raises(DataError, match="changed since the run was set up"):
        world_of(root).data(images)
    assert (folder / "train.safetensors").read_bytes() == before


def test_own_images_edited_since_stop_a_run_that_prepared_none(root, tmp_path):
    path = tmp_path / "own.npz"
    save(path, 10)
    images = set_of(path)
    save(path, 20)
    with pytest.raises(DataError, match="changed since the run was set up"):
        world_of(root).data(images)


def test_own_images_that_appear_after_a_run_was_set_up_stop_it(root, tmp_path):
    images = set_of(tmp_path / "own.npz")
    assert images.content == ""
    save(tmp_path / "own.npz", 10)
    with pytest.raises(DataError, match=r"expected none\. Start the run again"):
        world_of(root).data(images)


def test_edited_images_stop_a_run_in_memory_too(root, tmp_path):
    (root / "prepared").write_text("a file where a folder should be")
    path = tmp_path / "own.npz"
    save(path, 10)
    images = set_of(path)
    world = world_of(root)
    assert world.data(images).x_train.max() == 10
    assert "could not be written" in "".join(world.notes[images])
    save(path, 20)
    world = world_of(root)
    with pytest.raises(DataError, match="changed since the run was set up"):
        world.data(images)
    assert "could not be written" in "".join(world.notes[images])


def test_the_content_of_a_plain_data_set_is_held_against_that_of_the_run(root):
    class Own(Dataset):
        def load(self, root):
            return toy_images()

        def content(self):
            return "new"

    registry = SimpleNamespace(
        resolve=lambda kind, name: Own,
        constructed=lambda kind, name, cls, config: cls(config),
    )
    with pytest.raises(DataError, match=r"own: its files changed .* content new,"):
        world_of(root, registry).data(Resolved("own", {}, {}, "old"))
    world_of(root, registry).data(Resolved("own", {}, {}, "new"))


def test_preparing_by_command_looks_at_the_bytes_of_own_images(root, tmp_path):
    from fedkd.commands.data.records import fetched

    path = tmp_path / "own.npz"
    for value in (10, 20):
        save(path, value)
        fetched(REGISTRY, root, f"folder:{path}", {}, lambda *_: None)
    (folder,) = folders_under(root, "folder")
    assert (folder / "train.safetensors").read_bytes()[-1] == 20
    save(path, 30)
    found = checked(REGISTRY, root, f"folder:{path}", {}, named=True)
    assert found["prepared"][0]["status"] == "outdated"


def test_files_that_change_while_they_are_read_are_not_prepared(root):
    def edit(split, done, number):
        (root / "toy.bin").write_bytes(b"z")

    with pytest.raises(DataError, match="changed while they were prepared"):
        prepared.prepare(Toy(), root, edit)
    assert prepared.images(Toy(), root).x_test.unique().tolist() == [ord("z")]


def test_files_of_an_older_reader_are_not_used_without_their_sources(root, monkeypatch):
    prepared.images(Toy(), root)
    (root / "toy.bin").unlink()
    prepared.images(Toy(), root)
    monkeypatch.setattr(Toy, "preparation", 2)
    with pytest.raises(DataError, match=r"toy\.bin is missing"):
        prepared.images(Toy(), root)


def test_one_relative_path_in_two_projects_is_two_sets(root, tmp_path, monkeypatch):
    for value, name in ((10, "a"), (20, "b")):
        project = tmp_path / name
        project.mkdir()
        save(project / "own.npz", value)
        monkeypatch.chdir(project)
        world_of(root).data(set_of("own.npz"))
    folders = list(folders_under(root, "folder"))
    assert len(folders) == 2
    ends = {(folder / "test.safetensors").read_bytes()[-1] for folder in folders}
    assert ends == {10, 20}
    world_of(root).data(set_of(tmp_path / "b" / "own.npz"))
    assert len(list(folders_under(root, "folder"))) == 2


def replace_by(root, content):
    """Change the source file, and have another process prepare it."""
    (root / "toy.bin").write_bytes(content)
    prepared.prepare(Toy(), root)


def test_what_was_prepared_is_returned_though_another_replaces_it(root, monkeypatch):
    real = prepared.locked

    @contextmanager
    def then_replaced(path):
        monkeypatch.setattr(prepared, "locked", real)
        with real(path):
            yield
        replace_by(root, b"z")

    monkeypatch.setattr(prepared, "locked", then_replaced)
    train, test = prepared.prepare(Toy(), root)
    assert train.header.fingerprint == test.header.fingerprint == "1-61"


def test_images_and_class_names_belong_together_though_files_are_replaced(
    root, monkeypatch
):
    real = prepared.opened

    def late(pair):
        monkeypatch.setattr(prepared, "opened", real)
        replace_by(root, b"z")
        return real(pair)

    prepared.prepare(Toy(), root)
    monkeypatch.setattr(prepared, "opened", late)
    found = prepared.images(Toy(), root)
    assert found.classes[0] == "z"
    assert found.x_train.unique().tolist() == [ord("z")]


def test_files_that_are_replaced_each_time_are_an_error(root, monkeypatch):
    monkeypatch.setattr(prepared, "opened", lambda pair: None)
    with pytest.raises(DataError, match="changes all the time"):
        prepared.images(Toy(), root)


@pytest.mark.parametrize("renamed", [0, 1])
def test_a_kill_after_sealing_loses_nothing(root, monkeypatch, renamed):
    real = prepared_write.HalfWritten.rename
    left = [real] * renamed

    def killed(half):
        if not left:
            raise KeyboardInterrupt
        left.pop()(half)

    with monkeypatch.context() as patch:
        patch.setattr(prepared_write.HalfWritten, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            prepared.prepare(Toy(), root)
    again = Toy()
    for file in prepared.prepare(again, root):
        prepared.require_sound(file)
    assert again.read == []
    (folder,) = folders_under(root, "toy")
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["lock", "sound.json", "test.safetensors", "train.safetensors"]


def test_a_kill_between_the_seals_reads_nothing_again(root, monkeypatch):
    real = prepared_write.HalfWritten.seal

    def killed(half):
        real(half)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(prepared_write.HalfWritten, "seal", killed)
        with pytest.raises(KeyboardInterrupt):
            prepared.prepare(Toy(), root)
    again = Toy()
    prepared.prepare(again, root)
    assert again.read == []


def test_a_sealed_half_that_lost_images_is_read_again_from_there(root, monkeypatch):
    def killed(half):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(prepared_write.HalfWritten, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            prepared.prepare(Toy(), root)
    (folder,) = folders_under(root, "toy")
    content = bytearray((folder / "train.part").read_bytes())
    content[-1] ^= 1
    (folder / "train.part").write_bytes(content)
    again = Toy()
    for file in prepared.prepare(again, root):
        prepared.require_sound(file)
    assert again.read == [(0, 1024, 1300)]


@pytest.mark.parametrize(
    "line",
    [
        b"two words\n",
        b"\xff\xfe 1\n",
        b"999999999999999999999999 1\n",
        b"512 1\n",
        b"1301 1\n",
        b"1025 " + b"9" * 9000 + b"\n",
        b"\0" * 9000,
    ],
)
def test_whatever_is_no_entry_ends_the_journal(root, line):
    folder = interrupted(root)
    with (folder / "train.journal").open("ab") as journal:
        journal.write(line)
    again = Toy()
    for file in prepared.prepare(again, root):
        prepared.require_sound(file)
    assert again.read[0] == (0, 1024, 1300)


def test_a_journal_of_nonsense_is_no_entry(root):
    folder = interrupted(root)
    (folder / "train.journal").write_bytes(bytes(range(256)) * 9)
    again = Toy()
    prepared.prepare(again, root)
    assert again.read[0] == (0, 0, 512)


@pytest.mark.parametrize(
    "change",
    [
        {"__metadata__": [1]},
        {"__metadata__": "text"},
        {"__metadata__": None},
        {"__metadata__": {"shape": "3"}},
        {"number": '"many"'},
        {"number": "null"},
        {"shape": '["a"]'},
        {"augmentation": "[]"},
        {"fingerprint": "1"},
        {"options": "null"},
    ],
)
def test_a_header_of_another_form_is_prepared_again(root, change):
    train, _ = prepared.prepare(Toy(), root)
    content = train.path.read_bytes()
    head = json.loads(content[8 : train.start])
    if "__metadata__" in change:
        head |= change
    else:
        head["__metadata__"] |= change
    text = json.dumps(head).encode().ljust(train.start - 8)
    train.path.write_bytes(struct.pack("<Q", len(text)) + text + content[train.start :])
    assert read_prepared(train.path) is None
    prepared.images(Toy(), root)
    assert train.path.read_bytes() == content


def test_what_another_process_mended_meanwhile_is_not_removed(root, monkeypatch):
    train, _ = prepared.prepare(Toy(), root)
    sound = train.path.read_bytes()
    train.path.write_bytes(sound[:-1] + b"!")
    real = prepared.locked

    def late(path):
        train.path.write_bytes(sound)
        return real(path)

    monkeypatch.setattr(prepared, "locked", late)
    prepared.discard_damaged(Toy(), root)
    assert train.path.read_bytes() == sound


def test_a_link_to_nothing_does_not_end_the_list_of_data_sets(tmp_path):
    entry = REGISTRY.entry("datasets", "tiny-imagenet")
    place = tmp_path / entry.resolve().places[-1]
    place.mkdir()
    (place / "here").write_bytes(b"four")
    (place / "link").symlink_to(tmp_path / "nothing")
    folder = tmp_path / "prepared" / "tiny-imagenet-12345678"
    folder.mkdir(parents=True)
    (folder / "train.part").symlink_to(tmp_path / "nothing")
    found = presence(entry, tmp_path)
    assert found["prepared"][0]["status"] == "unfinished"
    assert found["prepared"][0]["bytes"] == 0
    assert found["bytes"] == 4


def test_a_file_that_vanishes_does_not_end_the_list_either(tmp_path, monkeypatch):
    entry = REGISTRY.entry("datasets", "tiny-imagenet")
    place = tmp_path / entry.resolve().places[0]
    place.mkdir()
    monkeypatch.setattr(os, "walk", lambda place: [(str(place), [], ["gone"])])
    assert presence(entry, tmp_path)["bytes"] == 0


def test_labels_are_little_endian_on_every_machine(root, monkeypatch):
    real = torch.Tensor.numpy

    def of_a_big_endian_machine(tensor):
        found = real(tensor)
        return found.astype(found.dtype.newbyteorder(">"))

    with monkeypatch.context() as patch:
        patch.setattr(torch.Tensor, "numpy", of_a_big_endian_machine)
        train, _ = prepared.prepare(Toy(), root)
    labels = train.path.read_bytes()[train.start : train.start + 8 * 4]
    assert labels == struct.pack("<4q", 0, 1, 2, 0)
    assert prepared.images(Toy(), root).y_train[:4].tolist() == [0, 1, 2, 0]
