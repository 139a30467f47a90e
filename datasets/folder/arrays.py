"""Images and labels as arrays in a NumPy file: x_train, y_train, x_test, y_test."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fedkd.data.dataset import Split
from fedkd.datasets.folder.images import Form, fitted
from fedkd.errors import DataError, listing

KEYS = ("x_train", "y_train", "x_test", "y_test")
_CHUNK = 1 << 20
CHANNELS = (1, 3)
"""Numbers of channels that images may have."""
_READING = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error)
"""What NumPy raises on files that are damaged or of another kind."""

Labelled: TypeAlias = tuple[Tensor, Tensor]
"""Images uint8 ``[N, C, H, W]`` and labels int64 ``[N]``."""


def read_arrays(path: Path) -> tuple[Labelled, Labelled, tuple[str, ...]]:
    """Read both halves and the class names.

    Raises:
        DataError: If an array is missing, of another type or shape, or a label is no
            class; names the file and the array.
    """
    arrays = _loaded(path)
    names = arrays.get("classes")
    x_train, x_test = (_images(path, key, arrays[key]) for key in ("x_train", "x_test"))
    labels = {key: arrays[key] for key in ("y_train", "y_test")}
    for (key, y), x in zip(labels.items(), (x_train, x_test), strict=True):
        _require_whole_numbers(path, key, y)
        if len(x) != len(y) or not len(x):
            raise _wrong(
                path,
                f"{len(x)} images in x{key[1:]} and {len(y)} labels in {key}",
                "a label for each image, and at least one",
            )
    if x_train.shape[1:] != x_test.shape[1:]:
        shapes = " and ".join(_shown(x.shape[1:]) for x in (x_train, x_test))
        problem = f"training and test images of {shapes} (channels, height, width)"
        raise _wrong(path, problem, "one shape")
    classes = _classes(path, names, labels["y_train"])
    _require_in_range(path, labels, len(classes))
    _require_every_class(path, labels["y_train"], classes)
    y_train, y_test = (torch.from_numpy(y.astype(np.int64)) for y in labels.values())
    return (x_train, y_train), (x_test, y_test), classes


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


def _loaded(path: Path) -> Mapping[str, NDArray[Any]]:
    """Return the arrays of a file that are of use, all :data:`KEYS` among them."""
    if not zipfile.is_zipfile(path):
        raise _wrong(path, "no .npz file", "one as numpy.savez writes it")
    name = ""
    try:
        with np.load(path, allow_pickle=False) as stored:
            _require_keys(path, stored.files)
            arrays = {}
            for name in [key for key in (*KEYS, "classes") if key in stored.files]:
                arrays[name] = np.asarray(stored[name])
            return arrays
    except _READING as error:
        cause = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        what = f"{name} that cannot be read" if name else "a file that cannot be read"
        raise _wrong(path, f"{what} ({cause})", "plain arrays") from error


def _require_keys(path: Path, keys: Sequence[str]) -> None:
    missing = [key for key in KEYS if key not in keys]
    if missing:
        problem = (
            f"no array {listing(missing)} (arrays: {listing(sorted(keys)) or 'none'})"
        )
        raise _wrong(path, problem, listing(KEYS))


def _images(path: Path, key: str, array: NDArray[Any]) -> Tensor:
    """Return images as uint8 ``[N, C, H, W]``, a view where that is possible."""
    if array.dtype != np.uint8:
        hint = " Scale images to 0..255, round them and convert them."
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


def _require_whole_numbers(path: Path, key: str, y: NDArray[Any]) -> None:
    if y.ndim != 1 or y.dtype.kind not in "iu":
        problem = f"{key} of shape {_shown(y.shape)} and type {y.dtype}"
        raise _wrong(path, problem, "whole numbers of shape [N]")


def _classes(
    path: Path, names: NDArray[Any] | None, y_train: NDArray[Any]
) -> tuple[str, ...]:
    """Return the class names: as given, or the labels, of which none is left out."""
    if names is None:
        _require_in_range(path, {"y_train": y_train}, None)
        labels = np.unique(y_train)
        gaps = np.flatnonzero(labels != np.arange(len(labels)))
        if len(gaps):  # before names are made: a label may be as large as 2^64
            missing, label = gaps[0], labels[gaps[0]]
            raise _wrong(
                path,
                f"the label {label} at y_train[{_first(y_train == label)}], but no "
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
                " Without an array 'classes', y_train says which there are.",
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
