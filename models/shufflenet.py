"""ShuffleNet v2 for small images.

Ma, Zhang, Zheng, Sun, "ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture
Design", ECCV 2018, arXiv:1807.11164, figure 3 (c, d) and table 5, with what is usual on
CIFAR: a 3x3 stem of stride 1 and no max-pooling.

Initial weights are PyTorch's; the paper names none.
"""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor, nn

from fedkd.data.images import ImageShape
from fedkd.models.base import Share, Sizes, TrunkConfig, TrunkModel


class ShuffleNetConfig(TrunkConfig):
    """Options of ShuffleNet v2."""

    blocks: Sizes = Field((4, 8, 4), min_length=1)
    """Number of blocks in each stage."""
    channels: Sizes = (24, 116, 232, 464, 1024)
    """Output channels of the stem, of each stage (even) and of the last convolution. Size
    0.5x is 24-48-96-192-1024."""
    width: Share = 1.0
    """Must be 1: widths do not nest."""

    @field_validator("channels")
    @classmethod
    def _fits(cls, channels: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        stages = len(info.data.get("blocks", channels[1:-1]))
        if len(channels) != stages + 2:
            raise ValueError(
                f"Expected {stages + 2} numbers: that of the stem, those of the {stages} "
                "stages that blocks has, and that of the last convolution"
            )
        odd = [number for number in channels[1:-1] if number % 2]
        if odd:
            raise ValueError(
                f"Found {odd[0]} for a stage, expected an even number: a stage is split "
                "in halves"
            )
        return channels

    @field_validator("width")
    @classmethod
    def _whole(cls, width: float) -> float:
        if width != 1:
            raise ValueError(
                "Expected 1: a shufflenet has no nested sub-models. Choose smaller "
                "channels, or another family"
            )
        return width


@final
class ShuffleNet(TrunkModel):
    """ShuffleNet v2, size 1x: three stages of 116-232-464 channels, 1024 features.

    The first block of a stage halves the map; the last map is averaged, so every image
    size works. 1,263,854 parameters for 3x32x32 images of 10 classes. It has no narrower
    sub-models: blocks split their input and shuffle it, so the first channels of a wide
    layer are not those that a narrow one has.
    """

    Config = ShuffleNetConfig
    ends_in_relu = True

    def __init__(
        self, image_shape: ImageShape, num_classes: int, config: ShuffleNetConfig
    ) -> None:
        stem, *stages, last = config.channels
        super().__init__(image_shape, num_classes, last, config)
        layers: list[nn.Module] = [*_convolution(image_shape[0], stem, 3)]
        before = stem
        for after, number in zip(stages, config.blocks, strict=True):
            layers.append(Halving(before, after))
            layers += [Unit(after) for _ in range(number - 1)]
            before = after
        layers += _convolution(before, last, 1)
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.make_head()

    def trunk(self, x: Tensor) -> Tensor:
        """Return the averaged last map, ``[B, T]``."""
        out_BT: Tensor = self.body(x)
        return out_BT


@final
class Unit(nn.Module):
    """Half of the channels pass, half go through a branch; then they are shuffled."""

    def __init__(self, channels: int) -> None:
        """Args: ``channels``, an even number, of input and output."""
        super().__init__()
        half = channels // 2
        self.branch = _branch(half, half, stride=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, C, H, W]`` to the same shape."""
        kept, changed = x.chunk(2, dim=1)
        return _shuffled(kept, self.branch(changed))


@final
class Halving(nn.Module):
    """Two branches of stride 2 on the whole input, joined and shuffled."""

    def __init__(self, before: int, after: int) -> None:
        """Args: ``before`` input channels, ``after`` output channels, an even number."""
        super().__init__()
        half = after // 2
        self.shortcut = nn.Sequential(
            *_depthwise(before, stride=2), *_convolution(before, half, 1)
        )
        self.branch = _branch(before, half, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, before, H, W]`` to ``[B, after, H / 2, W / 2]``."""
        return _shuffled(self.shortcut(x), self.branch(x))


def _shuffled(first: Tensor, second: Tensor) -> Tensor:
    """Join two maps so that their channels alternate."""
    return F.channel_shuffle(torch.cat((first, second), dim=1), 2)


def _branch(before: int, after: int, stride: int) -> nn.Sequential:
    """Return a 1x1, a 3x3 channel by channel and a 1x1 convolution."""
    return nn.Sequential(
        *_convolution(before, after, 1),
        *_depthwise(after, stride),
        *_convolution(after, after, 1),
    )


def _convolution(before: int, after: int, size: int) -> list[nn.Module]:
    """Return a convolution without bias, its BatchNorm and ReLU."""
    convolution = nn.Conv2d(before, after, size, padding=size // 2, bias=False)
    return [convolution, nn.BatchNorm2d(after), nn.ReLU()]


def _depthwise(channels: int, stride: int) -> list[nn.Module]:
    """Return a 3x3 convolution of each channel by itself, and its BatchNorm."""
    convolution = nn.Conv2d(
        channels, channels, 3, stride, padding=1, groups=channels, bias=False
    )
    return [convolution, nn.BatchNorm2d(channels)]
