"""What the two grey 28x28 sets share: files, options and layout."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from fedkd.config import Config
from fedkd.data import ImageSet
from fedkd.datasets.files import Halves, SourceFile


class GreyConfig(Config):
    """Options of a grey 28x28 set."""

    resolution: Literal[28, 32] = 28
    """Side in pixels: 28 as published, or 32 with two black pixels on each side."""
    channels: Literal[1, 3] = 1
    """1 as published, or the grey value three times for models that want colour."""


def grey_files(folder: str, sums: tuple[str, str, str, str]) -> tuple[SourceFile, ...]:
    """Return the four IDX files of a set; MD5 sums in the order of their names."""
    names = (
        ("t10k-images-idx3-ubyte", 7_840_016),
        ("t10k-labels-idx1-ubyte", 10_008),
        ("train-images-idx3-ubyte", 47_040_016),
        ("train-labels-idx1-ubyte", 60_008),
    )
    return tuple(
        SourceFile(f"{folder}/raw/{name}", size, md5)
        for (name, size), md5 in zip(names, sums, strict=True)
    )


def grey_set(
    name: str,
    tensors: Halves,
    classes: tuple[str, ...],
    moments: tuple[float, float],
    config: GreyConfig,
) -> ImageSet:
    """Return the set in the asked resolution and number of channels.

    Args:
        name: The registered name.
        tensors: Training images and labels, test images and labels.
        classes: Class names.
        moments: Mean and standard deviation of images scaled to [0, 1].
        config: The options.
    """
    x_train, y_train, x_test, y_test = tensors
    mean, std = moments
    return ImageSet(
        name,
        _shaped(x_train, config),
        y_train,
        _shaped(x_test, config),
        y_test,
        classes,
        (mean,) * config.channels,
        (std,) * config.channels,
    )


def _shaped(images: Tensor, config: GreyConfig) -> Tensor:
    border = (config.resolution - 28) // 2
    if border:
        images = F.pad(images, (border, border, border, border))
    return images.expand(-1, config.channels, -1, -1).contiguous()
