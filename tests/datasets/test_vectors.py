"""Vectors from a NumPy file, and the tables of scikit-learn."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fedkd.datasets.tables import BreastCancer, Wine
from fedkd.datasets.vectors import Vectors
from fedkd.errors import DataError

GOOD = {
    "x_train": np.arange(12).reshape(6, 2) ** 2 / 4,
    "y_train": np.array([0, 1, 0, 1, 0, 1]),
    "x_test": np.arange(4).reshape(2, 2) / 8,
    "y_test": np.array([0, 1]),
}


@pytest.fixture
def read(tmp_path):
    """Write a file and read it."""

    def reading(**changes):
        path = tmp_path / "mine.npz"
        arrays = {k: v for k, v in {**GOOD, **changes}.items() if v is not None}
        np.savez(path, **arrays)
        return Vectors(Vectors.Config(path=str(path))).load(tmp_path)

    return reading


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int32])
def test_numbers_of_any_kind_become_float32(read, kind):
    data = read(x_train=(GOOD["x_train"] * 4).astype(kind))
    assert data.x_train.dtype == torch.float32
    assert data.x_train[1].tolist() == [4, 9]
    assert (data.name, data.shape, data.classes) == ("vectors", (2,), ("0", "1"))


def test_mean_and_deviation_are_those_of_the_training_half(read):
    data = read(x_train=np.array([[1.0, 5], [3, 5]]), y_train=np.array([0, 1]))
    assert (data.mean, data.std) == ((2.0, 5.0), (1.0, 1.0))


def test_classes_may_have_names_and_other_arrays_are_left_out_with_a_note(read):
    data = read(classes=np.array(["ham", "spam"]), ids=np.arange(6))
    assert data.classes == ("ham", "spam")
    (note,) = data.notes
    assert "the arrays ids" in note


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"x_train": None},
            r"no array x_train .*expected x_train, y_train, x_test, y_t",
        ),
        (
            {"x_train": np.zeros((6, 2, 2))},
            r"6x2x2.*numbers of shape \[N, D\]\. Images",
        ),
        ({"x_train": np.zeros((6, 2), bool)}, "x_train of shape 6x2 and type bool"),
        (
            {"x_train": GOOD["x_train"] * np.nan},
            r"x_train\[0, 0\] nan, expected finite",
        ),
        ({"x_test": GOOD["x_test"] + 1e39}, r"x_test\[0, 0\] 1e\+39, expected finite"),
        (
            {"x_test": np.zeros((2, 3))},
            r"vectors of 2 and 3 \(values\), expected one sh",
        ),
        ({"y_train": np.arange(5)}, "6 vectors in x_train and 5 labels in y_train"),
        ({"y_train": np.array([0, 2] * 3)}, "no training vector of the class '1'"),
    ],
)
def test_each_thing_that_is_wrong_has_a_sentence(read, changes, message):
    with pytest.raises(DataError, match=rf"vectors: .*mine\.npz: found .*{message}"):
        read(**changes)


def test_a_file_that_is_not_there_or_another_is_refused(tmp_path):
    for name, problem in (("no.npz", "is not there"), (".", "is no .npz file")):
        reader = Vectors(Vectors.Config(path=str(tmp_path / name)))
        with pytest.raises(DataError, match=problem):
            reader.load(tmp_path)


def test_other_bytes_are_other_content(read, tmp_path):
    read()
    reader = Vectors(Vectors.Config(path=str(tmp_path / "mine.npz")))
    first = reader.content()
    assert first == reader.content()
    read(y_test=np.array([1, 0]))
    assert reader.content() != first


@pytest.mark.parametrize(
    ("reader", "shape", "sizes", "held_out", "first"),
    [
        (Wine, (13,), (142, 36), [12, 14, 10], 14.23),
        (BreastCancer, (30,), (455, 114), [42, 72], 17.99),
    ],
)
def test_a_table_of_scikit_learn_has_a_fifth_of_each_class_held_out(
    reader, shape, sizes, held_out, first
):
    data = reader().load(Path("/nowhere"))
    assert (data.shape, (len(data.y_train), len(data.y_test))) == (shape, sizes)
    assert torch.bincount(data.y_test).tolist() == held_out
    whole = torch.cat([data.x_train, data.x_test])[:, 0]
    assert np.float32(first) in whole.numpy()
    x = data.normalise(data.x_train)
    torch.testing.assert_close(x.mean(0), torch.zeros(shape), atol=1e-4, rtol=0)
    torch.testing.assert_close(x.std(0, correction=0), torch.ones(shape))


def test_groups_of_a_file_say_whose_each_vector_is(read):
    data = read(groups_train=list("bbaaca"), groups_test=list("cb"))
    assert data.groups.names == ("a", "b", "c")
    assert data.groups.train.tolist() == [1, 1, 0, 0, 2, 0]
    assert data.groups.test.tolist() == [2, 1]


def test_groups_of_another_number_are_refused(read):
    wanted = "groups_test of shape 3 .* of shape 2, one for each test vector"
    with pytest.raises(DataError, match=wanted):
        read(groups_train=list("bbaaca"), groups_test=list("cba"))
