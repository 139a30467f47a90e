"""Ways in which one client's images look different from another's.

Each takes images ``[n, C, H, W]`` in 0..255, numbers in -1..1 that are the client's own
(:func:`level_count` of them), a strength in 0..1, and a stream for what differs from image
to image. With strength 0 nothing changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

Levels = NDArray[np.float64]
"""Numbers in -1..1."""
Look = Callable[[Tensor, Levels, float, np.random.Generator], Tensor]

LEVELS = 8
"""Numbers of a client for images of up to four channels."""
_GREY = 64.0
"""Grey levels of 255 by which colours are moved, and the deviation of noise, at most."""


def level_count(channels: int) -> int:
    """Return how many numbers a client has for images of so many channels."""
    return max(LEVELS, 2 * channels)


def rotated(
    x: Tensor, levels: Levels, strength: float, rng: np.random.Generator
) -> Tensor:
    """Turn by one angle of up to 180 degrees either way; what comes in is black."""
    del rng
    angle = math.pi * strength * float(levels[0])
    cos, sin = math.cos(angle), math.sin(angle)
    # Both sides go from -1 to 1 whatever their lengths; pixels turn.
    wide = x.shape[3] / x.shape[2]
    rows = [[cos, -sin / wide, 0.0], [sin * wide, cos, 0.0]]
    matrix = torch.tensor(rows).expand(len(x), 2, 3)
    grid = functional.affine_grid(matrix, list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, align_corners=False)


def coloured(
    x: Tensor, levels: Levels, strength: float, rng: np.random.Generator
) -> Tensor:
    """Scale each channel by up to 1 +- 1 and move it by up to 64 levels of grey."""
    del rng
    numbers = torch.from_numpy(strength * levels).float()
    # Channels beyond four have a pair each, behind the numbers of the first four.
    pairs = torch.cat([numbers[:LEVELS].view(2, -1), numbers[LEVELS:].view(-1, 2).T], 1)
    gain, offset = pairs[:, : x.shape[1], None, None]
    return torch.addcmul(_GREY * offset, x, 1 + gain)


def blurred(
    x: Tensor, levels: Levels, strength: float, rng: np.random.Generator
) -> Tensor:
    """Blur by a Gaussian of up to an eighth of the height; edges are repeated."""
    del rng
    sigma = strength * abs(float(levels[0])) * x.shape[2] / 8
    if sigma == 0:
        return x
    radius = math.ceil(3 * sigma)
    weights = torch.exp(-0.5 * (torch.arange(-radius, radius + 1) / sigma) ** 2)
    weights = weights / weights.sum()
    channels = x.shape[1]
    x = functional.pad(x, (radius,) * 4, mode="replicate")
    for shape in ((1, 1, -1, 1), (1, 1, 1, -1)):
        kernel = weights.view(shape).expand(channels, -1, -1, -1)
        x = functional.conv2d(x, kernel, groups=channels)
    return x


def noisy(
    x: Tensor, levels: Levels, strength: float, rng: np.random.Generator
) -> Tensor:
    """Add Gaussian noise of a deviation of up to 64 levels of grey, drawn by image."""
    deviation = _GREY * strength * abs(float(levels[0]))
    noise = rng.standard_normal(tuple(x.shape), np.float32)
    return x + deviation * torch.from_numpy(noise)


def coarse(
    x: Tensor, levels: Levels, strength: float, rng: np.random.Generator
) -> Tensor:
    """Average over down to a quarter of the pixels a side, in blocks of one value."""
    del rng
    keep = 1 - 0.75 * strength * abs(float(levels[0]))
    height, width = (max(1, round(side * keep)) for side in x.shape[2:])
    small = functional.interpolate(x, (height, width), mode="area")
    return functional.interpolate(small, list(x.shape[2:]), mode="nearest-exact")


LOOKS: Mapping[str, Look] = {
    "rotation": rotated,
    "colour": coloured,
    "blur": blurred,
    "noise": noisy,
    "resolution": coarse,
}
"""By the names that options have."""
