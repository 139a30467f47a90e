"""Your own images: what reading costs, labels far out of range, grey palettes."""

import os
import sys
import tracemalloc

import numpy as np
import pytest
import torch
from PIL import Image
from test_folder import loaded, opened, paint, refused

from fedkd.datasets.folder import contents, files
from fedkd.datasets.folder.dataset import Folder, FolderConfig


@pytest.fixture
def arrays(tmp_path):
    def write(**changes):
        x = np.random.default_rng(0).integers(0, 256, (6, 4, 5)).astype(np.uint8)
        y = np.array([0, 1, 2, 0, 1, 2])
        content = {"x_train": x, "y_train": y, "x_test": x, "y_test": y, **changes}
        np.savez(tmp_path / "mine.npz", **content)
        return tmp_path / "mine.npz"

    return write


class TestMemory:
    @pytest.mark.parametrize("last", [True, False])
    def test_resizing_copies_no_more_than_an_image_at_a_time(self, arrays, last):
        side, number = 256, 60
        shape = (side, side, 3) if last else (3, side, side)
        x = np.zeros((number, *shape), np.uint8)
        x[:, 0, 0, 0] = 255
        y = np.arange(number) % 2
        train = opened(
            arrays(x_train=x, y_train=y, x_test=x[:2], y_test=y[:2]),
            resolution=8,
            mean=[0.5] * 3,
            std=[0.5] * 3,
        ).train
        copied = []
        contiguous = torch.Tensor.contiguous
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                torch.Tensor,
                "contiguous",
                lambda t, **k: copied.append(t.numel()) or contiguous(t, **k),
            )
            tracemalloc.start()  # counts NumPy's and Pillow's bytes, not torch's
            images = train.read(0, number)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert images.shape == (number, 3, 8, 8)
        assert max([peak, *copied]) < 4 * 3 * side**2

    def test_the_pixels_are_those_of_each_image_alone(self, arrays):
        x = np.random.default_rng(3).integers(0, 256, (6, 9, 7, 3)).astype(np.uint8)
        data = loaded(arrays(x_train=x, x_test=x), resolution=5, channels=1)
        for pixels, found in zip(x, data.x_train, strict=True):
            image = Image.fromarray(pixels).convert("L")
            expected = image.resize((5, 5), Image.Resampling.BILINEAR)
            assert np.array_equal(found[0].numpy(), np.asarray(expected))


class TestLabels:
    @pytest.mark.parametrize("outlier", [3, 10**7, 2**32 - 1, 2**40, 2**64 - 1])
    def test_one_far_out_is_named_with_its_place(self, arrays, outlier):
        y = np.array([0, 1, 2, 0, outlier + 1 if outlier == 3 else outlier, 2], "u8")
        path = arrays(y_train=y)
        tracemalloc.start()
        message = refused(path)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert message == (
            f"folder: {path}: found the label {y[4]} at y_train[4], but no training "
            "image of the class '3' (label 3), expected labels from 0 without a gap."
        )
        assert peak < 2_000_000

    @pytest.mark.parametrize("outlier", [3, 2**40, 2**64 - 1])
    def test_one_far_out_in_the_test_half_is_named_too(self, arrays, outlier):
        y = np.array([0, 1, outlier, 0, 1, 2], "u8")
        path = arrays(y_test=y)
        assert (
            f"folder: {path}: found the label {outlier} at y_test[2], expected labels "
            "from 0 to 2." in refused(path)
        )

    def test_with_names_the_names_say_how_many_there_are(self, arrays):
        y = np.array([0, 1, 2, 0, 1, 2**40])
        path = arrays(y_train=y, classes=np.array(["a", "b", "c"]))
        assert "the label 1099511627776 at y_train[5], expected labels from 0 to 2" in (
            refused(path)
        )

    def test_small_types_of_labels_are_read(self, arrays):
        y = np.array([0, 1, 2, 0, 1, 2], np.uint8)
        data = loaded(arrays(y_train=y, y_test=y.astype(np.int8)))
        assert data.y_train.dtype == data.y_test.dtype == torch.int64
        assert data.y_train.tolist() == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize("shape", [(6, 0, 8), (6, 8, 0), (6, 3, 0, 0), (6, 0, 8, 3)])
def test_images_without_pixels_are_refused(arrays, shape):
    path = arrays(x_train=np.zeros(shape, np.uint8))
    assert refused(path) == (
        f"folder: {path}: found x_train of shape {'x'.join(map(str, shape))}, expected "
        "images of at least one pixel."
    )


