"""What fuzzers feed: one reader each, with files to begin with and what it is to do.

A target takes the bytes of one file. It returns True if that was read, and False if it was
refused in the way that the house has for it: with an error of its own, or, where a file
that cannot be read is made anew, with None. Whatever else is raised is a finding.
"""

import io
import shutil
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fedkd.data.prepared.files import Header, content_checksum, pair_in, require_sound
from fedkd.data.prepared.map import opened
from fedkd.datasets.folder.dataset import Folder, FolderConfig
from fedkd.datasets.vectors import Vectors, VectorsConfig
from fedkd.errors import FedKDError
from fedkd.payload import decode, encode
from fedkd.plugins.registry import load_registry
from fedkd.simulation.faults.late import Late
from fedkd.simulation.store import checkpoint
from fedkd.simulation.store.checkpoint import Checkpoint
from fedkd.simulation.store.mapped_trees import MappedTrees
from fedkd.simulation.totals import Totals
from fedkd.strategy import Round
from fedkd.suite.grid import grid
from fedkd.suite.suite import load_suite, suite_names

ROOT = Path(__file__).resolve().parents[2]
CORPUS = Path(__file__).with_name("corpus")
"""Files that once did harm, by target; they are replayed by ``test_corpus.py``."""
MOST_CELLS = 300
"""Cells of a suite that are put together here; it is the user's affair to run more."""


