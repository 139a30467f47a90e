"""The generator and discriminator of DCGAN, as Mosaic's released code has them.

Radford, Metz, Chintala, "Unsupervised Representation Learning with Deep Convolutional
Generative Adversarial Networks", ICLR 2016, arXiv:1511.06434; for 32x32 images with the
layers of github.com/Wings-Of-Disaster/Mosaic, commit a7f8b5b (``utils/degan.py``). Other
sizes have a stage more or fewer for each factor of two; images whose sides are no equal
powers of two lie in the centre of the next larger square that has such a side.

Initial weights, drawn from torch's default generator: N(0, 0.02) for convolutions,
N(1, 0.02) for BatchNorm's scale, 0 for its shift.
"""

from __future__ import annotations

from itertools import pairwise
from typing import final

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from fedkd.data.images import ImageShape
from fedkd.models.base import Model, ModelConfig, Size
from fedkd.models.canvas import centre, framed, power_of_two

WIDEST = 8
"""A stage has at most this many times the base width."""


class GeneratorConfig(ModelConfig):
    """Options of generators."""

    latent_size: Size = 100
    """Z, the length of a noise vector."""
    width: Size = 64
    """Channels of the last hidden map."""


class DiscriminatorConfig(ModelConfig):
    """Options of discriminators."""

    width: Size = 64
    """Output channels of the first convolution."""


@final
class Generator(Model):
    """Maps noise to images in [-1, 1] by transposed convolutions from a 4x4 map.

    Each doubling of the side halves the channels (but they are at most 8 * width), up to
    ``width`` channels at full size; a 1x1 transposed convolution and tanh make the image.
    Sides are 8 or more; for 28x28 it makes 32x32 images and keeps their centre, and
    likewise for all other sizes. For 3x32x32 images, latent size 100 and width 64 it has
    3,573,824 parameters.
    """

    Config = GeneratorConfig

    def __init__(
        self, image_shape: ImageShape, num_classes: int, config: GeneratorConfig
    ) -> None:
        super().__init__()
        del num_classes  # it knows no labels
        side = power_of_two(image_shape)
        self.image_shape = image_shape
        self.latent_size = config.latent_size
        self.width = width = config.width
        doublings = (side // 4).bit_length() - 1
        channels = [width * min(2**i, WIDEST) for i in range(doublings, -1, -1)]
        layers = upward(self.latent_size, channels[0], stride=1, padding=0)
        for before, after in pairwise(channels):
            layers += upward(before, after, stride=2, padding=1)
        last = nn.ConvTranspose2d(channels[-1], image_shape[0], 1, bias=False)
        self.layers = nn.Sequential(*layers, last, nn.Tanh())
        self.apply(initialise)

    def forward(self, z_BZ: Tensor) -> Tensor:
        """Map noise ``[B, Z]`` or ``[B, Z, 1, 1]`` to images ``[B, C, H, W]``."""
        images: Tensor = self.layers(z_BZ.reshape(len(z_BZ), self.latent_size, 1, 1))
        return centre(images, self.image_shape)


@final
class Discriminator(Model):
    """Maps images to the logit of being real, by strided convolutions.

    Each stage halves the side and doubles the channels (but they are at most 8 * width)
    down to a 2x2 map, which a last convolution turns into one number. The published form
    ends in a sigmoid; here the loss applies it, which is the same and more exact. Sides
    are 8 or more; 28x28 images are padded by zeros to 32x32 in the first convolution, and
    likewise all other sizes. For 3x32x32 images and width 64 it has 2,759,424 parameters.
    """

    Config = DiscriminatorConfig

    def __init__(
        self, image_shape: ImageShape, num_classes: int, config: DiscriminatorConfig
    ) -> None:
        super().__init__()
        del num_classes  # it knows no labels
        side = power_of_two(image_shape)
        self.image_shape = image_shape
        self.width = width = config.width
        # The first convolution pads by whole margins; what is left is framed before.
        margin = (side - max(image_shape[1:])) // 2
        self._inner = side - 2 * margin
        halvings = (side // 2).bit_length() - 1
        channels = [width * min(2**i, WIDEST) for i in range(halvings)]
        layers: list[nn.Module] = [
            nn.Conv2d(image_shape[0], width, 4, 2, 1 + margin, bias=False),
            nn.LeakyReLU(0.2),
        ]
        for before, after in pairwise(channels):
            layers += [
                nn.Conv2d(before, after, 4, 2, 1, bias=False),
                nn.BatchNorm2d(after),
                nn.LeakyReLU(0.2),
            ]
        layers.append(nn.Conv2d(channels[-1], 1, 2, 2, bias=False))
        self.layers = nn.Sequential(*layers)
        self.apply(initialise)

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``[B, C, H, W]`` to logits ``[B]``."""
        logits: Tensor = self.layers(framed(x, self._inner, self._inner))
        return logits.flatten()


def upward(before: int, after: int, stride: int, padding: int) -> list[nn.Module]:
    """Return a 4x4 transposed convolution with BatchNorm and ReLU."""
    convolution = nn.ConvTranspose2d(before, after, 4, stride, padding, bias=False)
    return [convolution, nn.BatchNorm2d(after), nn.ReLU()]


def initialise(layer: nn.Module) -> None:
    """Draw the initial weights of a layer; for ``Module.apply``."""
    if isinstance(layer, _ConvNd):
        nn.init.normal_(layer.weight, 0.0, 0.02)
    if isinstance(layer, _BatchNorm):
        nn.init.normal_(layer.weight, 1.0, 0.02)
        nn.init.zeros_(layer.bias)
