"""Writes small data sets in the exact formats of the published ones; knows no fedkd.

For the sets whose files are not at hand. Images are a colour of their class and noise,
so that a model can learn them. Tests import this module by its name: pyproject.toml puts
this folder on their path.
"""

import io
import json
import zipfile

import numpy as np
import scipy.io
from PIL import Image

WNIDS = tuple(f"n{1440000 + 37 * number:08d}" for number in range(200))
DISHES = tuple(f"dish_{number:03d}" for number in range(101))


def picture(label, number, height=32, width=32):
    """Return an image uint8 ``[height, width, 3]``, the same for the same arguments."""
    rng = np.random.default_rng([label, number])
    colour = np.random.default_rng(label).integers(40, 216, 3)
    noise = rng.integers(-40, 41, (height, width, 3))
    return (colour + noise).clip(0, 255).astype(np.uint8)


def jpeg(pixels, mode="RGB"):
    """Return the bytes of a JPEG of these pixels."""
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "JPEG", quality=95)
    return file.getvalue()


def write_svhn(root, train=40, test=20):
    """Write ``train_32x32.mat`` and ``test_32x32.mat`` with images of digits in turn.

    MATLAB v5, compressed: X uint8 ``[32, 32, 3, N]`` and y uint8 ``[N, 1]``, 10 for the
    digit 0.
    """
    root.mkdir(parents=True, exist_ok=True)
    for name, number, start in (("train", train, 0), ("test", test, train)):
        digits = np.arange(number) % 10
        images = [picture(d, start + i) for i, d in enumerate(digits)]
        content = {
            "X": np.stack(images, axis=-1),
            "y": np.where(digits == 0, 10, digits)[:, None].astype(np.uint8),
        }
        scipy.io.savemat(root / f"{name}_32x32.mat", content, do_compression=True)


def write_food101(root, train=2, test=1, classes=DISHES):
    """Write the folder ``food-101`` with so many images of each class.

    ``images/<class>/<id>.jpg`` of many sizes, and ``meta`` with ``classes.txt``,
    ``labels.txt`` and, as ``.txt`` and ``.json``, ``train`` and ``test``.
    """
    folder = root / "food-101"
    (folder / "meta").mkdir(parents=True)
    halves = {"train": {}, "test": {}}
    for label, name in enumerate(classes):
        (folder / "images" / name).mkdir(parents=True)
        for number in range(train + test):
            # Ids of the published files are of the site that they were found on.
            stem = f"{name}/{10_000 + 101 * number + label}"
            sides = (48, 64) if number % 2 else (64, 40)
            content = jpeg(picture(label, number, *sides))
            (folder / "images" / f"{stem}.jpg").write_bytes(content)
            half = "train" if number < train else "test"
            halves[half].setdefault(name, []).append(stem)
    titles = [name.replace("_", " ").capitalize() for name in classes]
    texts = {"classes.txt": classes, "labels.txt": titles}
    for half, listed in halves.items():
        texts[f"{half}.txt"] = [stem for stems in listed.values() for stem in stems]
        (folder / "meta" / f"{half}.json").write_text(json.dumps(listed))
    for name, lines in texts.items():
        (folder / "meta" / name).write_text("".join(f"{line}\n" for line in lines))


def write_tiny_imagenet(root, train=2, val=1, wnids=WNIDS, *, zipped=False):
    """Write the folder ``tiny-imagenet-200``, or its zip, with so many of each class.

    ``train/<wnid>/images/*.JPEG`` and ``<wnid>_boxes.txt``, ``val/images/*.JPEG`` and
    ``val_annotations.txt``, ``test/images`` without labels, ``wnids.txt``, ``words.txt``.
    Every seventh image is grey.
    """
    files = {}
    lines = []
    for label, wnid in enumerate(wnids):
        boxes = []
        for number in range(train):
            files[f"train/{wnid}/images/{wnid}_{number}.JPEG"] = _tiny(label, number)
            boxes.append(f"{wnid}_{number}.JPEG\t0\t0\t62\t62\n")
        files[f"train/{wnid}/{wnid}_boxes.txt"] = "".join(boxes).encode()
    for number in range(val * len(wnids)):
        label = -number % len(wnids)  # not in the order of the classes
        files[f"val/images/val_{number}.JPEG"] = _tiny(label, train + number)
        lines.append(f"val_{number}.JPEG\t{wnids[label]}\t0\t32\t44\t62\n")
    files["val/val_annotations.txt"] = "".join(lines).encode()
    files["test/images/test_0.JPEG"] = _tiny(0, 0)
    files["wnids.txt"] = "".join(f"{wnid}\n" for wnid in reversed(wnids)).encode()
    words = [f"{w}\tthing {i}, Res {i}\n" for i, w in enumerate(wnids)]
    files["words.txt"] = "".join(["n00001740\tentity\n", *words]).encode()
    if zipped:
        write_zip(root / "tiny-imagenet-200.zip", files)
        return
    for name, content in files.items():
        path = root / "tiny-imagenet-200" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def write_zip(path, files):
    """Write a zip of ``{name: bytes}`` below its folder ``tiny-imagenet-200``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(f"tiny-imagenet-200/{name}", content)


def _tiny(label, number):
    mode = "L" if number % 7 == 6 else "RGB"
    return jpeg(picture(label, number, 64, 64), mode)
