"""The generator of DENSE: noise to images in [0, 1] by upsampling and convolutions.

Zhang et al., "DENSE: Data-Free One-Shot Federated Learning", NeurIPS 2022,
arXiv:2112.12371; layers of github.com/zj-jayzhang/DENSE for 32x32 images. Other sizes
start from a map of another side.

Initial weights, drawn from torch's default generator: N(0, 0.02) for convolutions and
the linear layer, N(1, 0.02) for BatchNorm's scale, 0 for all biases.
"""

from __future__ import annotations

from typing import final

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fedkd.data.images import ImageShape
from fedkd.models.base import Model, ModelConfig, Size
from fedkd.models.canvas import centre, multiples

SHRINKING = 4
"""The first map is this many times smaller than the image."""


class GeneratorConfig(ModelConfig):
    """Options of DENSE's generator."""

    latent_size: Size = 256
    """Z, the length of a noise vector."""
    width: Size = 64
    """Channels of the last hidden map."""


@final
class Generator(Model):
    """Maps noise to images in [0, 1]: a linear layer, then two doublings of the side.

    Linear(Z -> 2w x H/4 x W/4), BatchNorm, up by 2, conv 2w, BatchNorm, LeakyReLU 0.2,
    up by 2, conv w, BatchNorm, LeakyReLU, conv with bias, sigmoid; w is the width and
    convolutions are 3x3. Sides are 8 or more; where they are no multiples of 4, it makes
    the next larger ones and keeps the centre. Classifiers that are trained on normalised
    images must be given (x - mean)/std. For 3x32x32 images, latent size 256 and
    width 64 it has 2,328,899 parameters.
    """

    Config = GeneratorConfig

    def __init__(
        self, image_shape: ImageShape, num_classes: int, config: GeneratorConfig
    ) -> None:
        super().__init__()
        del num_classes  # it knows no labels
        channels = image_shape[0]
        height, breadth = multiples(image_shape, SHRINKING)
        self.image_shape = image_shape
        self.latent_size = config.latent_size
        self.width = width = config.width
        self._first = (2 * width, height // SHRINKING, breadth // SHRINKING)
        self.expand = nn.Linear(
            config.latent_size, 2 * width * self._first[1] * self._first[2]
        )
        self.layers = nn.Sequential(
            nn.BatchNorm2d(2 * width),
            nn.Upsample(scale_factor=2),
            *_convolution(2 * width, 2 * width),
            nn.Upsample(scale_factor=2),
            *_convolution(2 * width, width),
            nn.Conv2d(width, channels, 3, padding=1),
            nn.Sigmoid(),
        )
        self.reset()

    def reset(self) -> None:
        """Draw new initial weights, in place."""
        self.apply(_initialise)

    def forward(self, z_BZ: Tensor) -> Tensor:
        """Map noise ``[B, Z]`` to images ``[B, C, H, W]``."""
        images: Tensor = self.layers(self.expand(z_BZ).view(-1, *self._first))
        return centre(images, self.image_shape)


def _convolution(before: int, after: int) -> list[nn.Module]:
    """Return a 3x3 convolution with BatchNorm and LeakyReLU."""
    convolution = nn.Conv2d(before, after, 3, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(after), nn.LeakyReLU(0.2)]


def _initialise(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d | nn.Linear):
        nn.init.normal_(layer.weight, 0.0, 0.02)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    if isinstance(layer, _BatchNorm):
        nn.init.normal_(layer.weight, 1.0, 0.02)
        nn.init.zeros_(layer.bias)
        layer.reset_running_stats()
