"""Images and labels as arrays in a NumPy file, called as Keras or MedMNIST call them."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fedkd.data.checks import repeated, repeats
from fedkd.data.dataset import Split
from fedkd.data.groups import Groups
from fedkd.datasets.folder.images import Form, fitted
from fedkd.errors import DataError, listing

KEYS = ("x_train", "y_train", "x_test", "y_test")
SPELLINGS = (
    KEYS,  # Keras
    ("train_images", "train_labels", "test_images", "test_labels"),  # MedMNIST
)
"""What the arrays of both halves are called, in small or capital letters."""
_CHUNK = 1 << 20
GROUPS = ("groups_train", "groups_test")
"""What the arrays are called that say whose each image is."""
CHANNELS = (1, 3)
"""Numbers of channels that images may have."""
_READING = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error)
"""What NumPy raises on files that are damaged or of another kind."""

Labelled: TypeAlias = tuple[Tensor, Tensor]
"""Images uint8 ``[N, C, H, W]`` and labels int64 ``[N]``."""


@dataclass(frozen=True)
class Arrays:
    """What a file holds."""

    train: Labelled
    test: Labelled
    classes: tuple[str, ...]
    """Class names; label ``c`` is ``classes[c]``."""
    notes: tuple[str, ...]
    """What is to be said of the file."""
    groups: Groups | None = None
    """Whose each image is; None if the file does not say."""


def read_arrays(path: Path) -> Arrays:
    """Read both halves and the class names.

    Raises:
        DataError: If an array is missing, of another type or shape, or a label is no
            class; names the file and the array.
    """
    stored, rest = _loaded(path)
    names = stored.pop("classes", None)
    given = {key: stored.pop(key) for key in GROUPS if key in stored}
    keys = list(stored)  # those of the images and labels of both halves, in turn
    x_train, x_test = (_images(path, key, stored[key]) for key in keys[::2])
    labels = {key: _labels(path, key, stored[key]) for key in keys[1::2]}
    for x_key, (key, y), x in zip(
        keys[::2], labels.items(), (x_train, x_test), strict=True
    ):
        if len(x) != len(y) or not len(x):
            raise _wrong(
                path,
                f"{len(x)} images in {x_key} and {len(y)} labels in {key}",
                "a label for each image, and at least one",
            )
    if x_train.shape[1:] != x_test.shape[1:]:
        shapes = " and ".join(_shown(x.shape[1:]) for x in (x_train, x_test))
        problem = f"training and test images of {shapes} (channels, height, width)"
        raise _wrong(path, problem, "one shape")
    classes = _classes(path, names, keys[1], labels[keys[1]])
    _require_in_range(path, labels, len(classes))
    _require_every_class(path, labels[keys[1]], classes)
    y_train, y_test = (torch.from_numpy(y.astype(np.int64)) for y in labels.values())
    notes = [f"Left out of {path}: the arrays {listing(rest)}."] if rest else []
    notes += repeats(repeated(x_train, x_test), len(x_test))
    groups = _groups(path, given, {"train": len(x_train), "test": len(x_test)})
    return Arrays((x_train, y_train), (x_test, y_test), classes, tuple(notes), groups)


def digest_of(path: Path) -> str:
    """Return 16 digits that change with the bytes of the file only.

    Raises:
        OSError: If it cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()[:16]


def form_like(path: Path, x: Tensor, channels: int | None, size: int | None) -> Form:
    """Return what images become: as ``x``, ``[N, C, H, W]``, where nothing is asked."""
    own, height, width = x.shape[1:]
    return Form(
        channels=channels or own,
        height=size or height,
        width=size or width,
        resized=size is not None,
        asked=channels is not None,
        model=str(path),
    )


def split_of(half: Labelled, form: Form) -> Split:
    """Return a half whose images are brought into their form when they are read."""
    x, y = half

    def read(start: int, stop: int) -> Tensor:
        piece = x[start:stop]
        if piece.shape[1:] == form.shape:
            return piece.contiguous()
        # One by one: callers bound a piece by what images become, not by what they are.
        made = torch.empty((len(piece), *form.shape), dtype=torch.uint8)
        for place, one in zip(made, piece, strict=True):
            place.copy_(fitted(_image(one), form))
        return made

    return Split(y, form.shape, read)


def _loaded(path: Path) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """Return the arrays that are of use, in the order of :data:`KEYS`, then the others.

    And the names of the others. Whatever is pickled is refused.
    """
    if not zipfile.is_zipfile(path):
        raise _wrong(path, "no .npz file", "one as numpy.savez writes it")
    name = ""
    try:
        with np.load(path, allow_pickle=False) as stored:
            names = _names(path, stored.files)
            arrays = {}
            for name in names:
                arrays[name] = np.asarray(stored[name])
            return arrays, sorted(set(stored.files) - set(names))
    except _READING as error:
        cause = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        what = f"{name} that cannot be read" if name else "a file that cannot be read"
        raise _wrong(path, f"{what} ({cause})", "plain arrays") from error


def _names(path: Path, there: Sequence[str]) -> list[str]:
    """Return what the arrays of use are called in a file."""
    known = {name.lower(): name for name in there}
    by_likeness = sorted(SPELLINGS, key=lambda keys: -len(set(keys) & set(known)))
    keys = by_likeness[0]
    missing = [key for key in keys if key not in known]
    if missing:
        problem = (
            f"no array {listing(missing)} (arrays: {listing(sorted(there)) or 'none'})"
        )
        raise _wrong(path, problem, " or ".join(map(listing, SPELLINGS)))
    also = [name for name in ("classes", *GROUPS) if name in there]
    return [known[key] for key in keys] + also


