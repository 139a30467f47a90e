"""Images and labels as arrays in a NumPy file, called as Keras or MedMNIST call them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fedkd.data.dataset import Split
from fedkd.datasets.folder.images import Form, fitted
from fedkd.datasets.npz import (
    KEYS,
    Arrays,
    Labelled,
    NumpyFile,
    read_arrays,
    shown,
    wrong,
)

SPELLINGS = (
    KEYS,  # Keras
    ("train_images", "train_labels", "test_images", "test_labels"),  # MedMNIST
)
"""What the arrays of both halves are called, in small or capital letters."""
CHANNELS = (1, 3)
"""Numbers of channels that images may have."""


def read_images(path: Path) -> Arrays:
    """Read the images and labels of both halves, and the class names.

    Raises:
        DataError: As :func:`fedkd.datasets.npz.read_arrays` does.
    """
    axes = "channels, height, width"
    return read_arrays(NumpyFile("folder", path, "image", axes, SPELLINGS), _images)


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


def _images(file: NumpyFile, key: str, array: NDArray[Any]) -> Tensor:
    """Return images as uint8 ``[N, C, H, W]``, a view where that is possible."""
    if array.dtype != np.uint8:
        hint = " Scale images to 0..255, round them and convert them."
        if array.dtype.kind == "f" and np.isnan(array).any():
            hint = " Some values are NaN; replace these first."
        raise wrong(file, f"{key} of type {array.dtype}", "uint8 in 0..255", hint)
    if array.ndim in (3, 4) and 0 in array.shape[1:]:
        problem = f"{key} of shape {shown(array.shape)}"
        raise wrong(file, problem, "images of at least one pixel")
    x = torch.from_numpy(array)
    if array.ndim == 3:
        return x.unsqueeze(1)
    if array.ndim == 4:
        first, last = (array.shape[axis] in CHANNELS for axis in (1, 3))
        if first != last:
            return x if first else x.permute(0, 3, 1, 2)
    raise wrong(
        file,
        f"{key} of shape {shown(array.shape)}",
        "[N, H, W], [N, H, W, C] or [N, C, H, W], where C is 1 or 3 and the only axis "
        "but N that can be it",
    )


def _image(pixels: Tensor) -> Image.Image:
    """Return an image uint8 ``[C, H, W]`` as Pillow has it."""
    array = pixels.permute(1, 2, 0).numpy()
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
