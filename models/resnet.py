"""Residual networks for small images."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, final

from torch import Tensor, nn

from fedkd.data.images import ImageShape
from fedkd.models.base import TrunkConfig, TrunkModel, scaled

CHANNELS = (64, 128, 256, 512)


class ResNet(TrunkModel, ABC):
    """A ResNet with the stem for small images. Subclasses are final.

    He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016
    (activation after the addition), with what is usual on CIFAR: a 3x3 stem of stride 1
    and no max-pooling. The last map is averaged, so every image size works.
    """

    Config = TrunkConfig
    ends_in_relu = True
    block: ClassVar[type[Block]]
    """Kind of residual block."""
    blocks: ClassVar[tuple[int, int, int, int]]
    """Number of blocks in each stage."""

    def __init__(
        self, image_shape: ImageShape, num_classes: int, config: TrunkConfig
    ) -> None:
        channels = [scaled(c, config.width) for c in CHANNELS]
        last = channels[-1] * self.block.expansion
        super().__init__(image_shape, num_classes, last, config)
        self.stem = nn.Sequential(
            nn.Conv2d(image_shape[0], channels[0], 3, padding=1, bias=False),
            nn.BatchNorm2d(channels[0]),
            nn.ReLU(),
        )
        stages = []
        before = channels[0]
        for i, (planes, number) in enumerate(zip(channels, self.blocks, strict=True)):
            strides = [1 if i == 0 else 2] + [1] * (number - 1)
            stage = []
            for stride in strides:
                stage.append(self.block(before, planes, stride))
                before = planes * self.block.expansion
            stages.append(nn.Sequential(*stage))
        self.stages = nn.Sequential(*stages)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.make_head()

    def trunk(self, x: Tensor) -> Tensor:
        """Return the averaged last map, ``[B, T]``."""
        out_BT: Tensor = self.pool(self.stages(self.stem(x)))
        return out_BT


class Block(nn.Module, ABC):
    """A residual block: ReLU(branch(x) + shortcut(x))."""

    expansion = 1
    """Output channels for each of ``planes``."""

    def __init__(self, before: int, planes: int, stride: int) -> None:
        """Args: ``before`` input channels, ``planes`` inner ones, ``stride`` 1 or 2."""
        super().__init__()
        after = planes * self.expansion
        self.branch = self._branch(before, planes, stride)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(*_convolution(before, after, 1, stride))
        self.relu = nn.ReLU()

    @abstractmethod
    def _branch(self, before: int, planes: int, stride: int) -> nn.Sequential:
        """Return the layers from ``before`` to ``planes * expansion`` channels."""

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, before, H, W]`` to ``[B, planes * expansion, H/stride, W/stride]``."""
        out: Tensor = self.relu(self.branch(x) + self.shortcut(x))
        return out


@final
class Basic(Block):
    """Two 3x3 convolutions."""

    def _branch(self, before: int, planes: int, stride: int) -> nn.Sequential:
        return nn.Sequential(
            *_convolution(before, planes, 3, stride),
            nn.ReLU(),
            *_convolution(planes, planes, 3),
        )


@final
class Bottleneck(Block):
    """A 1x1, a 3x3 (with the stride) and a 1x1 convolution to four times the planes."""

    expansion = 4

    def _branch(self, before: int, planes: int, stride: int) -> nn.Sequential:
        return nn.Sequential(
            *_convolution(before, planes, 1),
            nn.ReLU(),
            *_convolution(planes, planes, 3, stride),
            nn.ReLU(),
            *_convolution(planes, planes * self.expansion, 1),
        )


def _convolution(
    before: int, after: int, size: int, stride: int = 1
) -> tuple[nn.Module, nn.Module]:
    """Return a convolution without bias and its BatchNorm."""
    convolution = nn.Conv2d(
        before, after, size, stride=stride, padding=size // 2, bias=False
    )
    return convolution, nn.BatchNorm2d(after)


@final
class ResNet18(ResNet):
    """ResNet-18: basic blocks 2-2-2-2, 512 features.

    11,173,962 parameters for 3x32x32 images of 10 classes.
    """

    block = Basic
    blocks = (2, 2, 2, 2)


@final
class ResNet34(ResNet):
    """ResNet-34: basic blocks 3-4-6-3, 512 features."""

    block = Basic
    blocks = (3, 4, 6, 3)


@final
class ResNet50(ResNet):
    """ResNet-50: bottleneck blocks 3-4-6-3, 2048 features."""

    block = Bottleneck
    blocks = (3, 4, 6, 3)