@pytest.fixture
def tree(tmp_path):
    for half in ("train", "test"):
        for number in range(3):
            paint(tmp_path / "pets" / half / "cat" / f"{number}.png", mode="L")
    return tmp_path / "pets"


def save_palette(path, levels, indices=((0, 1), (2, 1))):
    image = Image.fromarray(np.array(indices, np.uint8).repeat(2, 0).repeat(2, 1), "P")
    image.putpalette([value for level in levels for value in level])
    image.save(path)
    return np.array(levels, np.uint8)[np.asarray(image)]


class TestPalettes:
    def test_a_grey_palette_among_grey_images_is_grey(self, tree):
        path = tree / "train" / "cat" / "1.png"
        pixels = save_palette(path, [(9, 9, 9), (200, 200, 200), (77, 77, 77)])
        with Image.open(path) as image:
            assert image.mode == "P"
        data = loaded(tree)
        assert data.shape == (1, 4, 4)
        assert np.array_equal(data.x_train[1, 0].numpy(), pixels[..., 0])

    def test_a_grey_palette_in_the_first_image_makes_all_grey(self, tree):
        save_palette(tree / "train" / "cat" / "0.png", [(9,) * 3, (8,) * 3, (7,) * 3])
        assert loaded(tree).shape == (1, 4, 4)

    def test_a_palette_of_colours_among_grey_images_is_refused(self, tree):
        path = tree / "train" / "cat" / "1.png"
        save_palette(path, [(9, 9, 9), (200, 100, 200), (77, 77, 77)])
        assert f"{path} is in colour and " in refused(tree)

    def test_a_palette_of_colours_in_the_first_image_makes_all_colour(self, tree):
        colours = [(9, 9, 9), (200, 100, 200), (77, 77, 77)]
        pixels = save_palette(tree / "train" / "cat" / "0.png", colours)
        data = loaded(tree)
        assert np.array_equal(data.x_train[0].numpy(), pixels.transpose(2, 0, 1))

    def test_images_prepared_before_are_prepared_again(self):
        assert Folder.preparation == 4


class TestContentsOnce:
    @pytest.fixture
    def reads(self, monkeypatch):
        """The calls that read files; files settle at once."""
        monkeypatch.setattr(contents, "SETTLED", -(10**12))
        calls = []
        read = files.digest_of

        def counted(folder):
            calls.append(folder)
            return read(folder)

        monkeypatch.setattr(files, "digest_of", counted)
        return calls

    def of(self, path):
        return Folder(FolderConfig(path=str(path))).content()

    def test_files_that_do_not_change_are_read_once(self, tree, reads):
        assert self.of(tree) == self.of(tree)
        assert len(reads) == 1

    def test_files_that_change_are_read_again(self, tree, reads):
        before = self.of(tree)
        paint(tree / "train" / "cat" / "new.png", mode="L")
        assert self.of(tree) != before
        assert len(reads) == 2

    def test_a_change_with_the_old_size_and_time_is_seen(self, tree, reads):
        before = self.of(tree)
        path = tree / "train" / "cat" / "0.png"
        times, content = path.stat(), bytearray(path.read_bytes())
        content[-20] ^= 1
        path.with_name("other").write_bytes(content)
        path.with_name("other").replace(path)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert self.of(tree) != before

    def test_files_that_were_just_written_are_not_trusted(
        self, tree, reads, monkeypatch
    ):
        monkeypatch.setattr(contents, "SETTLED", 10**12)
        self.of(tree)
        self.of(tree)
        assert len(reads) == 2


def test_a_stamp_looks_at_each_file_once_and_makes_no_paths(tree, monkeypatch):
    looked = []
    stat = os.stat
    monkeypatch.setattr(os, "stat", lambda *a, **k: looked.append(a) or stat(*a, **k))
    Folder(FolderConfig(path=str(tree))).fingerprint(tree)
    assert not [a for a in looked if str(a[0]).endswith(".png")]


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
def test_names_that_are_no_text_are_stamped_and_read(tree):
    os.rename(
        os.fsencode(tree / "train/cat/0.png"),
        os.fsencode(tree / "train/cat") + b"/\xff.png",
    )
    found = Folder(FolderConfig(path=str(tree)))
    assert len(found.fingerprint(tree)) == 32
    assert len(found.content()) == 16
