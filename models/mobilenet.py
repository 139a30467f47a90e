"""MobileNet v2 for small images.

Sandler, Howard, Zhu, Zhmoginov, Chen, "MobileNetV2: Inverted Residuals and Linear
Bottlenecks", CVPR 2018, arXiv:1801.04381, table 2, with what is usual on CIFAR: the stem
and the first two changes of channels keep the size of the map (stride 1), three later ones
halve it. A block adds its input where both have one shape, which is in all blocks of a
stage but the first.

Initial weights are PyTorch's; the paper names none.
"""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

from fedkd.data.images import ImageShape
from fedkd.models.base import Share, TrunkConfig, TrunkModel, scaled

STEM = 32
LAST = 1280
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, output channels, blocks and stride of the first block."""


class MobileNetConfig(TrunkConfig):
    """Options of MobileNet v2."""

    width: Share = 1.0
    """Share of the hidden channels; ceil(C * width) remain of every layer, the first and
    the last too, so that widths nest."""


@final
class MobileNet(TrunkModel):
    """MobileNet v2: 17 inverted residual blocks, 1280 features, linear head.

    The last map is averaged, so every image size works. 2,236,682 parameters for 3x32x32
    images of 10 classes; like the published network without its dropout.
    """

    Config = MobileNetConfig
    ends_in_relu = True

    def __init__(
        self, image_shape: ImageShape, num_classes: int, config: MobileNetConfig
    ) -> None:
        width = config.width
        last = scaled(LAST, width)
        super().__init__(image_shape, num_classes, last, config)
        stem = scaled(STEM, width)
        layers: list[nn.Module] = [*_convolution(image_shape[0], stem, 3)]
        before = STEM
        for expansion, after, blocks, stride in STAGES:
            for i in range(blocks):
                hidden = 0 if expansion == 1 else scaled(before * expansion, width)
                sizes = (scaled(before, width), hidden, scaled(after, width))
                layers.append(Block(*sizes, stride=stride) if i == 0 else Block(*sizes))
                before = after
        layers += _convolution(scaled(before, width), last, 1)
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.make_head()

    def trunk(self, x: Tensor) -> Tensor:
        """Return the averaged last map, ``[B, T]``."""
        out_BT: Tensor = self.body(x)
        return out_BT


@final
class Block(nn.Module):
    """1x1 to more channels, 3x3 channel by channel, 1x1 to few; no ReLU at the end."""

    def __init__(
        self, before: int, hidden: int, after: int, stride: int | None = None
    ) -> None:
        """Build the block.

        Args:
            before: Input channels.
            hidden: Channels of the 3x3 convolution; 0: those of the input, which is then
                not expanded.
            after: Output channels.
            stride: Stride of the 3x3 convolution in the first block of a stage; None: 1,
                and the input is added. Narrow stages may have equal channels by chance,
                and must not differ from the full ones.
        """
        super().__init__()
        self.is_residual = stride is None
        expanding = _convolution(before, hidden, 1) if hidden else []
        inner = hidden or before
        self.branch = nn.Sequential(
            *expanding,
            *_convolution(inner, inner, 3, stride=stride or 1, groups=inner),
            *_convolution(inner, after, 1)[:-1],
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, before, H, W]`` to ``[B, after, H / stride, W / stride]``."""
        out: Tensor = self.branch(x)
        return x + out if self.is_residual else out


def _convolution(
    before: int, after: int, size: int, *, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    """Return a convolution without bias, its BatchNorm and ReLU6."""
    convolution = nn.Conv2d(
        before, after, size, stride, size // 2, groups=groups, bias=False
    )
    return [convolution, nn.BatchNorm2d(after), nn.ReLU6()]
