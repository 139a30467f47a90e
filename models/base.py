"""What every classifier offers, and the checks that their options share.

Initial weights come from torch's default generator: those of PyTorch's layers, uniform
in +-1/sqrt(fan_in) for weights and biases of convolutions and linear layers, one and zero
for the scale and shift of normalisation.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from fedkd.data.images import ImageShape
from fedkd.errors import ConfigError, listing, suggestion

NORMS = ("batch", "group", "none")
"""Kinds of normalisation after a convolution."""


class ImageModel(nn.Module, ABC):
    """A classifier in two parts, features and head. Subclasses are final.

    A subclass makes its layers after calling this constructor, the head last.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        num_classes: int,
        feature_size: int,
        width: float = 1.0,
    ) -> None:
        """Keep what others may ask of the model.

        Args:
            image_shape: ``(channels, height, width)`` of the images.
            num_classes: C, the number of logits.
            feature_size: D, the length of a feature vector.
            width: Share of the hidden channels that this model has, in (0, 1].

        Raises:
            ConfigError: If a size is not a positive whole number.
        """
        super().__init__()
        channels, height, breadth = whole_numbers("image_shape", image_shape)
        self.image_shape: ImageShape = (channels, height, breadth)
        self.num_classes = whole_number("num_classes", num_classes)
        self.feature_size = whole_number("feature_size", feature_size)
        self.width = share("width", width)

    @abstractmethod
    def features(self, x: Tensor) -> Tensor:
        """Map normalised images ``[B, C, H, W]`` to features ``[B, D]``."""

    @abstractmethod
    def head(self, features_BD: Tensor) -> Tensor:
        """Map features ``[B, D]`` to logits ``[B, classes]``."""

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised images ``[B, C, H, W]`` to logits; not to be overridden."""
        return self.head(self.features(x))


class TrunkModel(ImageModel):
    """A trunk, a projection if features of a given size are asked for, a linear head.

    The projection makes ``feature_size`` equal over architectures and widths, for methods
    that exchange features. It is linear, is learned with the rest and belongs to the
    features. A subclass makes its trunk after calling this constructor, and then calls
    :meth:`make_head`.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        num_classes: int,
        trunk_size: int,
        width: float = 1.0,
        features: int | None = None,
    ) -> None:
        """Keep what others may ask of the model.

        Args:
            image_shape: ``(channels, height, width)`` of the images.
            num_classes: C, the number of logits.
            trunk_size: T, the length of what the trunk returns.
            width: Share of the hidden channels that this model has, in (0, 1].
            features: D, the length to which a linear layer maps it; None: there is no
                such layer, and D is T.

        Raises:
            ConfigError: If a size is not a positive whole number.
        """
        size = trunk_size if features is None else whole_number("features", features)
        super().__init__(image_shape, num_classes, size, width)
        self.trunk_size = trunk_size
        self.is_projected = features is not None
        """Whether a learned layer stands between trunk and head."""

    def make_head(self) -> None:
        """Make the layers after the trunk: the projection, if any, and the head."""
        self.projection: nn.Module = nn.Identity()
        if self.is_projected:
            self.projection = nn.Linear(self.trunk_size, self.feature_size)
        self.classifier = nn.Linear(self.feature_size, self.num_classes)

    @abstractmethod
    def trunk(self, x: Tensor) -> Tensor:
        """Map normalised images ``[B, C, H, W]`` to ``[B, T]``."""

    def features(self, x: Tensor) -> Tensor:
        """Map normalised images ``[B, C, H, W]`` to features ``[B, D]``."""
        features_BD: Tensor = self.projection(self.trunk(x))
        return features_BD

    def head(self, features_BD: Tensor) -> Tensor:
        """Map features ``[B, D]`` to logits ``[B, classes]``."""
        logits_BC: Tensor = self.classifier(features_BD)
        return logits_BC


def scaled(size: int, width: float) -> int:
    """Return ceil(size * width), the number of hidden channels at a width in (0, 1].

    Raises:
        ConfigError: If ``width`` is not in (0, 1].
    """
    # 100 * 0.07 is 7.000000000000001 in floats, and stands for 7.
    return math.ceil(size * share("width", width) - 1e-9)


def normalisation(kind: str, channels: int) -> nn.Module:
    """Return a new normalisation layer for maps ``[B, channels, H, W]``.

    ``group`` makes gcd(8, channels) groups.

    Raises:
        ConfigError: If ``kind`` is unknown.
    """
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "group":
        return nn.GroupNorm(math.gcd(8, channels), channels)
    if kind == "none":
        return nn.Identity()
    raise ConfigError(
        f"norm: found {kind!r}, expected one of {listing(NORMS)}."
        f"{suggestion(str(kind), NORMS)}"
    )


def whole_number(name: str, value: int) -> int:
    """Return ``value`` if it is a positive whole number.

    Raises:
        ConfigError: If it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(
            f"{name}: found {value!r}, expected a whole number from 1 on."
        )
    return value


def whole_numbers(name: str, values: Sequence[int]) -> tuple[int, ...]:
    """Return ``values`` as a tuple if it is a list of positive whole numbers.

    Raises:
        ConfigError: If it is not.
    """
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise ConfigError(
            f"{name}: found {values!r}, expected a list of whole numbers."
        )
    return tuple(whole_number(f"{name}[{i}]", value) for i, value in enumerate(values))


def share(name: str, value: float) -> float:
    """Return ``value`` as a float if it is a number in (0, 1].

    Raises:
        ConfigError: If it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{name}: found {value!r}, expected a number in (0, 1].")
    if not 0 < value <= 1:
        raise ConfigError(f"{name}: found {value!r}, expected a number in (0, 1].")
    return float(value)
