"""Plain convolutional networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from torch import Tensor, nn

from fedkd.data.images import ImageShape
from fedkd.errors import ConfigError
from fedkd.models.base import (
    TrunkModel,
    normalisation,
    scaled,
    whole_number,
    whole_numbers,
)

LENET4_CHANNELS = (64, 128, 256, 512)
SMALLEST_MAP = 2
"""Side below which maps are not pooled further."""


@final
class Cnn(TrunkModel):
    """A small network: 3x3 convolutions, each with ReLU and pooling, and two layers.

    A convolution is followed by normalisation, ReLU and max-pooling by 2; it is not pooled
    where its map would become smaller than 2x2, so that 8x8 images work. Then a linear
    layer with ReLU gives the features.
    """

    def __init__(  # noqa: PLR0913 - options, given by name
        self,
        image_shape: ImageShape,
        num_classes: int,
        *,
        channels: Sequence[int] = (16, 32, 64),
        hidden: int = 64,
        norm: str = "batch",
        width: float = 1.0,
        features: int | None = None,
    ) -> None:
        """Build the network.

        Args:
            image_shape: ``(channels, height, width)`` of the images.
            num_classes: Number of logits.
            channels: Output channels of each convolution.
            hidden: Units of the linear layer.
            norm: ``batch``, ``group`` or ``none``.
            width: Share of the hidden channels and units, in (0, 1], rounded up.
            features: Length of features after a learned projection; None: no projection.

        Raises:
            ConfigError: If an option cannot be used.
        """
        units = scaled(whole_number("hidden", hidden), width)
        super().__init__(image_shape, num_classes, units, width, features)
        convolutions = [scaled(c, width) for c in _some("channels", channels)]
        layers, side = _convolutions(self.image_shape, convolutions, norm)
        pixels = side[0] * side[1] * convolutions[-1]
        self.body = nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(pixels, units), nn.ReLU()
        )
        self.make_head()

    def trunk(self, x: Tensor) -> Tensor:
        """Return the hidden layer, ``[B, T]``."""
        out_BT: Tensor = self.body(x)
        return out_BT


def cnn_plain(
    image_shape: ImageShape,
    num_classes: int,
    *,
    channels: Sequence[int] = (16, 32, 64),
    hidden: int = 64,
    width: float = 1.0,
    features: int | None = None,
) -> Cnn:
    """Return the small network without normalisation.

    Args:
        image_shape: ``(channels, height, width)`` of the images.
        num_classes: Number of logits.
        channels: Output channels of each convolution.
        hidden: Units of the linear layer.
        width: Share of the hidden channels and units, in (0, 1], rounded up.
        features: Length of features after a learned projection; None: no projection.

    Raises:
        ConfigError: If an option cannot be used.
    """
    return Cnn(
        image_shape,
        num_classes,
        channels=channels,
        hidden=hidden,
        norm="none",
        width=width,
        features=features,
    )


@final
class Lenet4(TrunkModel):
    """The "Lenet" of DFRD: four convolutions, global average pooling, a linear head.

    3x3 convolutions 64-128-256-512 with bias, each with normalisation, ReLU and
    max-pooling by 2 (where the map stays at least 2x2). As in the code of DFRD's first
    author (github.com/lkyddd/DFDG, ``models/model.py``), the head's bias starts at 0.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        num_classes: int,
        *,
        norm: str = "batch",
        width: float = 1.0,
        features: int | None = None,
    ) -> None:
        """Build the network.

        Args:
            image_shape: ``(channels, height, width)`` of the images.
            num_classes: Number of logits.
            norm: ``batch``, ``group`` or ``none``.
            width: Share of the hidden channels, in (0, 1]; ceil(C * width) remain.
            features: Length of features after a learned projection; None: no projection.

        Raises:
            ConfigError: If an option cannot be used.
        """
        convolutions = [scaled(c, width) for c in LENET4_CHANNELS]
        super().__init__(image_shape, num_classes, convolutions[-1], width, features)
        layers, _ = _convolutions(self.image_shape, convolutions, norm, bias=True)
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
    norm: str,
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
        layers += [convolution, normalisation(norm, after), nn.ReLU()]
        if min(height, breadth) // 2 >= SMALLEST_MAP:
            layers.append(nn.MaxPool2d(2))
            height, breadth = height // 2, breadth // 2
        before = after
    return layers, (height, breadth)


def _some(name: str, values: Sequence[int]) -> tuple[int, ...]:
    """Return a list of whole numbers that is not empty."""
    numbers = whole_numbers(name, values)
    if not numbers:
        raise ConfigError(f"{name}: found an empty list, expected at least one number.")
    return numbers
