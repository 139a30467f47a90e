"""What every data set must be, whoever made it: files, plug-ins, or Python."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

import torch
from torch import Tensor

from fedkd.errors import DataError, listing

Moments: TypeAlias = tuple[tuple[float, ...], tuple[float, ...]]
"""Means and deviations, one each for every channel or value."""
_WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
_COLOURS = (1, 3, 4)
"""Channels that images have, as a rule."""


@dataclass(frozen=True)
class Inputs:
    """A kind of inputs: what messages call them, and what is asked of them."""

    noun: str
    """What one is called."""
    shape: str
    """What all have in common."""
    unit: str
    """What has a mean and a deviation of its own."""
    require: Callable[[str, str, object], None]
    """Refuses what is no tensor of them; is given the set, the field and its value."""
    require_moments: Callable[[str, Moments], None]
    """Refuses what cannot be their mean and deviation; is given the set and both."""


def require_sound(
    kind: Inputs,
    name: str,
    halves: Mapping[str, tuple[Tensor, Tensor]],
    classes: Sequence[str],
    moments: Moments,
) -> None:
    """Make sure that a data set is what :mod:`fedkd.data.labelled` promises.

    Args:
        kind: What its inputs are.
        name: What the data set is called.
        halves: Inputs and labels of ``train`` and ``test``.
        classes: Its classes.
        moments: Means and deviations, of each channel or value.

    Raises:
        DataError: If it is not: what was found, what was expected, what to do.
    """
    for half, (x, y) in halves.items():
        kind.require(name, f"x_{half}", x)
        _require_labels(name, half, len(x), y, len(classes), kind.noun)
    shapes = [list(x.shape[1:]) for x, _ in halves.values()]
    if shapes[0] != shapes[1]:
        noun = kind.noun
        found = f"training {noun}s {shapes[0]} and test {noun}s {shapes[1]}"
        _refuse(name, found, f"one {kind.shape}")
    number, lengths = shapes[0][0], [len(values) for values in moments]
    if lengths != [number, number]:
        found = f"{lengths[0]} values of mean and {lengths[1]} of std"
        _refuse(name, found, f"{number}, one for each {kind.unit}")
    kind.require_moments(name, moments)
    if len(set(classes)) < len(classes):
        twice = [c for c in classes if classes.count(c) > 1]
        _refuse(name, f"the class {twice[0]!r} twice", "each name once")


def labels_of(y: object) -> object:
    """Return whole numbers ``[N]`` or ``[N, 1]`` as int64 ``[N]``; others as they are."""
    if not isinstance(y, Tensor) or y.dtype not in _WHOLE:
        return y
    return (y.squeeze(1) if y.ndim == 2 and y.shape[1] == 1 else y).to(torch.int64)


def remarks(
    classes: Sequence[str], halves: Mapping[str, Tensor], noun: str = "image"
) -> tuple[str, ...]:
    """Return what a reader of results should know of the classes of a data set.

    Args:
        classes: Its classes.
        halves: The labels of ``training`` and ``test``, int64 ``[N]``.
        noun: What one input is called.
    """
    lines = []
    if len(classes) == 1:
        lines.append(
            f"There is one class only, {classes[0]!r}, so an accuracy of 100 % means "
            "nothing."
        )
    effects = {
        "training": "so no client can learn",
        "test": "so accuracy says nothing of",
    }
    for half, labels in halves.items():
        counts = torch.bincount(labels, minlength=len(classes)).tolist()
        absent = [c for c, n in zip(classes, counts, strict=True) if not n]
        if absent:
            it = "it" if len(absent) == 1 else "them"
            so = effects[half]
            lines.append(
                f"There are no {half} {noun}s of {listing(absent)}, {so} {it}."
            )
    return tuple(lines)


def repeats(number: int, total: int, noun: str = "image") -> tuple[str, ...]:
    """Return the remark on ``number`` of ``total`` test inputs that are trained on."""
    if not number:
        return ()
    are = "is" if number == 1 else "are"
    return (
        f"{number:,} of {total:,} test {noun}s {are} equal to training {noun}s, byte for "
        "byte, so accuracy is too high.",
    )


def repeated(x_train: Tensor, x_test: Tensor) -> int:
    """Count the test inputs, ``[N, ...]``, that are training inputs, too."""
    if x_train.shape[1:] != x_test.shape[1:]:
        return 0
    test = [_bytes(image) for image in x_test]
    wanted = set(test)
    known = {content for image in x_train if (content := _bytes(image)) in wanted}
    return sum(content in known for content in test)


def normalisation_fault(mean: tuple[float, ...], std: tuple[float, ...]) -> str:
    """Say which mean or deviation cannot be of images in [0, 1]; empty if all can."""
    for name, values, least in (("mean", mean, 0.0), ("std", std, math.ulp(0.0))):
        for value in values:
            if not least <= value <= 1:  # NaN is refused, too
                above = "0 to 1" if name == "mean" else "above 0, at most 1"
                return (
                    f"found {name} {value:g}, expected {above}, of images scaled to "
                    "[0, 1]; divide those of images in 0..255 by 255"
                )
    return ""


def _bytes(image: Tensor) -> bytes:
    return image.cpu().contiguous().numpy().tobytes()


def _require_images(name: str, key: str, x: object) -> None:
    if not isinstance(x, Tensor):
        _refuse(name, f"{key} of type {type(x).__name__}", "a tensor")
    expected = "uint8 [N, C, H, W] in 0..255"
    if x.dtype != torch.uint8:
        hint = " Convert them."
        if x.is_floating_point():
            hint = " Scale images to 0..255, round them and convert them."
            if bool(x.isnan().any()):
                hint = " Some values are NaN; replace these first."
        _refuse(name, f"{key} of type {_short(x.dtype)}", expected, hint)
    if x.ndim != 4 or 0 in x.shape:
        _refuse(name, f"{key} of shape {list(x.shape)}", expected)
    if x.shape[1] > max(_COLOURS) and x.shape[3] in _COLOURS:
        hint = f" Channels come last in {key}: use permute(0, 3, 1, 2)."
        _refuse(name, f"{key} of shape {list(x.shape)}", expected, hint)


def _require_vectors(name: str, key: str, x: object) -> None:
    if not isinstance(x, Tensor):
        _refuse(name, f"{key} of type {type(x).__name__}", "a tensor")
    expected = "float32 [N, D]"
    if x.dtype != torch.float32:
        found = f"{key} of type {_short(x.dtype)}"
        _refuse(name, found, expected, f" Convert them: {key}.float().")
    if x.ndim != 2 or 0 in x.shape:
        hint = " Images are an ImageSet." if x.ndim == 4 else ""
        _refuse(name, f"{key} of shape {list(x.shape)}", expected, hint)
    wrong = ~torch.isfinite(x)
    if bool(wrong.any()):
        row, column = (int(i) for i in wrong.nonzero()[0])
        found = f"{key}[{row}, {column}] {float(x[row, column])}"
        _refuse(name, found, "finite numbers", " Replace what is missing first.")


def _require_labels(
    name: str, half: str, number: int, y: object, classes: int, noun: str
) -> None:
    key = f"y_{half}"
    expected = "whole numbers, int64 [N]"
    if not isinstance(y, Tensor):
        _refuse(name, f"{key} of type {type(y).__name__}", "a tensor")
    if y.dtype != torch.int64 or y.ndim != 1:
        hint = " Of one-hot labels, take argmax(1)." if y.ndim == 2 else ""
        found = f"{key} of type {_short(y.dtype)} and shape {list(y.shape)}"
        _refuse(name, found, expected, hint)
    if len(y) != number:
        found = f"{number:,} {noun}s in x_{half} and {len(y):,} labels in {key}"
        _refuse(name, found, f"a label for each {noun}")
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= classes:
        wrong = low if low < 0 else high
        place = int((y == wrong).nonzero()[0])
        hint = f" The data set names {classes} classes."
        found = f"the label {wrong} at {key}[{place}]"
        _refuse(name, found, f"labels from 0 to {classes - 1}", hint)


def _require_moments_of_images(name: str, moments: Moments) -> None:
    fault = normalisation_fault(*moments)
    if fault:
        raise DataError(f"{name}: {fault}.")


def _require_moments_of_vectors(name: str, moments: Moments) -> None:
    for what, values in zip(("mean", "std"), moments, strict=True):
        for place, value in enumerate(values):
            if not math.isfinite(value) or (what == "std" and value <= 0):
                expected = "above 0" if what == "std" else "a finite number"
                hint = " fedkd.vector_moments computes both."
                _refuse(name, f"{what}[{place}] {value:g}", expected, hint)


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _refuse(name: str, found: str, expected: str, hint: str = "") -> NoReturn:
    raise DataError(f"{name}: found {found}, expected {expected}.{hint}")


IMAGES = Inputs(
    "image",
    "shape (channels, height, width)",
    "channel of the images",
    _require_images,
    _require_moments_of_images,
)
"""uint8 ``[N, C, H, W]``."""
VECTORS = Inputs(
    "vector",
    "length",
    "value of a vector",
    _require_vectors,
    _require_moments_of_vectors,
)
"""float32 ``[N, D]``."""
