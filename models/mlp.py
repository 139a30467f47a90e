"""Fully connected networks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import final

from torch import Tensor, nn

from fedkd.data.images import ImageShape
from fedkd.models.base import TrunkModel, scaled, whole_numbers


@final
class Mlp(TrunkModel):
    """Fully connected layers with ReLU on flattened images, and a linear head.

    The default is the "2NN" of McMahan et al., "Communication-Efficient Learning of Deep
    Networks from Decentralized Data", AISTATS 2017, section 3. Without hidden layers it
    is softmax regression.
    """

    def __init__(
        self,
        image_shape: ImageShape,
        num_classes: int,
        *,
        hidden: Sequence[int] = (200, 200),
        width: float = 1.0,
        features: int | None = None,
    ) -> None:
        """Build the network.

        Args:
            image_shape: ``(channels, height, width)`` of the images.
            num_classes: Number of logits.
            hidden: Units of each hidden layer.
            width: Share of the hidden units, in (0, 1]; ceil(units * width) remain.
            features: Length of features after a learned projection; None: no projection.

        Raises:
            ConfigError: If an option cannot be used.
        """
        units = [scaled(size, width) for size in whole_numbers("hidden", hidden)]
        sizes = [math.prod(image_shape), *units]
        super().__init__(image_shape, num_classes, sizes[-1], width, features)
        layers: list[nn.Module] = [nn.Flatten()]
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.make_head()

    def trunk(self, x: Tensor) -> Tensor:
        """Return the last hidden layer, ``[B, T]``."""
        out_BT: Tensor = self.body(x)
        return out_BT
