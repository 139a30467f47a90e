"""Decoding image files: upright, on white where they are transparent, first page only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from fedkd.data.dataset import Split
from fedkd.datasets.folder.files import TOGETHER, Half
from fedkd.datasets.pictures import DECODING, picture
from fedkd.errors import DataError

GREY = ("1", "L", "LA")
"""Pillow's modes of grey images; those of a palette may be grey, too."""
_PALETTE = ("P", "PA")
_DEEP = ("I", "F")
"""How Pillow's modes of more than 8 bits a channel start."""


@dataclass(frozen=True)
class Form:
    """What images become when they are read."""

    channels: int
    """1 for grey, 3 for colour."""
    height: int
    width: int
    resized: bool
    """Whether images of other sizes are stretched; else they are refused."""
    asked: bool
    """Whether the user said how many channels; else colour is not made grey."""
    model: str
    """What the form was taken from, for messages."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(channels, height, width)``."""
        return self.channels, self.height, self.width


def form_of(file: str, channels: int | None, resolution: int | None) -> Form:
    """Return what images become: as ``file`` is, where the user does not say.

    Raises:
        DataError: If the file is no image.
    """
    with _decoded(file) as image:
        (width, height), grey = image.size, _is_grey(image)
    return Form(
        channels=channels or (1 if grey else 3),
        height=resolution or height,
        width=resolution or width,
        resized=resolution is not None,
        asked=channels is not None,
        model=file,
    )


def split_of(half: Half, classes: Sequence[str], form: Form) -> Split:
    """Return a half whose images are decoded when they are read."""
    label = {name: number for number, name in enumerate(classes)}

    def read(start: int, stop: int) -> Tensor:
        x = torch.empty((stop - start, *form.shape), dtype=torch.uint8)
        for place, file in zip(x, half.files[start:stop], strict=True):
            with _decoded(file) as image:
                _require(file, image, form)
                place.copy_(fitted(image, form))
        return x

    labels = torch.tensor([label[name] for name in half.classes], dtype=torch.int64)
    return Split(labels, form.shape, read)


def fitted(image: Image.Image, form: Form) -> Tensor:
    """Return an image in its form, uint8 ``[C, H, W]``; stretched if need be.

    Bilinearly with antialiasing, as torchvision's ``Resize`` does to PIL images.
    """
    pixels = _on_white(image).convert("L" if form.channels == 1 else "RGB")
    size = (form.width, form.height)
    if pixels.size != size:
        pixels = pixels.resize(size, Image.Resampling.BILINEAR)
    array = np.array(pixels).reshape(form.height, form.width, form.channels)
    return torch.from_numpy(array).permute(2, 0, 1)


def several_pages(files: Sequence[str]) -> int:
    """Count the files that hold several pictures, such as pages of a TIFF or GIF."""
    parts = [files[i : i + TOGETHER] for i in range(0, len(files), TOGETHER)]
    with ThreadPoolExecutor() as pool:
        return sum(pool.map(lambda part: sum(map(_has_pages, part)), parts))


def _has_pages(file: str) -> bool:
    try:
        with picture(Path(file)) as image:
            # A phone's MPO is one photo, and a smaller copy or a depth map of it.
            return image.format != "MPO" and getattr(image, "n_frames", 1) > 1
    except DECODING:
        return False  # whoever decodes it says what is wrong


@contextmanager
def _decoded(file: str) -> Iterator[Image.Image]:
    """Decode a file, and turn it as its EXIF data say.

    Raises:
        DataError: If it is no image, or cannot be used in the block.
    """
    try:
        with picture(Path(file)) as image:
            image.load()
            _turn_upright(image)
            yield image
    except DECODING as error:
        raise _damage(file, error) from error


def _turn_upright(image: Image.Image) -> None:
    try:
        ImageOps.exif_transpose(image, in_place=True)
    except DECODING:
        return  # EXIF data that cannot be read: viewers show the image as it is stored


def _on_white(image: Image.Image) -> Image.Image:
    """Return an image without transparency, as on a white page."""
    if not image.has_transparency_data:
        return image
    over = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over)


def _is_grey(image: Image.Image) -> bool:
    """Say whether an image has no colour; of a palette, whether that has none."""
    if image.mode not in _PALETTE:
        return image.mode in GREY
    levels = np.array(image.getpalette("RGB")).reshape(-1, 3)
    return bool((levels == levels[:, :1]).all())


def _require(file: str, image: Image.Image, form: Form) -> None:
    """Make sure that an image can be brought into the form without a loss unasked for."""
    if image.mode.startswith(_DEEP):
        raise DataError(
            f"folder: {file} has more than 8 bits a channel (mode {image.mode}); "
            "expected 8. Convert it."
        )
    width, height = image.size
    if not form.resized and (height, width) != (form.height, form.width):
        raise DataError(
            f"folder: found images of different sizes: {form.model} has "
            f"{form.height}x{form.width} pixels and {file} {height}x{width}; expected "
            "one size. Set 'resolution', to which all are resized."
        )
    if form.channels == 1 and not form.asked and not _is_grey(image):
        raise DataError(
            f"folder: {file} is in colour and {form.model} is grey; expected one or the "
            "other. Set 'channels' to 3 or 1."
        )


def _damage(file: str, error: Exception) -> DataError:
    cause = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return DataError(
        f"folder: {file} does not decode ({cause}); expected an image. Mend it or "
        "remove it."
    )
