"""What models and their options share.

Initial weights come from torch's default generator: those of PyTorch's layers, uniform
in +-1/sqrt(fan_in) for weights and biases of convolutions and linear layers, one and zero
for the scale and shift of normalisation.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import ConfigDict, Field, model_validator
from torch import Tensor, nn

from fedkd.config import Config, build
from fedkd.data.images import ImageShape
from fedkd.data.inputs import InputKind, InputShape
from fedkd.errors import ConfigError

Size = Annotated[int, Field(ge=1)]
"""A positive whole number: of channels, of units."""
Sizes = Annotated[tuple[Size, ...], Field(strict=False)]
"""Positive whole numbers, one for each of several layers; a list will do."""
Share = Annotated[float, Field(gt=0, le=1)]
"""A part of a whole."""
Norm = Literal["batch", "group", "none"]
"""Kinds of normalisation after a convolution."""


M = TypeVar("M", bound="Model")


class ModelConfig(Config):
    """Options of a model. Numbers are not read from texts, nor whole ones from others."""

    model_config = ConfigDict(strict=True)


class TrunkConfig(ModelConfig):
    """Options that all classifiers here have."""

    younger_options = frozenset({"projection_units"})
    width: Share = 1.0
    """Share of the hidden channels; ceil(C * width) remain."""
    features: int | None = Field(None, ge=1)
    """Length of features after a learned projection; None: no projection."""
    projection_units: int | None = Field(None, ge=1)
    """Units of a hidden layer with ReLU in that projection; None: it is linear."""

    @model_validator(mode="after")
    def _of_a_projection(self) -> TrunkConfig:
        if self.projection_units is not None and self.features is None:
            raise ValueError(
                f"found projection_units={self.projection_units} without features; give "
                "features, the length of what the projection returns, or leave both out"
            )
        return self


class Model(nn.Module):
    """A network of some kind, with options. Subclasses are final, or abstract.

    The constructor of a subclass takes ``(input_shape, num_classes, config)``: the shape
    ``(channels, height, width)`` of images or ``(D,)`` of vectors, the number of classes,
    and an instance of its ``Config``. It raises ``ConfigError`` if it cannot do with such
    inputs.
    """

    Config: ClassVar[type[Config]] = Config
    """The documented options; one field each."""
    takes: ClassVar[tuple[InputKind, ...]] = ("images",)
    """The kinds of data that it is for; elsewhere it is not built."""

    @classmethod
    def build(
        cls: type[M], input_shape: InputShape, num_classes: int, **options: Any
    ) -> M:
        """Return a new model with options by name, the others at their defaults.

        Args:
            input_shape: ``(channels, height, width)`` of images, ``(D,)`` of vectors.
            num_classes: Number of classes.
            options: Fields of its ``Config``.

        Raises:
            ConfigError: If an option is unknown or cannot be used.
        """
        config = build(cls.Config, options, cls.__name__)
        return cls(input_shape, num_classes, config)


class Classifier(Model, ABC):
    """A classifier in two parts, features and head. Subclasses are final.

    A subclass makes its layers after calling this constructor, the head last.
    """

    def __init__(
        self,
        input_shape: InputShape,
        num_classes: int,
        feature_size: int,
        width: float = 1.0,
    ) -> None:
        """Keep what others may ask of the model.

        Args:
            input_shape: ``(channels, height, width)`` of images, ``(D,)`` of vectors.
            num_classes: C, the number of logits.
            feature_size: D, the length of a feature vector.
            width: Share of the hidden channels that this model has, in (0, 1].

        Raises:
            ConfigError: If a size is not a positive whole number.
        """
        super().__init__()
        self.input_shape: InputShape = tuple(
            whole_number(f"input_shape[{i}]", size)
            for i, size in enumerate(input_shape)
        )
        self.num_classes = whole_number("num_classes", num_classes)
        self.feature_size = whole_number("feature_size", feature_size)
        self.width = width
        self.nonnegative_features = False
        """Whether no entry of a feature vector is ever negative, as after a ReLU."""

    @abstractmethod
    def features(self, x: Tensor) -> Tensor:
        """Map normalised inputs, ``[B, C, H, W]`` or ``[B, D]``, to features."""

    @abstractmethod
    def head(self, features_BD: Tensor) -> Tensor:
        """Map features ``[B, D]`` to logits ``[B, classes]``."""

    def forward(self, x: Tensor) -> Tensor:
        """Map normalised inputs to logits ``[B, classes]``; not to be overridden."""
        return self.head(self.features(x))


class ImageModel(Classifier):
    """A classifier of images. Subclasses are final.

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
        super().__init__(image_shape, num_classes, feature_size, width)
        self.image_shape = image_shape


