"""Tiny-ImageNet from its folder and its zip: lists, classes, images, what is damaged."""

import zipfile

import numpy as np
import published
import pytest
from PIL import Image

from fedkd.datasets import tiny_imagenet
from fedkd.datasets.jpegs import JpegConfig
from fedkd.datasets.published_files import md5
from fedkd.datasets.tiny_imagenet import TinyImageNet
from fedkd.errors import DataError

PART = JpegConfig(partial=True)
WNIDS = published.WNIDS[:5]
ANNOTATIONS = "val/val_annotations.txt"


@pytest.fixture
def root(tmp_path):
    """A folder with 8 training and 2 test images of each of 5 classes."""
    published.write_tiny_imagenet(tmp_path, train=8, val=2, wnids=WNIDS)
    return tmp_path


@pytest.fixture
def zipped(tmp_path):
    """A zip with 3 training images and 1 test image of each of 5 classes."""
    published.write_tiny_imagenet(tmp_path, train=3, val=1, wnids=WNIDS, zipped=True)
    return tmp_path


def error_of(root, config=PART):
    with pytest.raises(DataError) as caught:
        TinyImageNet(config).load(root)
    message = str(caught.value)
    assert message.startswith("tiny-imagenet: ")
    assert "\n" not in message
    return message


def path_of(root, name):
    return root / "tiny-imagenet-200" / name


def rewrite(root, name, old, new):
    path = path_of(root, name)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def pillow(path, size):
    """Return mode and pixels ``[3, size, size]`` of an image as Pillow resizes it."""
    with Image.open(path) as image:
        resized = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
        return image.mode, np.asarray(resized).transpose(2, 0, 1)


@pytest.mark.parametrize("resolution", [32, 64])
def test_images_are_decoded_and_resized(root, resolution):
    data = TinyImageNet(JpegConfig(partial=True, resolution=resolution)).load(root)
    assert data.x_train.shape == (40, 3, resolution, resolution)
    wnid = WNIDS[2]
    path = path_of(root, f"train/{wnid}/images/{wnid}_6.JPEG")
    mode, pixels = pillow(path, resolution)
    assert mode == "L"
    assert np.array_equal(data.x_train[22], pixels)
    mode, pixels = pillow(path_of(root, "val/images/val_3.JPEG"), resolution)
    assert mode == "RGB"
    assert np.array_equal(data.x_test[3], pixels)


def test_labels_are_in_the_order_of_the_wordnet_ids(root):
    data = TinyImageNet(PART).load(root)
    assert path_of(root, "wnids.txt").read_text().split()[0] == WNIDS[4]
    assert data.y_train.tolist() == [label for label in range(5) for _ in range(8)]
    assert data.y_test.tolist() == [0, 4, 3, 2, 1, 0, 4, 3, 2, 1]
    assert data.classes == tuple(f"thing {label}" for label in range(5))


def test_the_constants_and_the_augmentation_are_those_of_mosaics_code(root):
    data = TinyImageNet(PART).load(root)
    assert data.mean == (0.485, 0.456, 0.406)
    assert data.std == (0.229, 0.224, 0.225)
    assert (data.augmentation.pad, data.augmentation.flip) == (4, True)


def test_the_zip_holds_the_same_as_the_folder_that_it_unpacks_to(zipped):
    packed = TinyImageNet(PART).load(zipped)
    with zipfile.ZipFile(zipped / "tiny-imagenet-200.zip") as archive:
        archive.extractall(zipped / "other")
    unpacked = TinyImageNet(PART).load(zipped / "other")
    assert len(packed.x_train) == 15
    assert np.array_equal(packed.x_train, unpacked.x_train)
    assert np.array_equal(packed.x_test, unpacked.x_test)
    assert np.array_equal(packed.y_test, unpacked.y_test)
    assert packed.classes == unpacked.classes


def test_neither_folder_nor_zip_is_an_error(tmp_path):
    assert (
        "neither tiny-imagenet-200.zip nor the folder tiny-imagenet-200 is in "
        f"{tmp_path}. Run 'fedkd data prepare tiny-imagenet --data-root {tmp_path}'"
    ) in error_of(tmp_path)


def test_a_part_of_the_set_is_read_only_if_that_is_said(root):
    message = error_of(root, JpegConfig())
    assert (
        f"{root}/tiny-imagenet-200 holds 40 of 100,000 training and 10 of 10,000 test "
        f"images (of {WNIDS[0]} 8 of 500 and 2 of 50). Run 'fedkd data prepare "
    ) in message
    assert message.endswith("or set the option partial to true to use what is there.")


