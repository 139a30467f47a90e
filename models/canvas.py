"""Images of any size on the larger canvas that a generator or a discriminator works on."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from fedkd.data.images import ImageShape
from fedkd.errors import ConfigError

LEAST = 8
"""Sides of images are at least this long."""


def power_of_two(image_shape: ImageShape) -> int:
    """Return the side of the smallest square canvas whose side is a power of two.

    Raises:
        ConfigError: If a side is shorter than 8.
    """
    longest = max(_sides(image_shape))
    return 1 << (longest - 1).bit_length()


def multiples(image_shape: ImageShape, factor: int) -> tuple[int, int]:
    """Return height and width of the smallest canvas of multiples of ``factor``.

    Raises:
        ConfigError: If a side is shorter than 8.
    """
    height, breadth = (-(-side // factor) * factor for side in _sides(image_shape))
    return height, breadth


def centre(images: Tensor, image_shape: ImageShape) -> Tensor:
    """Return the centre of images ``[B, C, H', W']`` on a canvas: ``[B, C, H, W]``."""
    _, height, breadth = image_shape
    top, left = (
        (canvas - side) // 2
        for canvas, side in zip(images.shape[2:], (height, breadth), strict=True)
    )
    return images[..., top : top + height, left : left + breadth]


def framed(images: Tensor, height: int, breadth: int) -> Tensor:
    """Return images ``[B, C, H, W]`` amid zeros, ``[B, C, height, breadth]``."""
    above, beside = height - images.shape[2], breadth - images.shape[3]
    if not (above or beside):
        return images
    top, left = above // 2, beside // 2
    return F.pad(images, (left, beside - left, top, above - top))


def _sides(image_shape: ImageShape) -> tuple[int, int]:
    _, height, breadth = image_shape
    if min(height, breadth) < LEAST:
        raise ConfigError(
            f"found images of {height}x{breadth}, expected sides of {LEAST} or more for "
            "a generator. Choose another resolution of the data set, or a strategy "
            "without a generator."
        )
    return height, breadth
