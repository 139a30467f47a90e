"""FOOD101 through torchvision's reader, on a small folder in the published format."""

import http.server
import json
import tarfile
import threading

import numpy as np
import published
import pytest
from PIL import Image
from torchvision import datasets as readers
from torchvision import transforms

from fedkd.datasets import food101
from fedkd.datasets.food101 import Food101
from fedkd.datasets.jpegs import JpegConfig
from fedkd.datasets.published_files import md5
from fedkd.errors import DataError

PART = JpegConfig(partial=True)
DISHES = ("apple_pie", "baby_back_ribs", "pho")


@pytest.fixture
def root(tmp_path):
    published.write_food101(tmp_path, train=4, test=2, classes=DISHES)
    return tmp_path


def error_of(root, config=PART):
    with pytest.raises(DataError) as caught:
        Food101(config).load(root)
    message = str(caught.value)
    assert message.startswith("food101: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize("resolution", [32, 64])
def test_images_are_those_of_torchvisions_reader_and_resize(root, resolution):
    data = Food101(JpegConfig(partial=True, resolution=resolution)).load(root)
    resize = transforms.Compose(
        [transforms.Resize((resolution, resolution)), transforms.PILToTensor()]
    )
    for half, x, y in (
        ("train", data.x_train, data.y_train),
        ("test", data.x_test, data.y_test),
    ):
        reader = readers.Food101(root, half, transform=resize)
        assert len(x) == len(reader)
        for i in range(len(reader)):
            expected, label = reader[i]
            assert np.array_equal(x[i], expected)
            assert int(y[i]) == label


def test_labels_are_in_the_order_of_the_class_names(root):
    data = Food101(PART).load(root)
    assert data.classes == DISHES
    assert data.y_train.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert data.y_test.tolist() == [0, 0, 1, 1, 2, 2]


def test_the_constants_are_those_of_mosaics_code(root):
    data = Food101(PART).load(root)
    assert data.mean == (0.5071, 0.4865, 0.4409)
    assert data.std == (0.2673, 0.2564, 0.2762)
    assert (data.augmentation.pad, data.augmentation.flip) == (0, False)


def test_grey_images_become_colour(root):
    path = root / "food-101/images/pho/10002.jpg"
    assert path.is_file()
    Image.open(path).convert("L").save(path)
    x = Food101(PART).load(root).x_train
    assert np.array_equal(x[8, 0], x[8, 2])


def test_a_part_of_the_set_is_read_only_if_that_is_said(root):
    message = error_of(root, JpegConfig())
    assert (
        f"{root}/food-101 holds 12 of 75,750 training and 6 of 25,250 test images "
        "(of apple_pie 4 of 750 and 2 of 250). Run 'fedkd data prepare food101 "
    ) in message
    assert "or set the option partial to true" in message


@pytest.mark.parametrize("name", ["classes.txt", "train.json", "test.json"])
def test_a_missing_annotation_is_named(root, name):
    (root / "food-101/meta" / name).unlink()
    message = error_of(root)
    assert f"{root}/food-101/meta/{name} is damaged: found no such file, " in message


@pytest.mark.parametrize("folder", ["meta", "images"])
def test_a_missing_folder_is_named(root, folder):
    (root / "food-101" / folder).rename(root / "elsewhere")
    assert f"food-101/{folder} not in {root}. Run " in error_of(root)


@pytest.mark.parametrize("content", ["{", "[1, 2]", "3", '{"pho": 3}'])
def test_an_annotation_that_is_no_list_is_named(root, content):
    (root / "food-101/meta/train.json").write_text(content)
    message = error_of(root)
    assert "meta/train.json is damaged: found no list of images by class (" in message


def test_an_annotation_that_is_no_text_is_named(root):
    (root / "food-101/meta/test.json").write_bytes(b"\xff\xfe\xfa")
    assert "meta/test.json is damaged: found no text (" in error_of(root)


def change(root, **changes):
    path = root / "food-101/meta/test.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_an_annotation_of_an_unknown_class_is_named(root):
    change(root, pizza=["pho/10002"])
    assert (
        "meta/test.json is damaged: found other classes than in meta/classes.txt "
        "(pizza), expected the same."
    ) in error_of(root)


def test_an_annotation_of_an_unknown_image_is_named(root):
    change(root, pho=["pho/7"])
    assert (
        "meta/test.json is damaged: found the image images/pho/7.jpg of the class pho, "
        "expected only files in images/pho."
    ) in error_of(root)


def test_an_annotation_with_the_class_of_another_image_is_named(root):
    change(root, pho=["apple_pie/10000"])
    assert "images/apple_pie/10000.jpg of the class pho, expected" in error_of(root)


def test_an_annotation_without_images_is_named(root):
    change(root, **{name: [] for name in DISHES})
    assert "meta/test.json is damaged: found no image, expected at" in error_of(root)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "no image, expected a JPEG"),
        (b"a page of HTML", "no image, expected a JPEG"),
        (None, "an image that does not decode (image file is truncated"),
    ],
)
def test_an_image_that_does_not_decode_is_named(root, content, problem):
    path = root / "food-101/images/pho/10103.jpg"
    path.write_bytes(path.read_bytes()[:700] if content is None else content)
    assert f"{path} is damaged: found {problem}" in error_of(root)
    with pytest.raises(DataError, match=r"10103\.jpg is damaged"):
        Food101(PART).check(root)
    Food101(PART).verify(root)  # only looks at the lists