class Target:
    """A reader of files, by name."""

    name = ""
    file = ""
    """What its file is called."""
    growth = 64 << 20
    """Bytes of memory that all files may take, beyond what the first ones took."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.path = self.folder / self.file

    def seeds(self):
        """Return sound files, as bytes."""
        raise NotImplementedError

    def read(self, data):
        """Read a file; return whether it was, and raise only what is ours."""
        raise NotImplementedError

    def __call__(self, data):
        self.path.write_bytes(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return self.read(data)
            except FedKDError:
                return False


def tree():
    return {
        "w": {"a.weight": torch.arange(6.0).view(2, 3), "n": torch.tensor(3)},
        "t": torch.ones(2, 3).t(),
        "mixed": [1, 0.5, (True, None, "é"), {3: torch.zeros(0, 4)}],
    }


class Payload(Target):
    """What crosses the wire."""

    name, file = "payload", "payload.bin"

    def seeds(self):
        yield encode(tree())
        yield encode(Round(2, (0, 1, 3), 10))
        yield encode(
            {"h": torch.ones(3, dtype=torch.bfloat16), "i": torch.ones(2).bool()}
        )

    def read(self, data):
        # Whatever is read can be sent again: its size is what it says.
        again = encode(decode(data))
        assert len(again) < 100 * len(data) + 10_000
        return True


class CheckpointFile(Target):
    """The state of a run."""

    name, file = "checkpoint", "checkpoint.safetensors"

    def seeds(self):
        near = {0: {"v": torch.ones(2)}, 4: {"n": 1}}
        late = (Late(1, 0, 2, tree()),)
        totals = Totals(1, 2, phases={"local": 0.5}, simulated=1.5, engines=("serial",))
        who = {"strategy": "fedavg"}
        yield encode(Checkpoint(3, tree(), near, totals, "", who, 0, "ab", late))
        yield encode(Checkpoint(1, {}, store="checkpoint-1.memories", store_checksum=5))

    def read(self, data):
        stored = checkpoint.read(self.path)
        if stored is not None:
            stored.totals.columns()
            sorted(stored.memories)
        return stored is not None


class Memories(Target):
    """What clients remember, in the file beside a checkpoint."""

    name, file = "memories", "checkpoint-1.memories"

    def seeds(self):
        trees = MappedTrees(self.folder)
        for k in range(3):
            trees[k] = {"v": torch.full((2, 3), float(k)).t(), "n": k}
        trees[9] = tree()
        trees.save(self.path)
        trees.close()
        yield self.path.read_bytes()

    def read(self, data):
        trees = MappedTrees.load(self.path, self.folder)
        try:
            for k in trees:
                encode(trees[k])
        finally:
            trees.close()
        return True


class PreparedFile(Target):
    """Half a data set, prepared."""

    name, file = "prepared", "train.safetensors"

    def seeds(self):
        (self.folder / "test.safetensors").write_bytes(self._half("test", 3))
        yield self._half("train", 4)

    def _half(self, split, number):
        header = Header(
            *("mine", split, number, (1, 2, 3), ("cat", "dog"), (0.5,), (0.25,)),
            augmentation={"pad": 1, "flip": True},
            options={"resolution": 32},
            fingerprint="1-ab",
            sources={"x.bin": "ff"},
            notes=("a note",),
            groups=(0, 1, 0, 1)[:number],
            group_names=("a", "b"),
        )
        labels = np.arange(number) % 2
        pixels = np.arange(6 * number) % 251
        body = labels.astype("<i8").tobytes() + pixels.astype(np.uint8).tobytes()
        checksum = content_checksum(io.BytesIO(body), 0)
        return Header(**{**vars(header), "checksum": checksum}).encoded() + body

    def read(self, data):
        pair = pair_in(self.folder)
        if pair is None:
            return False
        for file in pair:
            require_sound(file)
        images = opened(pair)
        if images is None:
            return False
        images.normalise(images.x_train).sum()
        return True


class SuiteFile(Target):
    """A suite, up to its cells."""

    name, file = "suite", "mine.yaml"

    def __init__(self, folder):
        super().__init__(folder)
        self.registry = load_registry()
        # What is registered is imported when a suite names it: all of it, now.
        for kind in ("strategies", "datasets", "models", "partitioners", "metrics"):
            for name in self.registry.entries(kind):
                self.registry.resolve(kind, name)

    def seeds(self):
        for name in suite_names():
            yield (ROOT / "benchmarks/suites" / f"{name}.yaml").read_bytes()

    def read(self, data):
        suite = load_suite(str(self.path))
        number = len(suite.points) * len(suite.seeds) * len(suite.strategies)
        if number * len(suite.datasets) * len(suite.partitions) < MOST_CELLS:
            grid(suite, self.registry)
        suite.plain()
        return True


class Arrays(Target):
    """Arrays of NumPy, as images and as vectors."""

    name, file = "npz", "mine.npz"

    def seeds(self):
        x = np.arange(96).reshape(6, 4, 4).astype(np.uint8)
        y = np.arange(6) % 2
        both = {"x_train": x, "y_train": y, "x_test": x[:2], "y_test": y[:2]}
        named = {"classes": np.array(["cat", "dog"])}
        groups = {"groups_train": np.arange(6) % 3, "groups_test": np.arange(2)}
        flat = {key: value.reshape(len(value), -1) for key, value in both.items()}
        floats = {
            **flat,
            "x_train": x.reshape(6, 16) / 7,
            "x_test": x[:2].reshape(2, 16),
        }
        for save, content in (
            (np.savez, both),
            (np.savez_compressed, {**both, **named, **groups}),
            (np.savez_compressed, {**floats, **named}),
        ):
            file = io.BytesIO()
            save(file, **content)
            yield file.getvalue()

    def read(self, data):
        done = [self._of(Folder(FolderConfig(path=str(self.path))))]
        done.append(self._of(Vectors(VectorsConfig(path=str(self.path)))))
        return any(done)

    def _of(self, dataset):
        try:
            dataset.load(self.folder)
        except FedKDError:
            return False
        return True


class Picture(Target):
    """An image in a folder of images."""

    name, file = "image", "train/a/1.png"
    growth = 1 << 30  # a few bytes may stand for as many pixels as a photo has

    def __init__(self, folder):
        super().__init__(folder)
        for half in ("train", "test"):
            for label in ("a", "b"):
                place = self.folder / half / label
                place.mkdir(parents=True)
                Image.new("RGB", (8, 8), "red").save(place / "0.png")

    def seeds(self):
        pixels = np.arange(192).reshape(8, 8, 3).astype(np.uint8)
        image = Image.fromarray(pixels)
        for kind in ("PNG", "JPEG", "GIF", "BMP", "PPM", "TIFF", "WEBP"):
            for mode in ("RGB", "L", "P"):
                if (kind, mode) in (("JPEG", "P"), ("PPM", "P")):
                    continue
                file = io.BytesIO()
                image.convert(mode).save(file, kind)
                yield file.getvalue()

    def read(self, data):
        dataset = Folder(FolderConfig(path=str(self.folder), resolution=8, channels=3))
        dataset.load(self.folder)
        return True


TARGETS = {
    target.name: target
    for target in (
        *(Payload, CheckpointFile, Memories, PreparedFile, SuiteFile, Arrays, Picture),
    )
}


def made(name, folder):
    """Return a target whose folder is empty but for what it needs."""
    place = Path(folder) / name
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    return TARGETS[name](place)
