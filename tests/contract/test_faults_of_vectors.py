"""Faults of data sets of vectors: each is named by the check that is there for it."""

import numpy as np
import pytest
import torch
from planted import planted
from torch import nn

from fedkd import DataError, Dataset, Groups, VectorSet, testing
from fedkd.data.vectors import vector_moments
from fedkd.testing import datasets as checks


class Right(Dataset):
    """Three clouds of points, generated."""

    def vectors(self, **others):
        draw = torch.Generator().manual_seed(0)
        y = torch.arange(60) % 3
        x = torch.randn(120, 4, generator=draw) * torch.tensor([1.0, 9.0, 0.1, 3.0])
        x[:, 1] += 70 * torch.cat([y, y]) + 500
        given = {"x_train": x[:60], "y_train": y, "x_test": x[60:], "y_test": y}
        names, (mean, std) = ("a", "b", "c"), vector_moments(x[:60])
        given |= {"name": "clouds", "classes": names, "mean": mean, "std": std}
        return VectorSet(**given | others)

    def load(self, root):
        return self.vectors()


class Changed(Right):
    """Gives what a function makes of the right tensors, under the same names."""

    def changes(self, right):
        raise NotImplementedError

    def load(self, root):
        return self.vectors(**self.changes(self.vectors()))


class StaysNumPy(Changed):
    def changes(self, right):
        return {"x_train": right.x_train.numpy()}


class GivesDoubles(Changed):
    def changes(self, right):
        return {"x_train": right.x_train.double()}


class GivesWholeNumbers(Changed):
    def changes(self, right):
        return {"x_test": right.x_test.long()}


class KeepsAnAxis(Changed):
    def changes(self, right):
        return {"x_train": right.x_train[:, None]}


class GivesImages(Changed):
    def changes(self, right):
        return {"x_train": right.x_train[:, None, None]}


class LeavesGaps(Changed):
    def changes(self, right):
        x = right.x_train.clone()
        x[7, 2] = torch.nan
        return {"x_train": x}


class TakesTheLogOfZero(Changed):
    def changes(self, right):
        return {"x_test": right.x_test.clamp(min=0).log()}


class EncodesTheHalvesApart(Changed):
    """As where each half gets columns for the categories that it happens to have."""

    def changes(self, right):
        return {"x_test": right.x_test[:, :3]}


class LabelsByOneHot(Changed):
    def changes(self, right):
        return {"y_train": nn.functional.one_hot(right.y_train)}


class LabelsInFloats(Changed):
    def changes(self, right):
        return {"y_train": right.y_train.float()}


class LabelsFromOne(Changed):
    def changes(self, right):
        return {"y_train": right.y_train + 1}


class DropsRowsWithoutTheirLabels(Changed):
    def changes(self, right):
        return {"x_train": right.x_train[5:]}


class HasOneMean(Changed):
    def changes(self, right):
        return {"mean": (0.0,), "std": (1.0,)}


class RepeatsOneMean(Changed):
    def changes(self, right):
        x = right.x_train
        return {"mean": (float(x.mean()),) * 4, "std": (float(x.std()),) * 4}


class NormalisesTwice(Changed):
    def changes(self, right):
        x_train, x_test = right.normalise(right.x_train), right.normalise(right.x_test)
        return {"x_train": x_train, "x_test": x_test}


class DividesByAConstant(Changed):
    def changes(self, right):
        x = right.x_train.clone()
        x[:, 3] = 1
        return {"x_train": x, "std": tuple(x.std(0).tolist())}


class KeepsTheTarget(Changed):
    def changes(self, right):
        x = right.x_train.clone()
        x[:, 3] = right.y_train
        mean, std = vector_moments(x)
        return {"x_train": x, "mean": mean, "std": std}


class TrainsOnItsTest(Changed):
    def changes(self, right):
        return {"x_test": right.x_train, "y_test": right.y_train}


class RepeatsARow(Changed):
    def changes(self, right):
        return {"x_test": right.x_test[:1].repeat(60, 1)}


class IsStoredByColumns(Changed):
    def changes(self, right):
        return {"x_train": right.x_train.T.contiguous().T}


class ExaminesTwoClasses(Changed):
    def changes(self, right):
        kept = right.y_test < 2
        return {"x_test": right.x_test[kept], "y_test": right.y_test[kept]}


class NamesAClassTwice(Changed):
    def changes(self, right):
        return {"classes": ("a", "b", "a")}


class GroupsTheTrainingHalf(Changed):
    def changes(self, right):
        return {"groups": Groups(torch.arange(60) % 5, torch.arange(20) % 5)}


class SplitsAnew(Changed):
    def changes(self, right):
        rows = torch.randperm(60, generator=torch.Generator().manual_seed(next(SEEDS)))
        return {"x_train": right.x_train[rows], "y_train": right.y_train[rows]}


SEEDS = iter(range(100))


class SplitsByNumPy(Changed):
    def changes(self, right):
        np.random.seed(0)
        return {}


class CachesItsVectors(Right):
    def load(self, root):
        np.save(root / f"vectors-{next(SEEDS)}.npy", np.zeros(2))
        return self.vectors()


