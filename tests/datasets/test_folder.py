"""Your own images: what is read from a folder or an .npz, and what is refused."""

import io
import os
import shutil
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from fedkd.config import build
from fedkd.data.dataset import in_memory
from fedkd.data.images import Augmentation
from fedkd.datasets.folder.dataset import PIECE, Folder, FolderConfig, histogram
from fedkd.errors import ConfigError, DataError
from fedkd.plugins.options import resolve
from fedkd.plugins.registry import load_registry


def paint(path, height=4, width=4, value=None, mode="RGB"):
    """Write an image of one value, or of noise that its name decides."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    noise = np.random.default_rng(sum(map(ord, str(path.name)))).integers(0, 256, shape)
    pixels = np.full(shape, value) if value is not None else noise
    Image.fromarray(pixels.astype(np.uint8), mode).save(path)
    return pixels.astype(np.uint8)


@pytest.fixture
def tree(tmp_path):
    """Two classes: 3 + 1 cats, 2 + 1 dogs, PNG in colour of 4x4."""
    root = tmp_path / "pets"
    for name, number in (("cat", 3), ("dog", 2)):
        for i in range(number):
            paint(root / "train" / name / f"{name}{i}.png")
        paint(root / "test" / name / f"{name}9.png")
    return root


@pytest.fixture
def npz(tmp_path):
    """Write an .npz; two classes, 3x5 pixels grey; arrays can be changed or left out."""
    rng = np.random.default_rng(0)

    def write(**changes):
        arrays = {
            "x_train": rng.integers(0, 256, (4, 3, 5)).astype(np.uint8),
            "y_train": np.array([0, 1, 1, 0]),
            "x_test": rng.integers(0, 256, (2, 3, 5)).astype(np.uint8),
            "y_test": np.array([1, 0]),
            **changes,
        }
        path = tmp_path / "mine.npz"
        np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
        return path

    return write


def opened(path, **options):
    return Folder(FolderConfig(path=str(path), **options)).open("/nowhere")


def loaded(path, **options):
    return Folder(FolderConfig(path=str(path), **options)).load("/nowhere")


def refused(path, **options):
    """Return the one sentence that reading all of it ends with."""
    with pytest.raises(DataError) as caught:
        loaded(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class TestFolders:
    def test_classes_are_the_folders_of_train_in_order(self, tree):
        data = loaded(tree)
        assert data.classes == ("cat", "dog")
        assert data.y_train.tolist() == [0, 0, 0, 1, 1]
        assert data.y_test.tolist() == [0, 1]
        assert data.shape == (3, 4, 4)
        assert data.name == "folder"

    def test_pixels_are_those_of_the_file(self, tree):
        pixels = paint(tree / "train" / "cat" / "cat0.png", value=None)
        first = loaded(tree).x_train[0]
        assert torch.equal(first, torch.from_numpy(pixels).permute(2, 0, 1))

    def test_pieces_are_parts_of_the_whole(self, tree):
        whole = opened(tree).train.read(0, 5)
        assert torch.equal(opened(tree).train.read(3, 5), whole[3:])

    def test_a_class_without_test_images_is_allowed_but_said(self, tree):
        shutil.rmtree(tree / "test" / "dog")
        data = loaded(tree)
        assert data.y_test.tolist() == [0]
        assert data.notes == (
            "There are no test images of dog, so accuracy says nothing of it.",
        )

    def test_hidden_and_other_files_are_left_alone(self, tree):
        (tree / "train" / ".DS_Store").write_text("x")
        (tree / "train" / ".cache").mkdir()
        (tree / "train" / "cat" / ".hidden.png").write_text("x")
        (tree / "train" / "cat" / "licence.txt").write_text("x")
        (tree / "train" / "readme.md").write_text("x")
        assert len(loaded(tree).x_train) == 5

    def test_endings_may_be_in_capitals(self, tree):
        (tree / "train" / "cat" / "cat0.png").rename(tree / "train/cat/CAT.PNG")
        assert len(loaded(tree).x_train) == 5

    def test_images_are_stretched_to_the_resolution(self, tree):
        paint(tree / "train" / "cat" / "wide.png", 10, 20, value=77)
        data = loaded(tree, resolution=8)
        assert data.shape == (3, 8, 8)
        assert (data.x_train[3] == 77).all()

    def test_resizing_is_what_torchvision_does(self, tree):
        from torchvision.transforms import Resize

        path = tree / "train" / "cat" / "big.png"
        paint(path, 31, 17)
        with Image.open(path) as image:
            expected = np.asarray(Resize((8, 8))(image))
        first = loaded(tree, resolution=8).x_train[0]
        assert torch.equal(first, torch.tensor(expected).permute(2, 0, 1))

    def test_the_first_image_says_whether_all_are_grey(self, tmp_path):
        root = tmp_path / "grey"
        pixels = paint(root / "train" / "a" / "1.png", mode="L")
        paint(root / "test" / "a" / "2.png", mode="L")
        data = loaded(root)
        assert data.shape == (1, 4, 4)
        assert torch.equal(data.x_train[0, 0], torch.from_numpy(pixels))

    def test_channels_can_be_asked_for(self, tree):
        paint(tree / "train" / "cat" / "cat0.png", mode="L", value=9)
        assert loaded(tree, channels=1).shape == (1, 4, 4)
        assert (loaded(tree, channels=3).x_train[0] == 9).all()

    def test_grey_images_among_colour_become_colour(self, tree):
        paint(tree / "train" / "dog" / "dog0.png", mode="L", value=9)
        assert (loaded(tree).x_train[3] == 9).all()

    def test_a_folder_of_numbers_is_in_the_order_of_texts(self, tmp_path):
        for half in ("train", "test"):
            for name in ("2", "10"):
                paint(tmp_path / half / name / "x.png")
        assert loaded(tmp_path).classes == ("10", "2")


class TestDamagedFolders:
    def test_a_half_is_missing(self, tree):
        (tree / "test").rename(tree / "val")
        assert refused(tree) == (
            f"folder: {tree}/test is not there; expected the folders train and test, "
            f"with a folder for each class in them. {tree} holds: train, val."
        )

    def test_a_half_without_classes(self, tree):
        shutil.rmtree(tree / "train")
        (tree / "train").mkdir()
        assert f"{tree}/train is empty; expected a folder for" in refused(tree)

    @pytest.mark.parametrize("half", ["train", "test"])
    def test_a_class_without_images(self, tree, half):
        (tree / half / "emu").mkdir()
        assert f"found no image in {tree}/{half}/emu; expected files" in refused(tree)

    def test_a_class_that_is_only_in_test(self, tree):
        paint(tree / "test" / "emu" / "1.png")
        assert f"found the class 'emu' in {tree}/test only" in refused(tree)

    def test_a_file_that_is_no_image(self, tree):
        path = tree / "train" / "dog" / "dog1.png"
        path.write_text("no image")
        assert f"folder: {path} does not decode (cannot identify" in refused(tree)

    def test_an_image_that_is_cut_short(self, tree):
        path = tree / "test" / "dog" / "dog9.png"
        path.write_bytes(path.read_bytes()[:-30])
        assert f"folder: {path} does not decode" in refused(tree)

    def test_the_first_image_is_damaged(self, tree):
        path = tree / "train" / "cat" / "cat0.png"
        path.write_bytes(b"")
        assert f"folder: {path} does not decode" in refused(tree)

    def test_two_sizes_name_two_files(self, tree):
        other = tree / "test" / "dog" / "dog9.png"
        paint(other, 4, 6)
        assert refused(tree) == (
            f"folder: found images of different sizes: {tree}/train/cat/cat0.png has 4x4 "
            f"pixels and {other} 4x6; expected one size. Set 'resolution', to which all "
            "are resized."
        )

    def test_colour_among_grey(self, tmp_path):
        grey = tmp_path / "train" / "a" / "1.png"
        colour = tmp_path / "test" / "a" / "2.png"
        paint(grey, mode="L")
        paint(colour)
        message = refused(tmp_path)
        assert f"{colour} is in colour and {grey} is grey" in message
        assert "Set 'channels' to 3 or 1" in message

    def test_sixteen_bits(self, tree):
        path = tree / "train" / "cat" / "cat1.png"
        Image.fromarray(np.full((4, 4), 60_000, np.uint16)).save(path)
        assert f"{path} has more than 8 bits a channel" in refused(tree)

    def test_one_value_only_has_no_deviation(self, tmp_path):
        for half in ("train", "test"):
            paint(tmp_path / half / "a" / "1.png", value=7)
        assert f"{tmp_path} have one value in channel 0" in refused(tmp_path)
        assert loaded(tmp_path, mean=[0.0] * 3, std=[1.0] * 3).std == (1.0, 1.0, 1.0)


class TestArrays:
    def test_three_axes_are_grey_images(self, npz):
        path = npz()
        data = loaded(path)
        stored = np.load(path)
        assert data.shape == (1, 3, 5)
        assert torch.equal(data.x_train[:, 0], torch.from_numpy(stored["x_train"]))
        assert data.y_train.tolist() == [0, 1, 1, 0]
        assert data.y_test.tolist() == [1, 0]
        assert data.classes == ("0", "1")

    @pytest.mark.parametrize(
        ("shape", "expected"),
        [
            ((6, 7, 3), (3, 6, 7)),
            ((3, 6, 7), (3, 6, 7)),
            ((1, 6, 7), (1, 6, 7)),
            ((6, 7, 1), (1, 6, 7)),
            ((3, 3, 5), (3, 3, 5)),
        ],
    )
    def test_the_axis_of_length_1_or_3_is_that_of_channels(self, npz, shape, expected):
        x = np.random.default_rng(1).integers(0, 256, (4, *shape)).astype(np.uint8)
        data = loaded(npz(x_train=x, x_test=x[:2]))
        assert data.shape == expected
        as_stored = x if shape == expected else x.transpose(0, 3, 1, 2)
        assert torch.equal(data.x_train, torch.from_numpy(as_stored.copy()))

    def test_classes_have_the_names_that_are_given(self, npz):
        assert loaded(npz(classes=np.array(["no", "yes"]))).classes == ("no", "yes")
        assert loaded(npz(classes=np.array([7, 5]))).classes == ("7", "5")

    @pytest.mark.parametrize(
        ("train", "test", "names", "numbers"),
        [
            (["ben", "anna", "ben", "cy"], ["cy", "dan"], "anna ben cy dan", "1012 23"),
            ([0, 1, 1, 0], [1, 0], "0 1", "0110 10"),
            ([10**15, 7, 7, 7], [10**15, 7], f"7 {10**15}", "1000 10"),
        ],
        ids=["texts", "numbers", "long"],
    )
    def test_groups_are_names_or_numbers(self, npz, train, test, names, numbers):
        path = npz(groups_train=np.array(train), groups_test=np.array(test))
        data = loaded(path)
        assert data.groups.names == tuple(names.split())
        found = [data.groups.train.tolist(), data.groups.test.tolist()]
        assert found == [[int(n) for n in part] for part in numbers.split()]
        assert not any("groups" in note for note in data.notes)
        assert loaded(npz()).groups is None

    def test_resolution_and_channels_are_brought_about(self, npz):
        x = np.full((4, 3, 5), 50, np.uint8)
        x[0] = 60
        data = loaded(npz(x_train=x), resolution=8, channels=3)
        assert data.shape == (3, 8, 8)
        assert (data.x_train[0] == 60).all()
        assert (data.x_train[1] == 50).all()

    def test_compressed_files_are_read(self, npz):
        path = npz()
        np.savez_compressed(path, **dict(np.load(path)))
        assert len(loaded(path).x_train) == 4


FLOAT = np.zeros((4, 3, 5), np.float32)
COLOUR = np.zeros((4, 3, 5, 3), np.uint8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"y_test": None},
            "found no array y_test (arrays: x_test, x_train, y_train), expected x_train, "
            "y_train, x_test, y_test or train_images, train_labels, ",
        ),
        (
            {"x_train": FLOAT},
            "found x_train of type float32, expected uint8 in 0..255. Scale images",
        ),
        ({"x_train": FLOAT.astype(np.int64)}, "found x_train of type int64, expected"),
        (
            {"x_train": COLOUR[0]},
            "4 labels in y_train, expected a label for each image",
        ),
        ({"x_train": COLOUR}, "found x_train of shape 4x3x5x3, expected [N, H, W], "),
        ({"x_train": COLOUR[..., [0, 1]]}, "images of 3x5x2 and 1x3x5 (channels, "),
        ({"x_test": COLOUR[0, 0]}, "found x_test of shape 5x3, expected [N, H, W]"),
        ({"x_test": FLOAT[:2, 0]}, "found x_test of type float32"),
        (
            {"y_train": np.array([0, 1, 1])},
            "found 4 images in x_train and 3 labels in ",
        ),
        (
            {"y_train": np.array([0.0, 1, 1, 0])},
            "y_train of shape 4 and type float64, ",
        ),
        ({"y_train": np.eye(4, dtype=int)}, "y_train of shape 4x4 and type int64, exp"),
        (
            {"y_train": np.array([1, 2, 2, 1])},
            "no training image of the class '0' (labe",
        ),
        (
            {"y_train": np.array([-1, 0, 1, 0])},
            "the label -1 at y_train[0], expected label",
        ),
        (
            {"y_test": np.array([0, 2])},
            "found the label 2 at y_test[1], expected labels",
        ),
        (
            {"classes": np.array(["a"])},
            "the label 1 at y_train[1], expected labels from ",
        ),
        (
            {"classes": np.array(["a", "b", "c"])},
            "no training image of the class 'c' (l",
        ),
        (
            {"classes": np.array(["a", "a"])},
            "found a name twice in classes, expected ea",
        ),
        (
            {"groups_train": np.zeros(4, int)},
            "no array groups_test, expected both of groups_train, groups_test, or none",
        ),
        (
            {"groups_train": np.zeros(3, int), "groups_test": np.zeros(2, int)},
            "groups_train of shape 3 and type int64, expected numbers or texts of sh",
        ),
        (
            {"groups_train": np.zeros(4, int), "groups_test": np.array(["a", "b"])},
            "texts and numbers in groups_train, groups_test, expected one kind",
        ),
        (
            {"classes": np.array("ab")},
            "found classes of shape () and type <U2, expected ",
        ),
        (
            {"classes": np.array(["a", None])},
            "classes that cannot be read (Object array",
        ),
        (
            {"x_test": np.zeros((0, 3, 5), np.uint8), "y_test": np.zeros(0, int)},
            "at lea",
        ),
    ],
)
def test_arrays_that_cannot_be_used_are_refused(npz, changes, message):
    path = npz(**changes)
    found = refused(path)
    assert found.startswith(f"folder: {path}: found ")
    assert message in found


def test_a_file_that_is_no_npz_is_refused(tmp_path):
    path = tmp_path / "x.npz"
    path.write_text("no zip")
    assert refused(path) == (
        f"folder: {path}: found no .npz file, expected one as numpy.savez writes it."
    )


def test_a_damaged_npz_is_refused(npz):
    path = npz()
    content = bytearray(path.read_bytes())
    content[180] ^= 255
    path.write_bytes(content)
    assert f"{path}: found x_train that cannot be read (" in refused(path)


def test_a_zip_that_holds_no_arrays_is_refused(tmp_path):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as file:
        for name in ("x_train", "y_train", "x_test", "y_test"):
            file.writestr(f"{name}.npy", io.BytesIO(b"text").read())
    assert f"folder: {path}: found " in refused(path)


@pytest.mark.parametrize(
    ("name", "found"), [("none", "is not"), ("a.txt", "is another")]
)
def test_a_path_that_is_neither_is_refused(tmp_path, name, found):
    (tmp_path / "a.txt").write_text("x")
    path = tmp_path / name
    assert f"folder: {path} {found}" in refused(path)
    with pytest.raises(DataError, match="expected a folder with train"):
        Folder(FolderConfig(path=str(path))).fingerprint(tmp_path)


def test_mean_and_deviation_are_those_of_the_training_pixels(tree):
    source, data = opened(tree), loaded(tree)
    pixels = data.x_train.double() / 255
    assert source.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), rel=1e-12)
    std = pixels.std((0, 2, 3), correction=0)
    assert source.std == pytest.approx(std.tolist(), rel=1e-12)


def test_values_are_counted_piece_by_piece():
    x = torch.randint(0, 256, (9, 2, 500, 700), dtype=torch.uint8)
    sizes = []
    half = in_memory(x, torch.zeros(9))

    def read(start, stop):
        sizes.append(stop - start)
        return x[start:stop]

    object.__setattr__(half, "read", read)
    counts = histogram(half)
    assert max(sizes) * x[0].numel() <= PIECE
    assert (
        counts[1].tolist() == torch.bincount(x[:, 1].flatten(), minlength=256).tolist()
    )


def test_normalisation_and_augmentation_are_as_asked(tree):
    options = {"mean": [0.1, 0.2, 0.3], "std": [1, 0.2, 0.3], "pad": 2, "flip": True}
    source = opened(tree, **options)
    assert (source.mean, source.std) == ((0.1, 0.2, 0.3), (1, 0.2, 0.3))
    assert source.augmentation == Augmentation(pad=2, flip=True)
    assert opened(tree).augmentation == Augmentation()


def test_as_many_means_as_channels_are_needed(tree):
    with pytest.raises(ConfigError, match="found 1 values of mean and 1 of std, exp"):
        opened(tree, mean=[0.5], std=[0.5])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "path: this key is missing"),
        ({"path": ""}, "path: found ''."),
        ({"path": "x", "mean": [0.5]}, "expected mean and std, or neither"),
        ({"path": "x", "mean": [0.5], "std": [0]}, "expected values of std above 0"),
        ({"path": "x", "mean": [], "std": []}, "expected values of std above 0"),
        ({"path": "x", "resolution": 0}, "resolution: found 0."),
        ({"path": "x", "channels": 2}, "channels: found 2."),
        ({"path": "x", "pad": -1}, "pad: found -1."),
    ],
)
def test_options_that_cannot_be_used_are_refused(options, message):
    with pytest.raises(ConfigError) as caught:
        build(FolderConfig, options, "here")
    assert message in str(caught.value)


class TestFingerprints:
    def of(self, path):
        return Folder(FolderConfig(path=str(path))).fingerprint("/nowhere")

    def test_it_stays_while_nothing_changes(self, tree):
        assert self.of(tree) == self.of(tree)

    def test_a_relative_path_is_the_same_place(self, tree, monkeypatch):
        monkeypatch.chdir(tree.parent)
        (tree / "..").resolve()
        assert len(self.of("pets")) == 32

    @pytest.mark.parametrize("change", ["new", "gone", "rewritten", "renamed"])
    def test_it_changes_with_the_images(self, tree, change):
        before = self.of(tree)
        path = tree / "test" / "dog" / "dog9.png"
        if change == "new":
            paint(path.with_name("more.png"))
        elif change == "gone":
            (tree / "train" / "cat" / "cat1.png").unlink()
        elif change == "rewritten":
            os.utime(path, ns=(1, 1))
        else:
            path.rename(path.with_name("x.png"))
        assert self.of(tree) != before

    def test_it_changes_with_the_file(self, npz):
        before = self.of(npz())
        path = npz(classes=np.array(["a", "b"]))
        assert self.of(path) != before


class TestContents:
    def of(self, path, **options):
        return Folder(FolderConfig(path=str(path), **options)).content()

    def test_a_copy_elsewhere_with_other_times_has_the_same(self, tree, tmp_path):
        copy = tmp_path / "elsewhere" / "copy"
        shutil.copytree(tree, copy, copy_function=shutil.copyfile)
        assert self.of(copy) == self.of(tree)
        assert len(self.of(tree)) == 16

    @pytest.mark.parametrize("change", ["new", "gone", "byte", "renamed", "moved"])
    def test_it_changes_with_every_image(self, tree, change):
        before = self.of(tree)
        path = tree / "test" / "dog" / "dog9.png"
        times = path.stat()
        if change == "new":
            paint(path.with_name("more.png"))
        elif change == "gone":
            (tree / "train" / "cat" / "cat1.png").unlink()
        elif change == "byte":  # neither size nor time tells
            content = bytearray(path.read_bytes())
            content[-20] ^= 1
            path.write_bytes(content)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        elif change == "renamed":
            path.rename(path.with_name("x.png"))
        else:  # two images change places: the labels are others
            cat = tree / "test" / "cat" / "cat9.png"
            pixels = cat.read_bytes()
            cat.write_bytes(path.read_bytes())
            path.write_bytes(pixels)
        assert self.of(tree) != before

    def test_other_files_do_not_count(self, tree):
        before = self.of(tree)
        (tree / "train" / "cat" / "notes.txt").write_text("x")
        assert self.of(tree) == before

    def test_it_is_of_the_bytes_of_an_npz(self, npz, tmp_path):
        path = npz()
        before = self.of(path)
        os.utime(path, ns=(1, 1))
        assert self.of(path) == before
        assert self.of(npz(y_test=np.array([1, 1]))) != before

    def test_what_is_not_there_is_said_by_loading_not_by_the_options(self, tmp_path):
        options = {"path": str(tmp_path / "none")}
        found = resolve(load_registry(), "datasets", "folder", options, "here")
        assert "content" not in found.plain()
        with pytest.raises(DataError, match="is not there; expected a folder"):
            Folder(FolderConfig(**options)).content()

    def test_it_is_part_of_what_a_run_is_told(self, tree):
        registry = load_registry()
        found = resolve(registry, "datasets", f"folder:{tree}", {}, "here")
        assert found.plain()["content"] == self.of(tree)
