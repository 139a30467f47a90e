"""Arrays of both halves of a data set in a NumPy file, and what is wrong with them."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedkd.data.checks import repeated, repeats
from fedkd.data.groups import Groups
from fedkd.datasets.archives import ENDING, READING, array_in, zip_of
from fedkd.errors import DataError, listing

KEYS = ("x_train", "y_train", "x_test", "y_test")
"""What Keras calls the arrays of both halves."""
GROUPS = ("groups_train", "groups_test")
"""What the arrays are called that say whose each input is."""
_CHUNK = 1 << 20

Labelled: TypeAlias = tuple[Tensor, Tensor]
"""Inputs ``[N, ...]`` and labels int64 ``[N]``."""


@dataclass(frozen=True)
class NumpyFile:
    """A file, and what messages call what is in it."""

    reader: str
    """The data set that reads it, by its registered name."""
    path: Path
    noun: str
    """What one input is called."""
    axes: str
    """What the shape of one input is of: ``channels, height, width``."""
    spellings: tuple[tuple[str, ...], ...] = (KEYS,)
    """What the arrays of both halves may be called, in small or capital letters."""


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
    """Whose each input is; None if the file does not say."""


def read_arrays(
    file: NumpyFile, convert: Callable[[NumpyFile, str, NDArray[Any]], Tensor]
) -> Arrays:
    """Read both halves and the class names.

    Args:
        file: The file.
        convert: ``convert(file, name, array)`` returns inputs ``[N, ...]`` as the data
            set has them, or raises what :func:`wrong` makes.

    Raises:
        DataError: If an array is missing, of another type or shape, or a label is no
            class; names the file and the array.
    """
    stored, rest = _loaded(file)
    names = stored.pop("classes", None)
    given = {key: stored.pop(key) for key in GROUPS if key in stored}
    keys = list(stored)  # those of the inputs and labels of both halves, in turn
    x_train, x_test = (convert(file, key, stored[key]) for key in keys[::2])
    labels = {key: _labels(file, key, stored[key]) for key in keys[1::2]}
    for x_key, (key, y), x in zip(
        keys[::2], labels.items(), (x_train, x_test), strict=True
    ):
        if len(x) != len(y) or not len(x):
            problem = f"{len(x)} {file.noun}s in {x_key} and {len(y)} labels in {key}"
            raise wrong(
                file, problem, f"a label for each {file.noun}, and at least one"
            )
    if x_train.shape[1:] != x_test.shape[1:]:
        shapes = " and ".join(shown(x.shape[1:]) for x in (x_train, x_test))
        problem = f"training and test {file.noun}s of {shapes} ({file.axes})"
        raise wrong(file, problem, "one shape")
    classes = _classes(file, names, keys[1], labels[keys[1]])
    _require_in_range(file, labels, len(classes))
    _require_every_class(file, labels[keys[1]], classes)
    y_train, y_test = (torch.from_numpy(y.astype(np.int64)) for y in labels.values())
    notes = [f"Left out of {file.path}: the arrays {listing(rest)}."] if rest else []
    notes += repeats(repeated(x_train, x_test), len(x_test), file.noun)
    groups = _groups(file, given, {"train": len(x_train), "test": len(x_test)})
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


def _loaded(file: NumpyFile) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """Return the arrays that are of use, in the order of :data:`KEYS`, then the others.

    And the names of the others. Whatever is pickled is refused.
    """
    name = ""
    try:
        with zip_of(file.path) as stored:
            there = [name.removesuffix(ENDING) for name in stored.namelist()]
            names = _names(file, there)
            arrays: dict[str, NDArray[Any]] = {}
            for name in names:
                taken = sum(array.nbytes for array in arrays.values())
                arrays[name] = array_in(stored, name, taken)
            return arrays, sorted(set(there) - set(names))
    except zipfile.BadZipFile as error:
        if not name:
            raise wrong(file, "no .npz file", "one as numpy.savez writes it") from error
        raise _unreadable(file, name, error) from error
    except READING as error:
        raise _unreadable(file, name, error) from error


def _unreadable(file: NumpyFile, name: str, error: Exception) -> DataError:
    cause = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    what = f"{name} that cannot be read" if name else "a file that cannot be read"
    return wrong(file, f"{what} ({cause})", "plain arrays")


def _names(file: NumpyFile, there: Sequence[str]) -> list[str]:
    """Return what the arrays of use are called in a file."""
    known = {name.lower(): name for name in there}
    by_likeness = sorted(file.spellings, key=lambda keys: -len(set(keys) & set(known)))
    keys = by_likeness[0]
    missing = [key for key in keys if key not in known]
    if missing:
        problem = (
            f"no array {listing(missing)} (arrays: {listing(sorted(there)) or 'none'})"
        )
        raise wrong(file, problem, " or ".join(map(listing, file.spellings)))
    also = [name for name in ("classes", *GROUPS) if name in there]
    return [known[key] for key in keys] + also


def _labels(file: NumpyFile, key: str, y: NDArray[Any]) -> NDArray[Any]:
    """Return labels ``[N]``, of whole numbers; they may be stored as ``[N, 1]``."""
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1 or y.dtype.kind not in "iu":
        problem = f"{key} of shape {shown(y.shape)} and type {y.dtype}"
        hint = " Of one-hot labels, take argmax(1)." if y.ndim == 2 else ""
        raise wrong(file, problem, "whole numbers of shape [N] or [N, 1]", hint)
    return y


def _classes(
    file: NumpyFile, names: NDArray[Any] | None, key: str, y_train: NDArray[Any]
) -> tuple[str, ...]:
    """Return the class names: as given, or the labels, of which none is left out."""
    if names is None:
        _require_in_range(file, {key: y_train}, None)
        labels = np.unique(y_train)
        gaps = np.flatnonzero(labels != np.arange(len(labels)))
        if len(gaps):  # before names are made: a label may be as large as 2^64
            missing, label = gaps[0], labels[gaps[0]]
            raise wrong(
                file,
                f"the label {label} at {key}[{_first(y_train == label)}], but no "
                f"training {file.noun} of the class '{missing}' (label {missing})",
                "labels from 0 without a gap",
            )
        return tuple(str(label) for label in range(len(labels)))
    if names.ndim != 1 or names.dtype.kind not in "Uiu":
        problem = f"classes of shape {shown(names.shape)} and type {names.dtype}"
        raise wrong(file, problem, "texts of shape [C]")
    given = tuple(str(name) for name in names)
    if len(set(given)) < len(given):
        raise wrong(file, "a name twice in classes", "each name once")
    return given


def _require_in_range(
    file: NumpyFile, labels: Mapping[str, NDArray[Any]], classes: int | None
) -> None:
    """Make sure that labels are at least 0, and below ``classes`` if that is known."""
    for key, y in labels.items():
        outside = (y < 0) | (False if classes is None else y >= classes)
        if outside.any():
            position = _first(outside)
            upper = "" if classes is None else f" to {classes - 1}"
            raise wrong(
                file,
                f"the label {y[position]} at {key}[{position}]",
                f"labels from 0{upper}",
                " Without an array 'classes', training labels say which there are.",
            )


def _require_every_class(
    file: NumpyFile, y_train: NDArray[Any], classes: tuple[str, ...]
) -> None:
    absent = np.setdiff1d(np.arange(len(classes)), y_train)
    if len(absent):
        label = int(absent[0])
        raise wrong(
            file,
            f"no training {file.noun} of the class {classes[label]!r} (label {label})",
            f"some of each class, labels from 0 to {len(classes) - 1}",
        )


def _groups(
    file: NumpyFile, given: Mapping[str, NDArray[Any]], sizes: Mapping[str, int]
) -> Groups | None:
    """Return the groups of a file, whose arrays are names: texts or whole numbers."""
    if not given:
        return None
    for key, (half, size) in zip(GROUPS, sizes.items(), strict=True):
        if key not in given:
            raise wrong(file, f"no array {key}", f"both of {listing(GROUPS)}, or none")
        array = given[key]
        if array.shape != (size,) or array.dtype.kind not in "Uiu":
            problem = f"{key} of shape {shown(array.shape)} and type {array.dtype}"
            expected = (
                f"numbers or texts of shape {size}, one for each {half} {file.noun}"
            )
            raise wrong(file, problem, expected)
    kinds = {array.dtype.kind == "U" for array in given.values()}
    if len(kinds) > 1:
        raise wrong(file, f"texts and numbers in {listing(GROUPS)}", "one kind")
    train, test = (given[key] for key in GROUPS)
    known, places = np.unique(np.concatenate([train, test]), return_inverse=True)
    numbers = torch.from_numpy(places.astype(np.int64))
    of_train, of_test = numbers[: len(train)], numbers[len(train) :]
    return Groups(of_train, of_test, tuple(map(str, known)))


def _first(where: NDArray[np.bool_]) -> int:
    return int(np.argmax(where))


def shown(shape: tuple[int, ...]) -> str:
    """Return a shape as messages write it: ``3x8x8``."""
    return "x".join(map(str, shape)) or "()"


def wrong(file: NumpyFile, found: str, expected: str, hint: str = "") -> DataError:
    """Return the error that says what was found in a file and what was expected."""
    where = f"{file.reader}: {file.path}"
    return DataError(f"{where}: found {found}, expected {expected}.{hint}")