@pytest.mark.parametrize("name", ["wnids.txt", "words.txt", ANNOTATIONS])
def test_a_missing_list_is_named(root, name):
    path_of(root, name).unlink()
    assert f"{path_of(root, name)} is damaged: found no such file, " in error_of(root)
    with pytest.raises(DataError, match=f"{name} is missing"):
        TinyImageNet().fingerprint(root)


@pytest.mark.parametrize(
    ("name", "old", "new", "problem"),
    [
        (
            ANNOTATIONS,
            f"val_1.JPEG\t{WNIDS[4]}\t0\t32\t44\t62",
            "val_1.JPEG\tn9",
            r"'val_1.JPEG\tn9' in line 2, expected an image, once, and its class in wn",
        ),
        (
            ANNOTATIONS,
            "val_1.JPEG\t",
            "val_1.JPEG ",
            "in line 2, expected an image, on",
        ),
        (ANNOTATIONS, "val_1.JPEG", "val_0.JPEG", "in line 2, expected an image, once"),
        (
            ANNOTATIONS,
            "val_1.JPEG",
            "val_77.JPEG",
            "lines for val_77.JPEG, not in val/images; expected its images only",
        ),
        (
            ANNOTATIONS,
            f"val_2.JPEG\t{WNIDS[3]}\t0\t32\t44\t62\n",
            "",
            "no line for val_2.JPEG, expected one for each image",
        ),
        (
            "words.txt",
            f"{WNIDS[1]}\t",
            f"{WNIDS[1]} ",
            f"no line for {WNIDS[1]}, expected one for each class",
        ),
    ],
)
def test_a_wrong_line_is_named(root, name, old, new, problem):
    rewrite(root, name, old, new)
    message = error_of(root)
    assert f"{path_of(root, name)} is damaged: found " in message
    assert problem in message


def test_a_training_folder_of_an_unknown_class_is_named(root):
    rewrite(root, "wnids.txt", f"{WNIDS[3]}\n", "")
    assert (
        f"{path_of(root, 'train')} is damaged: found {WNIDS[3]}, expected only classes "
        "of wnids.txt."
    ) in error_of(root)


def test_a_class_without_training_images_is_named(root):
    folder = path_of(root, f"train/{WNIDS[3]}")
    folder.rename(root / "elsewhere")
    assert f"{folder}/images is damaged: found no JPEG, expected " in error_of(root)


def test_a_list_without_classes_is_named(root):
    path_of(root, "wnids.txt").write_text("\n")
    assert "wnids.txt is damaged: found no class, expected a WordNet" in error_of(root)


def test_test_images_without_any_line_are_named(root):
    path_of(root, ANNOTATIONS).write_text("")
    assert "val_annotations.txt is damaged: found no line for val_0" in error_of(root)


def jpeg_of(height, width):
    return published.jpeg(published.picture(0, 0, height, width))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "no image, expected a JPEG."),
        (jpeg_of(64, 64)[:900], "an image that does not decode (image file is trunc"),
        (jpeg_of(64, 48), "an image of 64x48 pixels, expected 64x64."),
        (jpeg_of(32, 64), "an image of 32x64 pixels, expected 64x64."),
    ],
)
def test_an_image_that_is_damaged_or_of_another_size_is_named(root, content, problem):
    path = path_of(root, "val/images/val_4.JPEG")
    path.write_bytes(content)
    assert f"{path} is damaged: found {problem}" in error_of(root)
    with pytest.raises(DataError, match=r"val_4\.JPEG is damaged"):
        TinyImageNet(PART).check(root)


def test_every_way_to_damage_an_image_is_a_sentence_or_harmless(root):
    path = path_of(root, "val/images/val_4.JPEG")
    whole = path.read_bytes()
    source = TinyImageNet(PART).open(root)
    rng = np.random.default_rng(0)
    messages = []
    for _ in range(300):
        content = bytearray(whole)
        content[rng.integers(len(content))] ^= 1 << rng.integers(8)
        path.write_bytes(content[: rng.integers(1, len(content))])
        try:
            source.test.read(4, 5)
        except DataError as error:
            messages.append(str(error))
    assert len(messages) > 250
    assert all(f"{path} is damaged: found " in message for message in messages)


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_truncated_zip_is_named(zipped, share):
    path = zipped / "tiny-imagenet-200.zip"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert f"{path} is damaged: found no readable zip (" in error_of(zipped)