class KeepsItsMoments(Right):
    def load(self, root):
        self.moments = self.vectors().mean
        return self.vectors()


class GivesAPair(Right):
    def load(self, root):
        return self.vectors().x_train, self.vectors().y_train


class LetsNumPyComplain(Right):
    files = {"clouds.npz": 0}  # noqa: RUF012 - as data sets declare it

    def load(self, root):
        return VectorSet(**np.load(root / "clouds.npz"))


class SaysNotWhere(LetsNumPyComplain):
    def load(self, root):
        raise DataError("clouds.npz is missing")


FAULTS = [
    (StaysNumPy, checks.images_are_loaded,
     "load: clouds: found x_train of type ndarray, expected a tensor"),
    (GivesDoubles, checks.images_are_loaded,
     r"x_train of type float64, expected float32 \[N, D\]. Convert .*x_train.float\(\)"),
    (GivesWholeNumbers, checks.images_are_loaded,
     r"x_test of type int64, expected float32 .* Convert them: x_test.float\(\)"),
    (KeepsAnAxis, checks.images_are_loaded,
     r"x_train of shape \[60, 1, 4\], expected float32 \[N, D\]"),
    (GivesImages, checks.images_are_loaded,
     r"x_train of shape \[60, 1, 1, 4\], .* Images are an ImageSet"),
    (LeavesGaps, checks.images_are_loaded,
     r"x_train\[7, 2\] nan, expected finite numbers. Replace what is missing first"),
    (TakesTheLogOfZero, checks.images_are_loaded, r"x_test\[\d+, \d\] -inf, expected"),
    (EncodesTheHalvesApart, checks.images_are_loaded,
     r"found training vectors \[4\] and test vectors \[3\], expected one length"),
    (LabelsByOneHot, checks.images_are_loaded,
     r"y_train of type int64 and shape \[60, 3\], .* one-hot labels, take argmax\(1\)"),
    (LabelsInFloats, checks.images_are_loaded,
     "y_train of type float32 .* expected whole numbers, int64"),
    (LabelsFromOne, checks.images_are_loaded,
     r"found the label 3 at y_train\[2\], expected labels from 0 to 2"),
    (DropsRowsWithoutTheirLabels, checks.images_are_loaded,
     "found 55 vectors in x_train and 60 labels in y_train, expected a label for each"),
    (HasOneMean, checks.images_are_loaded,
     "found 1 values of mean and 1 of std, expected 4, one for each value of a vector"),
    (DividesByAConstant, checks.images_are_loaded,
     r"found std\[3\] 0, expected above 0. fedkd.vector_moments computes both"),
    (NamesAClassTwice, checks.images_are_loaded, "found the class 'a' twice"),
    (GroupsTheTrainingHalf, checks.images_are_loaded,
     "found 20 groups in groups.test and 60 samples in x_test, expected a group for"),
    (GivesAPair, checks.images_are_loaded,
     "loaded as tuple, expected an ImageSet or a VectorSet"),
    (IsStoredByColumns, checks.images_are_loaded,
     r"x_train is not contiguous, .* Add .contiguous\(\)"),
    (RepeatsOneMean, checks.they_are_normalised,
     r"value 0 of the normalised .* deviation 0.00; .* fedkd.vector_moments\(x_tr"),
    (NormalisesTwice, checks.they_are_normalised,
     "value 1 of the normalised training vectors has mean -.*; expected about 0 and 1"),
    (KeepsTheTarget, checks.no_vector_holds_its_label,
     "value 3 of every training vector is its label. Leave the column of the target out"),
    (TrainsOnItsTest, checks.no_test_image_is_trained_on,
     "60 of 60 test vectors are training vectors, byte for byte. Split the set once"),
    (RepeatsARow, checks.images_are_no_constants,
     "the vectors of x_test are all equal. Look at how they are read"),
    (ExaminesTwoClasses, checks.every_class_is_in_both_halves,
     "class 2, 'c', has no test vector. Leave it out of classes"),
    (SplitsAnew, checks.reading_twice_gives_equal_bits,
     "load gave another x_train the second time, at position 0"),
    (SplitsByNumPy, checks.global_generators_are_left_alone,
     "load changed NumPy's global generator. Draw from a generator of its own"),
    (CachesItsVectors, checks.nothing_is_written,
     r"load wrote vectors-\d+.npy under the data root"),
    (KeepsItsMoments, checks.options_are_left_alone, "load changed self.moments"),
    (LetsNumPyComplain, checks.missing_files_are_named,
     "raised FileNotFoundError: .*clouds.npz.*; expected fedkd.DataError for files that"),
    (SaysNotWhere, checks.missing_files_are_named,
     "load said 'clouds.npz is missing' of an empty folder, and not where it looked"),
]  # fmt: skip
"""A faulty data set of vectors, the check that is there for it, and what it says."""


pytestmark = pytest.mark.usefixtures("globals_put_back")


TestPlanted = planted(FAULTS)


class TestRight(testing.DatasetContract):
    make = Right