def _images(path: Path, key: str, array: NDArray[Any]) -> Tensor:
    """Return images as uint8 ``[N, C, H, W]``, a view where that is possible."""
    if array.dtype != np.uint8:
        hint = " Scale images to 0..255, round them and convert them."
        if array.dtype.kind == "f" and np.isnan(array).any():
            hint = " Some values are NaN; replace these first."
        raise _wrong(path, f"{key} of type {array.dtype}", "uint8 in 0..255", hint)
    if array.ndim in (3, 4) and 0 in array.shape[1:]:
        problem = f"{key} of shape {_shown(array.shape)}"
        raise _wrong(path, problem, "images of at least one pixel")
    x = torch.from_numpy(array)
    if array.ndim == 3:
        return x.unsqueeze(1)
    if array.ndim == 4:
        first, last = (array.shape[axis] in CHANNELS for axis in (1, 3))
        if first != last:
            return x if first else x.permute(0, 3, 1, 2)
    raise _wrong(
        path,
        f"{key} of shape {_shown(array.shape)}",
        "[N, H, W], [N, H, W, C] or [N, C, H, W], where C is 1 or 3 and the only axis "
        "but N that can be it",
    )


def _labels(path: Path, key: str, y: NDArray[Any]) -> NDArray[Any]:
    """Return labels ``[N]``, of whole numbers; they may be stored as ``[N, 1]``."""
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1 or y.dtype.kind not in "iu":
        problem = f"{key} of shape {_shown(y.shape)} and type {y.dtype}"
        hint = " Of one-hot labels, take argmax(1)." if y.ndim == 2 else ""
        raise _wrong(path, problem, "whole numbers of shape [N] or [N, 1]", hint)
    return y


def _classes(
    path: Path, names: NDArray[Any] | None, key: str, y_train: NDArray[Any]
) -> tuple[str, ...]:
    """Return the class names: as given, or the labels, of which none is left out."""
    if names is None:
        _require_in_range(path, {key: y_train}, None)
        labels = np.unique(y_train)
        gaps = np.flatnonzero(labels != np.arange(len(labels)))
        if len(gaps):  # before names are made: a label may be as large as 2^64
            missing, label = gaps[0], labels[gaps[0]]
            raise _wrong(
                path,
                f"the label {label} at {key}[{_first(y_train == label)}], but no "
                f"training image of the class '{missing}' (label {missing})",
                "labels from 0 without a gap",
            )
        return tuple(str(label) for label in range(len(labels)))
    if names.ndim != 1 or names.dtype.kind not in "Uiu":
        problem = f"classes of shape {_shown(names.shape)} and type {names.dtype}"
        raise _wrong(path, problem, "texts of shape [C]")
    given = tuple(str(name) for name in names)
    if len(set(given)) < len(given):
        raise _wrong(path, "a name twice in classes", "each name once")
    return given


def _require_in_range(
    path: Path, labels: Mapping[str, NDArray[Any]], classes: int | None
) -> None:
    """Make sure that labels are at least 0, and below ``classes`` if that is known."""
    for key, y in labels.items():
        wrong = (y < 0) | (False if classes is None else y >= classes)
        if wrong.any():
            position = _first(wrong)
            upper = "" if classes is None else f" to {classes - 1}"
            raise _wrong(
                path,
                f"the label {y[position]} at {key}[{position}]",
                f"labels from 0{upper}",
                " Without an array 'classes', training labels say which there are.",
            )


def _require_every_class(
    path: Path, y_train: NDArray[Any], classes: tuple[str, ...]
) -> None:
    absent = np.setdiff1d(np.arange(len(classes)), y_train)
    if len(absent):
        label = int(absent[0])
        raise _wrong(
            path,
            f"no training image of the class {classes[label]!r} (label {label})",
            f"some of each class, labels from 0 to {len(classes) - 1}",
        )


def _groups(
    path: Path, given: Mapping[str, NDArray[Any]], sizes: Mapping[str, int]
) -> Groups | None:
    """Return the groups of a file, whose arrays are names: texts or whole numbers."""
    if not given:
        return None
    for key, (half, size) in zip(GROUPS, sizes.items(), strict=True):
        if key not in given:
            raise _wrong(path, f"no array {key}", f"both of {listing(GROUPS)}, or none")
        array = given[key]
        if array.shape != (size,) or array.dtype.kind not in "Uiu":
            problem = f"{key} of shape {_shown(array.shape)} and type {array.dtype}"
            expected = f"numbers or texts of shape {size}, one for each {half} image"
            raise _wrong(path, problem, expected)
    kinds = {array.dtype.kind == "U" for array in given.values()}
    if len(kinds) > 1:
        raise _wrong(path, f"texts and numbers in {listing(GROUPS)}", "one kind")
    train, test = (given[key] for key in GROUPS)
    known, places = np.unique(np.concatenate([train, test]), return_inverse=True)
    numbers = torch.from_numpy(places.astype(np.int64))
    of_train, of_test = numbers[: len(train)], numbers[len(train) :]
    return Groups(of_train, of_test, tuple(map(str, known)))


def _first(where: NDArray[np.bool_]) -> int:
    return int(np.argmax(where))


def _image(pixels: Tensor) -> Image.Image:
    """Return an image uint8 ``[C, H, W]`` as Pillow has it."""
    array = pixels.permute(1, 2, 0).numpy()
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


def _shown(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "()"


def _wrong(path: Path, found: str, expected: str, hint: str = "") -> DataError:
    return DataError(f"folder: {path}: found {found}, expected {expected}.{hint}")
