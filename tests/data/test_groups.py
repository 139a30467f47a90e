"""Groups of samples: what they must be, and that they stay with their images."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fedkd.data.dataset import DatasetConfig
from fedkd.data.groups import Groups
from fedkd.data.prepared import store as prepared
from fedkd.data.subsets import subset
from fedkd.datasets.folder.dataset import Folder, FolderConfig
from fedkd.errors import DataError
from fedkd.testing.toys import toy_images


def grouped():
    """Return toy images whose group is their class, but for an offset of one."""
    images = toy_images()
    groups = Groups(images.y_train + 1, images.y_test + 1)
    return replace(images, groups=groups)


def test_groups_without_names_are_called_by_their_numbers():
    assert grouped().groups.names == ("0", "1", "2", "3")


def test_names_that_are_given_stay():
    numbers = torch.tensor([0, 1])
    assert Groups(numbers, numbers, ("anna", "ben")).names == ("anna", "ben")


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ([0, 1], "type list, expected a tensor"),
        (torch.tensor([0.0]), r"type float32 and shape \[1\], expected int64 \[N\]"),
        (torch.tensor([[0]]), r"shape \[1, 1\], expected int64 \[N\]"),
        (
            torch.tensor([0, -1]),
            "the group -1 in groups.train, expected numbers from 0",
        ),
        (torch.tensor([0, 2]), "the group 2 and 2 names of groups"),
    ],
    ids=["list", "floats", "table", "negative", "names"],
)
def test_what_are_no_groups_is_refused(train, said):
    with pytest.raises(DataError, match=said):
        Groups(train, torch.tensor([0]), ("a", "b"))


def test_numbers_with_large_gaps_are_refused():
    with pytest.raises(DataError, match=r"the group 5 of 2 samples.*torch\.unique"):
        Groups(torch.tensor([5]), torch.tensor([0]))


def test_groups_of_more_or_fewer_images_are_refused():
    images = toy_images()
    groups = Groups(images.y_train, images.y_test[1:])
    with pytest.raises(
        DataError, match=r"toy: found 35 groups .* 36 samples in x_test"
    ):
        replace(images, groups=groups)


@pytest.mark.parametrize(
    "options", [{"fraction": 0.25}, {"per_class": 5}, {"test_fraction": 0.5}]
)
def test_a_part_of_a_set_has_the_groups_of_its_images(options):
    part = subset(grouped(), DatasetConfig(**options))
    assert len(part.y_train) + len(part.y_test) < 72
    assert part.groups.train.tolist() == (part.y_train + 1).tolist()
    assert part.groups.test.tolist() == (part.y_test + 1).tolist()


def test_groups_go_with_the_images_to_a_device():
    assert grouped().to(torch.device("cpu")).groups.names == ("0", "1", "2", "3")


@pytest.fixture
def own(tmp_path):
    """Return the reader of a small file of arrays, with some more of them."""

    def own(**more):
        x = np.repeat(np.array([0, 200], np.uint8), 3)[:, None, None] + np.zeros((4, 4))
        x, y = x.astype(np.uint8), np.array([0, 1] * 3)
        arrays = {"x_train": x, "y_train": y, "x_test": x[:4] + 1, "y_test": y[:4]}
        np.savez(tmp_path / "own.npz", **arrays, **more)
        return Folder(FolderConfig(path=str(tmp_path / "own.npz")))

    return own


def test_prepared_files_keep_the_groups_of_their_images(own, tmp_path):
    reader = own(groups_train=list("aabbcc"), groups_test=list("cbba"))
    for _ in range(2):  # written first, then mapped
        data = prepared.images(reader, tmp_path)
        assert data.groups.names == ("a", "b", "c")
        assert data.groups.train.tolist() == [0, 0, 1, 1, 2, 2]
        assert data.groups.test.tolist() == [2, 1, 1, 0]


def test_the_prepared_files_of_a_set_without_groups_do_not_speak_of_them(own, tmp_path):
    assert prepared.images(own(), tmp_path).groups is None
    file, _ = prepared.prepare(own(), tmp_path)
    assert b"group" not in file.path.read_bytes()[: file.start]