def test_an_image_that_vanishes_after_the_set_was_opened_is_named(root):
    source = Food101(PART).open(root)
    (root / "food-101/images/pho/10103.jpg").unlink()
    with pytest.raises(DataError, match=r"10103\.jpg is damaged: found no readable fi"):
        source.train.read(0, 12)


def test_the_fingerprint_changes_with_the_lists_and_the_folders(root):
    found = {Food101().fingerprint(root)}
    change(root, pho=[])
    found.add(Food101().fingerprint(root))
    (root / "food-101/images/pho/1.jpg").touch()
    found.add(Food101().fingerprint(root))
    assert len(found) == 3


@pytest.fixture
def served(tmp_path, monkeypatch):
    """The folder that the address of the set leads to."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(folder))

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/food-101.tar.gz"
        monkeypatch.setattr(Food101, "url", url)
        yield folder
        server.shutdown()
        thread.join()


def test_the_archive_is_fetched_checked_and_unpacked(root, served, monkeypatch):
    archive = served / "food-101.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(root / "food-101", "food-101")
    monkeypatch.setattr(food101, "ARCHIVE_MD5", md5(archive))
    new = root / "new"
    new.mkdir()
    Food101(PART).prepare(new)
    names = sorted(path.name for path in new.iterdir())
    assert names == ["food-101", "food-101.tar.gz", "food101.lock"]
    assert len(Food101(PART).load(new).x_train) == 12
    # What is left of an unpacking that was interrupted is not taken for the set; the
    # archive is not fetched again.
    (new / "food-101").rename(new / "food-101.part")
    archive.unlink()
    Food101(PART).prepare(new)
    assert sorted(path.name for path in new.iterdir()) == names


def test_a_damaged_folder_is_kept_aside(root, served, monkeypatch):
    archive = served / "food-101.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(root / "food-101", "food-101")
    monkeypatch.setattr(food101, "ARCHIVE_MD5", md5(archive))
    (root / "food-101/meta/test.json").unlink()
    Food101(PART).prepare(root)
    assert len(Food101(PART).load(root).x_test) == 6
    assert (root / "food-101.damaged/meta/train.json").is_file()


def test_an_archive_with_another_checksum_is_refused(root, served):
    (served / "food-101.tar.gz").write_bytes(b"a page of HTML")
    before = sorted((root / "food-101").rglob("*"))
    with pytest.raises(DataError) as caught:
        Food101().prepare(root)
    message = str(caught.value)
    assert message.startswith("food101 could not be downloaded: ")
    assert "(MD5 85eeb15f3717b99a5da872d97d918f87) and unpack it into" in message
    assert sorted((root / "food-101").rglob("*")) == before
    assert not (root / "food-101.tar.gz").exists()
