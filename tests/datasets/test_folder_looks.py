"""Your own images: read as a viewer shows them, and what is left out is said."""

import os
import shutil
import unicodedata

import numpy as np
import pytest
from PIL import Image
from test_folder import loaded, paint, refused

from fedkd.datasets.folder.dataset import Folder, FolderConfig
from fedkd.plugins.options import resolve
from fedkd.plugins.registry import load_registry

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8)
COLOUR = Image.fromarray(PIXELS)


@pytest.fixture
def tree(tmp_path):
    """Two classes; ``train/a/0.*`` is to be written and comes first."""
    root = tmp_path / "mine"
    for name in "ab":
        paint(root / "train" / name / f"{name}1.png", 6, 8)
        paint(root / "test" / name / f"{name}2x.png", 6, 8)
    return root


def first(tree, image, name="0.png", **saving):
    image.save(tree / "train" / "a" / name, **saving)
    return loaded(tree).x_train[0].permute(1, 2, 0).numpy()


UPRIGHT = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: a[::-1, ::-1],
    4: np.flipud,
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: np.rot90,
}


@pytest.mark.parametrize("ending", ["png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_upright(tmp_path, orientation, ending):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for half, shift in (("train", 0), ("test", 1)):
        folder = tmp_path / half / "a"
        folder.mkdir(parents=True)
        saving = {"lossless": True} if ending == "webp" else {}
        image = Image.fromarray(PIXELS + np.uint8(shift))
        image.save(folder / f"0.{ending}", exif=exif, **saving)
    found = loaded(tmp_path).x_train[0].permute(1, 2, 0).numpy()
    assert np.array_equal(found, UPRIGHT[orientation](PIXELS))


def test_exif_data_that_cannot_be_read_do_no_harm(tree):
    first(tree, COLOUR, "0.jpg", exif=b"Exif\0\0garbage!!!")
    assert loaded(tree).notes == ()


def transparent(mode):
    """An image that is all transparent; without its transparency, it is dark."""
    return Image.new(mode, (8, 6), {"LA": (9, 0), "RGBA": (9, 8, 7, 0)}[mode])


def one_level():
    image = Image.new("P", (8, 6), 3)
    image.putpalette([9, 8, 7] * 256)
    return image


@pytest.mark.parametrize(
    ("image", "saving"),
    [
        (transparent("RGBA"), {}),
        (transparent("RGBA"), {"name": "0.webp", "lossless": True, "exact": True}),
        (COLOUR.convert("P"), {"transparency": bytes([0] * 256)}),
        (Image.new("RGB", (8, 6), (9, 8, 7)), {"transparency": (9, 8, 7)}),
        (one_level(), {"name": "0.gif", "transparency": 3}),
    ],
)
def test_what_is_transparent_is_white(tree, image, saving):
    assert (first(tree, image, **saving) == 255).all()


def test_half_transparent_is_half_white(tree):
    assert (
        first(tree, Image.new("RGBA", (8, 6), (0, 100, 200, 51))) == (204, 224, 244)
    ).all()


def test_transparent_grey_is_white_and_grey(tmp_path):
    for half in ("train", "test"):
        paint(tmp_path / half / "a" / "1.png", 6, 8, mode="L")
    transparent("LA").save(tmp_path / "train" / "a" / "0.png")
    data = loaded(tmp_path)
    assert data.shape == (1, 6, 8)
    assert (data.x_train[0] == 255).all()


@pytest.mark.parametrize("name", ["0.tif", "0.gif", "0.webp", "0.png"])
def test_of_several_pages_the_first_is_used_and_that_is_said(tree, name):
    saving = {"lossless": True} if name.endswith("webp") else {}
    more = [Image.fromarray(255 - PIXELS)]
    found = first(tree, COLOUR, name, save_all=True, append_images=more, **saving)
    if not name.endswith("gif"):
        assert np.array_equal(found, PIXELS)
    note = "1 file has several pages; of each the first page is used."
    assert loaded(tree).notes == (note,)


def test_first_pages_of_one_value_are_refused_with_the_pages(tmp_path):
    for half in ("train", "test"):
        folder = tmp_path / half / "a"
        folder.mkdir(parents=True)
        blank = Image.new("L", (8, 8), 7)
        blank.save(
            folder / "0.tif", save_all=True, append_images=[Image.new("L", (8, 8))]
        )
    assert "2 files have several pages" in refused(tmp_path)


@pytest.mark.parametrize("image", [COLOUR.convert("CMYK"), COLOUR.convert("YCbCr")])
def test_colours_of_print_and_film_are_read(tree, image):
    found = first(tree, image, "0.jpg", quality=100, subsampling=0)
    assert np.abs(found.astype(int) - PIXELS).mean() < 4


@pytest.mark.parametrize("name", ["0.jfif", "0.JPG", "0.jpe", "0.png", "0.webp"])
def test_other_endings_and_wrong_ones_are_read(tree, name):
    first(tree, COLOUR, name, format="JPEG")
    assert len(loaded(tree).y_train) == 3


@pytest.mark.parametrize(
    ("content", "cause"),
    [(b"", "cannot identify"), (b"<svg/>", "cannot identify"), (None, "runcated")],
)
def test_what_does_not_decode_is_named(tree, content, cause):
    path = tree / "train" / "a" / "0.jpg"
    COLOUR.save(path)
    path.write_bytes(path.read_bytes()[:-60] if content is None else content)
    assert f"folder: {path} does not decode (" in refused(tree)
    assert cause in refused(tree)


class TestLeftOut:
    @pytest.mark.parametrize(
        ("make", "why"),
        [
            (
                lambda a: COLOUR.save(sub(a) / "0.png"),
                "1 file (1 in folders inside those ",
            ),
            (
                lambda a: COLOUR.save(a.parent / "0.png"),
                "1 file (1 in no folder of a cla",
            ),
            (
                lambda a: (a / "0.png").symlink_to("none"),
                "1 file (1 as links to nowhere).",
            ),
            (
                lambda a: (a.parent / "c").symlink_to("none"),
                "1 file (1 as links to nowh",
            ),
            (lambda a: (a / ".0.png").touch(), "1 file (1 hidden)."),
            (
                lambda a: [(a / name).touch() for name in ("x.heic", "y.txt", "z")],
                "3 files (3 of other kinds than images: .heic, .txt, no ending).",
            ),
            (
                lambda a: os.mkfifo(a / "0.png"),
                "1 file (1 of other kinds than images: .p",
            ),
            (
                lambda a: (a.parents[1] / "val").mkdir(),
                "what is in val beside train and test.",
            ),
        ],
    )
    def test_it_is_counted_in_one_line(self, tree, make, why):
        make(tree / "train" / "a")
        (note,) = loaded(tree).notes
        assert note.startswith(f"Left out of {tree}: {why}")
        assert len(loaded(tree).y_train) == 2

    @pytest.mark.parametrize(
        "name", [".DS_Store", "Thumbs.db", "desktop.ini", "._0.png", "__MACOSX"]
    )
    def test_nobody_misses_what_file_managers_leave(self, tree, name):
        (tree / "train" / "a" / name).touch()
        assert loaded(tree).notes == ()

    def test_links_that_lead_back_are_not_followed(self, tree):
        (tree / "train" / "a" / "loop").symlink_to("..")
        assert loaded(tree).notes == ()

    def test_a_class_may_be_a_link(self, tree):
        for half in ("train", "test"):
            (tree / half / "a").rename(tree / f"{half}-a")
            (tree / half / "a").symlink_to(tree / f"{half}-a")
        assert loaded(tree).classes == ("a", "b")

    def test_test_files_that_are_training_files_are_counted(self, tree):
        shutil.copy(tree / "train" / "a" / "a1.png", tree / "test" / "b" / "x.png")
        (note,) = loaded(tree).notes
        assert note.startswith("1 of 3 test images is equal to training images, byte")


def sub(folder):
    (folder / "more").mkdir()
    return folder / "more"


class TestNames:
    def test_blanks_and_other_scripts(self, tree):
        for half in ("train", "test"):
            (tree / half / "a").rename(tree / half / "my class")
            (tree / half / "b").rename(tree / half / "猫")
        assert loaded(tree).classes == ("my class", "猫")

    @pytest.mark.parametrize("form", ["NFD", "NFC"])
    def test_composed_and_decomposed_are_the_same_class(self, tree, form):
        (tree / "train" / "b").rename(tree / "train" / "café")
        name = unicodedata.normalize(form, "café")
        (tree / "test" / "b").rename(tree / "test" / name)
        data = loaded(tree)
        assert data.classes == ("a", "café")
        assert data.y_test.tolist() == [0, 1]

    def test_both_spellings_in_one_half_are_one_class(self, tree):
        for half in ("train", "test"):
            (tree / half / "b").rename(tree / half / "café")
        twin = tree / "train" / unicodedata.normalize("NFD", "café")
        paint(twin / "x.png", 6, 8)
        assert loaded(tree).y_train.tolist() == [0, 1, 1]

    def test_bytes_that_are_no_text_are_escaped(self, tree):
        for half in ("train", "test"):
            os.rename(tree / half / "b", os.fsencode(tree / half) + b"/caf\xe9")
        assert loaded(tree).classes == ("a", "caf\\xe9")


class TestOneIdentity:
    def test_a_path_has_one_spelling(self, tree, monkeypatch):
        monkeypatch.chdir(tree.parent)
        registry = load_registry()
        spellings = ["mine", "./mine/", str(tree), "../" + tree.parent.name + "/mine"]
        found = {
            resolve(registry, "datasets", f"folder:{path}", {}, "here").shown()
            for path in spellings
        }
        assert found == {"folder[path=mine]"}

    def test_files_are_prepared_once_from_wherever_they_are_named(
        self, tree, monkeypatch
    ):
        def facts():
            reader = Folder(FolderConfig(path=str(tree)))
            return reader.fingerprint(None), reader.key_options()

        before = facts()
        for place in (tree.parent, tree):
            monkeypatch.chdir(place)
            assert facts() == before


class TestMedMNIST:
    @pytest.fixture
    def path(self, tmp_path):
        x = np.random.default_rng(0).integers(0, 256, (9, 8, 8), np.uint8)
        y = (np.arange(9) % 3).astype(np.uint8)[:, None]
        parts = {"train": slice(6), "val": slice(6, 7), "test": slice(6, 9)}
        arrays = {
            f"{half}_{what}": values[part]
            for half, part in parts.items()
            for what, values in (("images", x), ("labels", y))
        }
        np.savez(tmp_path / "bloodmnist.npz", **arrays)
        return tmp_path / "bloodmnist.npz"

    def test_its_names_and_its_labels_are_read(self, path):
        data = loaded(path)
        assert data.y_train.tolist() == [0, 1, 2, 0, 1, 2]
        assert data.y_test.tolist() == [0, 1, 2]
        assert data.notes == (
            f"Left out of {path}: the arrays val_images, val_labels.",
        )

    def test_an_array_that_is_missing_is_called_as_the_others(self, path):
        kept = {k: v for k, v in np.load(path).items() if k != "test_labels"}
        np.savez(path, **kept)
        assert "found no array test_labels (arrays: test_images, " in refused(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"x_train": np.full((4, 8, 8), np.nan)},
            "Some values are NaN; replace these f",
        ),
        (
            {"x_train": np.array([np.zeros((8, 8)), None], object)},
            "cannot be read (Obj",
        ),
        (
            {"y_train": np.array(list("abab"))},
            "y_train of shape 4 and type <U1, expecte",
        ),
        ({"y_train": np.eye(2, dtype=int)[[0, 1, 0, 1]]}, "take argmax(1)."),
        ({"y_train": np.array([True, False] * 2)}, "y_train of shape 4 and type bool"),
        (
            {"x_train": np.zeros((4, 8, 8, 4), np.uint8)},
            "x_train of shape 4x8x8x4, expe",
        ),
    ],
)
def test_arrays_of_other_kinds_are_refused(tmp_path, changes, message):
    x, y = np.zeros((4, 8, 8), np.uint8), np.array([0, 1, 0, 1])
    arrays = {"x_train": x, "y_train": y, "x_test": x, "y_test": y, **changes}
    np.savez(tmp_path / "m.npz", **arrays)
    assert message in refused(tmp_path / "m.npz")


@pytest.mark.parametrize(("option", "value"), [("mean", 127), ("std", 50)])
def test_means_of_another_scale_are_refused(option, value):
    options = {"mean": [0.5], "std": [0.5], option: [value]}
    with pytest.raises(ValueError, match=r"divide those of images in 0\.\.255 by"):
        FolderConfig(path="x", **options)
