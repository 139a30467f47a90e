"""VGG networks for small images.

Simonyan, Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
ICLR 2015, arXiv:1409.1556, table 1, with what is usual on CIFAR: BatchNorm after each
convolution, which keeps its bias, and one linear layer instead of three.

Initial weights are PyTorch's, not the paper's: N(0, 0.1) for all weights, made for 224x224
images, lets small ones die out.
"""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

from fedkd.data.images import ImageShape
from fedkd.models.base import Norm, TrunkConfig, TrunkModel, normalisation, scaled

STAGES_11 = ((64,), (128,), (256, 256), (512, 512), (512, 512))
"""Configuration A: channels of 3x3 convolutions; max-pooling by 2 ends each stage."""


class VggConfig(TrunkConfig):
    """Options of VGG-11."""

    norm: Norm = "batch"
    """Normalisation after each convolution; ``none`` as published."""


@final
class Vgg11(TrunkModel):
    """VGG-11: convolutions 64-128-256-256-512-512-512-512 in five stages, linear head.

    Convolutions are 3x3 with bias, each with normalisation and ReLU. A stage ends in
    max-pooling by 2 while the map is larger than 1x1, and the last map is averaged, so
    every image size works. 9,231,114 parameters for 3x32x32 images of 10 classes.
    """

    Config = VggConfig
    ends_in_relu = True

    def __init__(
        self, image_shape: ImageShape, num_classes: int, config: VggConfig
    ) -> None:
        stages = [[scaled(c, config.width) for c in stage] for stage in STAGES_11]
        super().__init__(image_shape, num_classes, stages[-1][-1], config)
        before, height, breadth = image_shape
        layers: list[nn.Module] = []
        for stage in stages:
            for after in stage:
                layers.append(nn.Conv2d(before, after, 3, padding=1))
                layers += [normalisation(config.norm, after), nn.ReLU()]
                before = after
            if min(height, breadth) > 1:
                # Before ReLU: to the bit the same, and a quarter of ReLU's work.
                layers.insert(-1, nn.MaxPool2d(2))
                height, breadth = height // 2, breadth // 2
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.make_head()

    def trunk(self, x: Tensor) -> Tensor:
        """Return the averaged last map, ``[B, T]``."""
        out_BT: Tensor = self.body(x)
        return out_BT
