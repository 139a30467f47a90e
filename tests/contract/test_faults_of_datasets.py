"""The promises of data sets are tested by faults: each is named."""

import dataclasses
import random

import numpy as np
import pytest
import torch
from planted import planted

from fedkd import (
    Config,
    DataError,
    Dataset,
    DatasetConfig,
    FileDataset,
    Source,
    Split,
    VectorSet,
    testing,
)
from fedkd.data.vectors import vector_moments
from fedkd.testing import datasets as checks


class Right(Dataset):
    """Bands of light in noise, generated."""

    def images(self):
        return dataclasses.replace(testing.toy_images(), name="bands")

    def load(self, root):
        return self.images()


class Filed(Dataset):
    """The same, from a file."""

    files = {"bands.npy": 0}  # noqa: RUF012 - as data sets declare it

    def load(self, root):
        path = root / "bands.npy"
        if not path.exists():
            raise DataError(f"{path} is missing. Copy it there.")
        return dataclasses.replace(testing.toy_images(), name="bands")

    def check(self, root):
        self.load(root)


class Undocumented(Right):
    class Config(DatasetConfig):
        noise: float = 30.0


class KnowsNoParts(Right):
    class Config(Config):
        noise: float = 30.0
        """Of the images."""


class GivesAPair(Right):
    def load(self, root):
        return self.images().x_train, self.images().y_train


class GivesFloats(Right):
    def load(self, root):
        data = self.images()
        return dataclasses.replace(data, x_train=data.x_train / 255)


class PutsChannelsLast(Right):
    def load(self, root):
        data = testing.toy_images(channels=3)
        return dataclasses.replace(
            data,
            x_train=data.x_train.permute(0, 2, 3, 1),
            x_test=data.x_test.permute(0, 2, 3, 1),
        )


class LabelsFromOne(Right):
    def load(self, root):
        data = self.images()
        return dataclasses.replace(data, y_train=data.y_train + 1)


class ForgetsALabel(Right):
    def load(self, root):
        data = self.images()
        return dataclasses.replace(data, y_test=data.y_test[:-1])


class NamesAClassTwice(Right):
    def load(self, root):
        return dataclasses.replace(self.images(), classes=("a", "b", "a"))


class IsNotContiguous(Right):
    def load(self, root):
        data = self.images()
        turned = data.x_train.transpose(2, 3)
        return dataclasses.replace(data, x_train=turned)


class HasATitleForAName(Right):
    def load(self, root):
        return dataclasses.replace(self.images(), name="Bands of light")


class LeavesAClassUnnamed(Right):
    def load(self, root):
        return dataclasses.replace(self.images(), classes=("a", "", "c"))


class HasTwoClassesToTest(Right):
    def load(self, root):
        data = self.images()
        kept = data.y_test < 2
        return dataclasses.replace(
            data, x_test=data.x_test[kept], y_test=data.y_test[kept]
        )


class ScalesToOne(Right):
    def load(self, root):
        data = self.images()
        return dataclasses.replace(data, x_train=(data.x_train / 255).to(torch.uint8))


class RepeatsOneImage(Right):
    def load(self, root):
        data = self.images()
        return dataclasses.replace(data, x_test=data.x_test[:1].repeat(36, 1, 1, 1))


class NormalisesAsOf255(Right):
    def load(self, root):
        return dataclasses.replace(self.images(), mean=(76.5,), std=(63.8,))


class NormalisesWrongly(Right):
    def load(self, root):
        return dataclasses.replace(self.images(), mean=(0.3,), std=(0.05,))


class KeepsTheTarget(Right):
    """Of vectors, whose other faults are in a file of their own."""

    def load(self, root):
        y = torch.arange(6) % 3
        x = torch.stack([y.float(), torch.arange(6.0)], 1)
        centre, spread = vector_moments(x)
        return VectorSet("bands", x, y, x + 1, y, ("a", "b", "c"), centre, spread)


class TrainsOnItsTest(Right):
    def load(self, root):
        data = self.images()
        return dataclasses.replace(data, x_test=data.x_train, y_test=data.y_train)


class ShufflesAnew(Right):
    def load(self, root):
        data = self.images()
        order = torch.randperm(36, generator=torch.Generator().manual_seed(next(SEEDS)))
        return dataclasses.replace(
            data, x_train=data.x_train[order], y_train=data.y_train[order]
        )


SEEDS = iter(range(100))


class SeedsTorch(Right):
    def load(self, root):
        torch.manual_seed(1)
        return self.images()


class ShufflesByPython(Right):
    def load(self, root):
        random.shuffle([1, 2, 3])
        return self.images()


class WritesACache(Right):
    def load(self, root):
        (root / "cache.npy").write_bytes(b"")
        (root / "cache.npy").unlink()
        (root / f"cache-{next(SEEDS)}.npy").write_bytes(b"")
        return self.images()


class RemembersThePlace(Right):
    def load(self, root):
        self.root = str(root)
        return self.images()


class LetsThePathBeMissing(Filed):
    def load(self, root):
        return np.load(root / "bands.npy")


class SaysNotWhere(Filed):
    def load(self, root):
        if not (root / "bands.npy").exists():
            raise DataError("the file bands.npy is missing.")
        return dataclasses.replace(testing.toy_images(), name="bands")


