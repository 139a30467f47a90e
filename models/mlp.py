"""Fully connected networks."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import final

from pydantic import field_validator
from torch import Tensor, nn

from fedkd.data.inputs import InputShape
from fedkd.models.base import Share, Sizes, TrunkConfig, TrunkModel, scaled


class MlpConfig(TrunkConfig):
    """Options of fully connected networks."""

    hidden: Sizes = (200, 200)
    """Units of each hidden layer."""
    width: Share = 1.0
    """Share of the hidden units; ceil(units * width) remain."""


@final
class Mlp(TrunkModel):
    """Fully connected layers with ReLU on vectors or flattened images, and a linear head.

    The default is the "2NN" of McMahan et al., "Communication-Efficient Learning of Deep
    Networks from Decentralized Data", AISTATS 2017, section 3. Without hidden layers it
    is softmax regression.
    """

    Config = MlpConfig
    takes = ("images", "vectors")
    ends_in_relu = True

    def __init__(
        self, input_shape: InputShape, num_classes: int, config: MlpConfig
    ) -> None:
        units = [scaled(size, config.width) for size in config.hidden]
        sizes = [math.prod(input_shape), *units]
        super().__init__(input_shape, num_classes, sizes[-1], config)
        # Without hidden layers, features are the input itself.
        self.nonnegative_features = self.nonnegative_features and bool(units)
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.make_head()

    def trunk(self, x: Tensor) -> Tensor:
        """Return the last hidden layer, ``[B, T]``."""
        out_BT: Tensor = self.body(x)
        return out_BT


class LinearConfig(TrunkConfig):
    """Options of the linear model."""

    width: Share = 1.0
    """Must be 1: there are no hidden units."""

    @field_validator("width")
    @classmethod
    def _whole(cls, width: float) -> float:
        if width != 1:
            raise ValueError(
                "Expected 1: a linear model has no hidden units, so nothing could be "
                "nested. Choose mlp for widths"
            )
        return width


@final
class Linear(TrunkModel):
    """Softmax regression on vectors or flattened images: what embeddings are probed with.

    Features are the input itself, unless they are projected. For 13 values and 3 classes
    it has 42 parameters.
    """

    Config = LinearConfig
    takes = ("images", "vectors")

    def __init__(
        self, input_shape: InputShape, num_classes: int, config: LinearConfig
    ) -> None:
        super().__init__(input_shape, num_classes, math.prod(input_shape), config)
        self.make_head()

    def trunk(self, x: Tensor) -> Tensor:
        """Return the inputs as vectors, ``[B, T]``."""
        return x.flatten(1)
