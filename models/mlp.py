"""Fully connected networks."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import final

from torch import Tensor, nn

from fedkd.data.images import ImageShape
from fedkd.models.base import Share, Sizes, TrunkConfig, TrunkModel, scaled


class MlpConfig(TrunkConfig):
    """Options of fully connected networks."""

    hidden: Sizes = (200, 200)
    """Units of each hidden layer."""
    width: Share = 1.0
    """Share of the hidden units; ceil(units * width) remain."""


@final
class Mlp(TrunkModel):
    """Fully connected layers with ReLU on flattened images, and a linear head.

    The default is the "2NN" of McMahan et al., "Communication-Efficient Learning of Deep
    Networks from Decentralized Data", AISTATS 2017, section 3. Without hidden layers it
    is softmax regression.
    """

    Config = MlpConfig
    ends_in_relu = True

    def __init__(
        self, image_shape: ImageShape, num_classes: int, config: MlpConfig
    ) -> None:
        units = [scaled(size, config.width) for size in config.hidden]
        sizes = [math.prod(image_shape), *units]
        super().__init__(image_shape, num_classes, sizes[-1], config)
        # Without hidden layers, features are the image itself.
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