class SaysNotWhich(Filed):
    def load(self, root):
        if not (root / "bands.npy").exists():
            raise DataError(f"something is missing in {root}.")
        return dataclasses.replace(testing.toy_images(), name="bands")


class ChecksNothing(Filed):
    def check(self, root):
        pass


class MakesAFolder(Filed):
    def load(self, root):
        (root / "made").mkdir(exist_ok=True)
        return super().load(root)


class Sliced(FileDataset):
    """Read in pieces; the last image of each is left out."""

    name = "bands"

    def open(self, root):
        data = testing.toy_images()

        def half(x, y):
            return Split(y, data.shape, lambda start, stop: x[start : stop - 1])

        halves = half(data.x_train, data.y_train), half(data.x_test, data.y_test)
        return Source(*halves, data.classes, data.mean, data.std)

    def load(self, root):
        return dataclasses.replace(testing.toy_images(), name="bands")

    def fingerprint(self, root):
        return "1"


FAULTS = [
    (Undocumented, checks.options_are_documented,
     "option noise of Config has no description"),
    (KnowsNoParts, checks.it_can_be_used_in_part,
     "Config has no fraction and no per_class, so it cannot be used in part. Derive it"),
    (GivesAPair, checks.images_are_loaded,
     "a data set was loaded as tuple, expected an ImageSet or a VectorSet; return one"),
    (GivesFloats, checks.images_are_loaded,
     r"load: bands: found x_train of type float32, expected uint8 .* Scale images to 0"),
    (PutsChannelsLast, checks.images_are_loaded,
     r"load: toy: found x_train of shape .* Channels come last in x_train: use permute"),
    (LabelsFromOne, checks.images_are_loaded, "load: bands: found .*3"),
    (ForgetsALabel, checks.images_are_loaded, "load: bands: found .*35"),
    (NamesAClassTwice, checks.images_are_loaded,
     "load: bands: found the class 'a' twice, expected each name once"),
    (NormalisesAsOf255, checks.images_are_loaded,
     "load: bands: found mean 76.5, expected 0 to 1, .* divide those of images"),
    (IsNotContiguous, checks.images_are_loaded,
     r"x_train is not contiguous, which makes every batch slow. Add .contiguous\(\)"),
    (HasATitleForAName, checks.names_are_names,
     "the set is called 'Bands of light'; expected its registered name"),
    (LeavesAClassUnnamed, checks.names_are_names,
     "class 1 has no name. Give one in classes"),
    (HasTwoClassesToTest, checks.every_class_is_in_both_halves,
     "class 2, 'class 2', has no test image. Leave it out of classes"),
    (ScalesToOne, checks.images_are_no_constants,
     "the largest grey level of x_train is 0 of 255. Scale images to 0..255"),
    (RepeatsOneImage, checks.images_are_no_constants,
     "the images of x_test are all equal. Look at how they are read"),
    (NormalisesWrongly, checks.they_are_normalised,
     "training images have mean .* and deviation [3-6].*; expected about 0 and 1"),
    (KeepsTheTarget, checks.no_vector_holds_its_label,
     "value 0 of every training vector is its label. Leave the column of the target"),
    (TrainsOnItsTest, checks.no_test_image_is_trained_on,
     "36 of 36 test images are training images, byte for byte. Split the set once"),
    (ShufflesAnew, checks.reading_twice_gives_equal_bits,
     "load gave another x_train the second time, at position 0. Sort what a folder"),
    (SeedsTorch, checks.global_generators_are_left_alone,
     "load changed torch's seed. Draw from a generator of its own with a fixed seed"),
    (ShufflesByPython, checks.global_generators_are_left_alone,
     "load changed Python's global generator"),
    (WritesACache, checks.nothing_is_written,
     r"load wrote cache-\d+.npy under the data root, which others share"),
    (RemembersThePlace, checks.options_are_left_alone,
     "load changed self.root. Cells of a bench share it: keep nothing in it"),
    (LetsThePathBeMissing, checks.missing_files_are_named,
     r"load, line \d+ .* raised FileNotFoundError: .*; expected fedkd.DataError for "
     "files that are missing. Say which"),
    (SaysNotWhere, checks.missing_files_are_named,
     "load said 'the file .*' of an empty folder, and not where it looked. Name the fol"),
    (SaysNotWhich, checks.missing_files_are_named,
     "load said 'something is .* of an empty folder. Name the file that is missing"),
    (ChecksNothing, checks.missing_files_are_named,
     "check raised nothing; expected fedkd.DataError for files that are missing"),
    (MakesAFolder, checks.missing_files_are_named,
     "reading wrote made where its files were missing"),
    (Sliced, checks.pieces_are_those_of_the_whole,
     r"open\(...\).train.read\(0, 3\) gave other images than load. Read from start"),
]  # fmt: skip
"""A faulty data set, the check that is there for it, and what it must say."""


pytestmark = pytest.mark.usefixtures("globals_put_back")


TestPlanted = planted(FAULTS, testing.DATASET_CHECKS)


class TestRight(testing.DatasetContract):
    make = Right


class TestFiled(testing.DatasetContract):
    make = Filed

    def files(self, folder):
        (folder / "bands.npy").write_bytes(b"")
        return folder
