"""Plain convolutional networks."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from typing import final

from pydantic import Field
from torch import Tensor, nn

from fedkd.data.images import ImageShape
from fedkd.models.base import (
    Norm,
    Share,
    Size,
    Sizes,
    TrunkConfig,
    TrunkModel,
    normalisation,
    scaled,
)

LENET4_CHANNELS = (64, 128, 256, 512)
SMALLEST_MAP = 2
"""Side below which maps are not pooled further."""


class PlainConfig(TrunkConfig):
    """Options of the small network without normalisation."""

    channels: Sizes = Field((16, 32, 64), min_length=1)
    """Output channels of each convolution."""
    hidden: Size = 64
    """Units of the linear layer."""
    width: Share = 1.0
    """Share of the hidden channels and units, in (0, 1], rounded up."""


class CnnConfig(PlainConfig):
    """Options of the small network."""

    norm: Norm = "batch"
    """Normalisation after each convolution."""


class SmallNetwork(TrunkModel, ABC):
    """What :class:`Cnn` and :class:`CnnPlain` share: all but whether they normalise."""

    ends_in_relu = True

    def __init__(
        self, image_shape: ImageShape, num_classes: int, config: PlainConfig, norm: Norm
    ) -> None:
        """Build the network, with normalisation as ``norm`` says."""
        units = scaled(config.hidden, config.width)
        super().__init__(image_shape, num_classes, units, config)
        convolutions = [scaled(c, config.width) for c in config.channels]
        layers, side = _convolutions(image_shape, convolutions, norm)
        pixels = side[0] * side[1] * convolutions[-1]
        self.body = nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(pixels, units), nn.ReLU()
        )
        self.make_head()

    def trunk(self, x: Tensor) -> Tensor:
        """Return the hidden layer, ``[B, T]``."""
        out_BT: Tensor = self.body(x)
        return out_BT


@final
class Cnn(SmallNetwork):
    """A small network: 3x3 convolutions, each with ReLU and pooling, and two layers.

    A convolution is followed by normalisation, ReLU and max-pooling by 2; it is not pooled
    where its map would become smaller than 2x2, so that 8x8 images work. Then a linear
    layer with ReLU gives the features.
    """

    Config = CnnConfig

    def __init__(
        self, image_shape: ImageShape, num_classes: int, config: CnnConfig
    ) -> None:
        super().__init__(image_shape, num_classes, config, config.norm)


@final
class CnnPlain(SmallNetwork):
    """The small network without normalisation."""

    Config = PlainConfig

    def __init__(
        self, image_shape: ImageShape, num_classes: int, config: PlainConfig
    ) -> None:
        super().__init__(image_shape, num_classes, config, "none")


class Lenet4Config(TrunkConfig):
    """Options of the "Lenet" of DFRD."""

    norm: Norm = "batch"
    """Normalisation after each convolution."""


@final
class Lenet4(TrunkModel):
    """The "Lenet" of DFRD: four convolutions, global average pooling, a linear head.

    3x3 convolutions 64-128-256-512 with bias, each with normalisation, ReLU and
    max-pooling by 2 (where the map stays at least 2x2). As in the code of DFRD's first
    author (github.com/lkyddd/DFDG, ``models/model.py``), the head's bias starts at 0.
    """

    Config = Lenet4Config
    ends_in_relu = True

    def __init__(
        self, image_shape: ImageShape, num_classes: int, config: Lenet4Config
    ) -> None:
        convolutions = [scaled(c, config.width) for c in LENET4_CHANNELS]
        super().__init__(image_shape, num_classes, convolutions[-1], config)
        layers, _ = _convolutions(image_shape, convolutions, config.norm, bias=True)
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.make_head()
        nn.init.zeros_(self.classifier.bias)

    def trunk(self, x: Tensor) -> Tensor:
        """Return the averaged last map, ``[B, T]``."""
        out_BT: Tensor = self.body(x)
        return out_BT


def _convolutions(
    image_shape: ImageShape,
    channels: Sequence[int],
    norm: Norm,
    bias: bool = False,
) -> tuple[list[nn.Module], tuple[int, int]]:
    """Return convolutions with what follows each, and the side lengths of the last map.

    Without normalisation, which would take it away again, there is always a bias.
    """
    before, height, breadth = image_shape
    layers: list[nn.Module] = []
    for after in channels:
        biased = bias or norm == "none"
        convolution = nn.Conv2d(before, after, 3, padding=1, bias=biased)
        layers += [convolution, normalisation(norm, after)]
        # Both commute, to the bit and in their gradients too; of a quarter of the map,
        # ReLU is a quarter of the work.
        if min(height, breadth) // 2 >= SMALLEST_MAP:
            layers.append(nn.MaxPool2d(2))
            height, breadth = height // 2, breadth // 2
        layers.append(nn.ReLU())
        before = after
    return layers, (height, breadth)