def test_a_damaged_file_in_a_zip_is_named(zipped):
    path = zipped / "tiny-imagenet-200.zip"
    name = "tiny-imagenet-200/val/images/val_2.JPEG"
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo(name).header_offset + 30 + len(name)
    content = bytearray(path.read_bytes())
    content[start + 500] ^= 0xFF
    path.write_bytes(content)
    assert f"{path}/{name} is damaged: found no readable file (" in error_of(zipped)


def test_a_zip_of_something_else_is_named(tmp_path):
    published.write_zip(tmp_path / "tiny-imagenet-200.zip", {"other.txt": b""})
    assert "zip/tiny-imagenet-200/wnids.txt is damaged: found no such" in error_of(
        tmp_path
    )


def test_the_zip_must_have_the_published_size_and_checksum(zipped, monkeypatch):
    path = zipped / "tiny-imagenet-200.zip"
    size = path.stat().st_size
    message = error_of(zipped, JpegConfig())
    assert f"{path} is damaged: found {size:,} bytes, expected 248,100,043." in message
    monkeypatch.setattr(tiny_imagenet, "ARCHIVE_BYTES", size)
    message = error_of(zipped, JpegConfig())
    expected = "90528d7ca1a48142e341f4ef8d21d0de"
    assert f"{path} is damaged: found MD5 {md5(path)}, expected {expected}." in message
    monkeypatch.setattr(tiny_imagenet, "ARCHIVE_MD5", md5(path))
    message = error_of(zipped, JpegConfig())
    assert f"{path} holds 15 of 100,000 training and 5 of 10,000 test images" in message


def test_a_whole_set_is_read_without_an_option(root, monkeypatch):
    monkeypatch.setattr(TinyImageNet, "images_a_class", (8, 2))
    assert "(5 of 200 classes). Run " in error_of(root, JpegConfig())
    monkeypatch.setattr(TinyImageNet, "classes", 5)
    data = TinyImageNet().load(root)
    assert (len(data.x_train), len(data.x_test)) == (40, 10)
    path_of(root, f"train/{WNIDS[1]}/images/{WNIDS[1]}_0.JPEG").unlink()
    assert f"(of {WNIDS[1]} 7 of 8 and 2 of 2)" in error_of(root, JpegConfig())


def test_preparing_fetches_the_zip_and_keeps_what_was_damaged(zipped, monkeypatch):
    path = zipped / "tiny-imagenet-200.zip"
    whole = path.read_bytes()
    path.write_bytes(whole[:1000])
    asked = []

    def fetch(url, place, checksum):
        asked.append((url, place, checksum))
        place.write_bytes(whole)

    monkeypatch.setattr(tiny_imagenet, "fetch", fetch)
    TinyImageNet(PART).prepare(zipped)
    TinyImageNet(PART).prepare(zipped)
    assert asked == [
        (
            "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
            path,
            "90528d7ca1a48142e341f4ef8d21d0de",
        )
    ]
    assert path.read_bytes() == whole
    kept = zipped / "tiny-imagenet-200.zip.damaged"
    assert kept.read_bytes() == whole[:1000]


def test_the_fingerprint_changes_with_the_files(root):
    reader = TinyImageNet()
    found = {reader.fingerprint(root)}
    path_of(root, f"train/{WNIDS[0]}/images/new.JPEG").touch()
    found.add(reader.fingerprint(root))
    path_of(root, "val/images/val_0.JPEG").unlink()
    found.add(reader.fingerprint(root))
    (root / "tiny-imagenet-200.zip").write_bytes(b"x")
    found.add(reader.fingerprint(root))
    assert len(found) == 4


@pytest.mark.data
def test_the_real_subset_has_ten_training_and_five_test_images_a_class(data_folder):
    if not (data_folder / "tiny-imagenet-200").is_dir():
        pytest.skip("FEDKD_DATA holds no folder tiny-imagenet-200")
    labels = TinyImageNet(PART).open(data_folder)
    if len(labels.train.labels) != 2000:
        pytest.skip("FEDKD_DATA holds another part of Tiny-ImageNet")
    data = TinyImageNet(PART).load(data_folder)
    assert data.y_train.bincount().tolist() == [10] * 200
    assert data.y_test.bincount().tolist() == [5] * 200
    assert data.classes[0] == "goldfish"
    assert data.classes[199] == "acorn"
    message = error_of(data_folder, JpegConfig())
    assert "2,000 of 100,000 training and 1,000 of 10,000 test images" in message