class TrunkModel(Classifier):
    """A trunk, a projection if features of a given size are asked for, a linear head.

    The projection makes ``feature_size`` equal over architectures and widths, for methods
    that exchange features. It is linear, or has one hidden layer (the projection head of
    contrastive methods), is learned with the rest and belongs to the features. A subclass
    makes its trunk after calling this constructor, and then calls
    :meth:`make_head`.
    """

    ends_in_relu: ClassVar[bool] = False
    """Whether the trunk's last layer, but for averages and maxima, is a ReLU."""

    def __init__(
        self,
        input_shape: InputShape,
        num_classes: int,
        trunk_size: int,
        config: TrunkConfig,
    ) -> None:
        """Keep what others may ask of the model.

        Args:
            input_shape: ``(channels, height, width)`` of images, ``(D,)`` of vectors.
            num_classes: C, the number of logits.
            trunk_size: T, the length of what the trunk returns.
            config: Its width and, if features are to be projected, their length D.

        Raises:
            ConfigError: If a size is not a positive whole number.
        """
        size = config.features or trunk_size
        super().__init__(input_shape, num_classes, size, config.width)
        self.trunk_size = trunk_size
        self._units = config.projection_units
        self.is_projected = config.features is not None
        """Whether a learned layer stands between trunk and head."""
        self.nonnegative_features = self.ends_in_relu and not self.is_projected

    def make_head(self) -> None:
        """Make the layers after the trunk: the projection, if any, and the head."""
        self.projection: nn.Module = nn.Identity()
        if self._units is not None:
            self.projection = nn.Sequential(
                nn.Linear(self.trunk_size, self._units),
                nn.ReLU(),
                nn.Linear(self._units, self.feature_size),
            )
        elif self.is_projected:
            self.projection = nn.Linear(self.trunk_size, self.feature_size)
        self.classifier = nn.Linear(self.feature_size, self.num_classes)

    @abstractmethod
    def trunk(self, x: Tensor) -> Tensor:
        """Map normalised inputs, ``[B, C, H, W]`` or ``[B, D]``, to ``[B, T]``."""

    def features(self, x: Tensor) -> Tensor:
        """Map normalised inputs, ``[B, C, H, W]`` or ``[B, D]``, to features."""
        features_BD: Tensor = self.projection(self.trunk(x))
        return features_BD

    def head(self, features_BD: Tensor) -> Tensor:
        """Map features ``[B, D]`` to logits ``[B, classes]``."""
        logits_BC: Tensor = self.classifier(features_BD)
        return logits_BC


def scaled(size: int, width: float) -> int:
    """Return ceil(size * width), the number of hidden channels at a width in (0, 1]."""
    # 100 * 0.07 is 7.000000000000001 in floats, and stands for 7.
    return math.ceil(size * width - 1e-9)


def normalisation(kind: Norm, channels: int) -> nn.Module:
    """Return a new normalisation layer for maps ``[B, channels, H, W]``.

    ``group`` makes gcd(8, channels) groups.
    """
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "group":
        return nn.GroupNorm(math.gcd(8, channels), channels)
    return nn.Identity()


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
