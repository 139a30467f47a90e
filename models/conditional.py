"""Generators that are told a label: of images, of vectors, and of features.

A generator of images maps noise ``[B, Z]`` and labels ``[B]`` to ``[B, C, H, W]``, one of
vectors to ``[B, D]``, in two steps, ``merge`` (noise and label to one vector, which
DFRD's diversity loss looks at) and ``decode``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import pairwise
from typing import Literal, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedkd.data.images import ImageShape
from fedkd.data.inputs import InputShape
from fedkd.models.base import Model, ModelConfig, Size
from fedkd.models.canvas import centre, multiples, power_of_two
from fedkd.models.dcgan import WIDEST, GeneratorConfig, initialise, upward


class AcganConfig(GeneratorConfig):
    """Options of the generator of DFRD."""

    width: Size = 64
    """Base width of the maps."""
    merge: Literal["mul", "add", "cat", "cat_naive", "none"] = "mul"
    """How noise z and label y become one vector: z * E(y) (``mul``), z + E(y) (``add``),
    both in a row (``cat``), z and a one-hot label in a row (``cat_naive``), z alone
    (``none``). E is learnt."""


class FeatureConfig(ModelConfig):
    """Options of the generator of FedGen."""

    feature_size: Size = 32
    """D, the length of a feature vector."""
    latent_size: Size = 32
    """Z, the length of a noise vector."""
    hidden: Size = 256
    """Units of the hidden layer."""
    embedding: bool = False
    """Whether labels are learnt vectors of length Z and not one-hot."""
    nonnegative: bool = False
    """Whether a last ReLU keeps features from being negative."""


class VectorConfig(ModelConfig):
    """Options of the generator of vectors."""

    latent_size: Size = 32
    """Z, the length of a noise vector."""
    width: Size = 64
    """Units of each hidden layer."""


class ConditionalGenerator(Model, ABC):
    """Maps noise and labels to images or vectors. Subclasses are final."""

    latent_size: int
    """Z, the length of a noise vector."""

    @abstractmethod
    def merge(self, z_BZ: Tensor, labels_B: Tensor) -> Tensor:
        """Return noise and label as one vector h, ``[B, A]``."""

    @abstractmethod
    def decode(self, h_BA: Tensor) -> Tensor:
        """Map merged vectors ``[B, A]`` to images ``[B, C, H, W]`` or to ``[B, D]``."""

    def forward(self, z_BZ: Tensor, labels_B: Tensor) -> Tensor:
        """Map noise ``[B, Z]`` and labels ``[B]`` to ``[B, C, H, W]`` or ``[B, D]``."""
        return self.decode(self.merge(z_BZ, labels_B))


@final
class AcganGenerator(ConditionalGenerator):
    """Maps noise and labels to images in [-1, 1] by transposed convolutions.

    The generator of DFRD's first author (github.com/lkyddd/DFDG, ``Generator_ACGan``):
    the merged vector becomes a 4x4 map (without BatchNorm), each doubling of the side
    halves the channels, and the last one makes the image by tanh. Channels are 8w, 4w, 2w
    at 32x32, with w more at 64x64 and without the widest at smaller sides; w is the
    width. Sides are 8 or more; for 28x28 it makes 32x32 images and keeps their centre, and
    likewise for all other sizes but powers of two. Initial weights:
    N(0, 0.02) for convolutions, N(1, 0.02) for BatchNorm's scale, N(0, 1) for the
    embedding of labels. For 3x32x32 images, 10 classes, latent size 100, width 64 and
    merge ``mul`` it has 3,448,552 parameters.
    """

    Config = AcganConfig

    def __init__(
        self, image_shape: ImageShape, num_classes: int, config: AcganConfig
    ) -> None:
        super().__init__()
        side = power_of_two(image_shape)
        self.image_shape = image_shape
        self.num_classes = num_classes
        self.latent_size = config.latent_size
        self.width = width = config.width
        self._how = config.merge
        longer = {"cat": self.latent_size, "cat_naive": num_classes}.get(self._how, 0)
        channels = _channels(side, width)
        first = nn.ConvTranspose2d(
            self.latent_size + longer, channels[0], 4, bias=False
        )
        layers: list[nn.Module] = [first, nn.ReLU()]
        for before, after in pairwise(channels):
            layers += upward(before, after, stride=2, padding=1)
        last = nn.ConvTranspose2d(channels[-1], image_shape[0], 4, 2, 1, bias=False)
        self.layers = nn.Sequential(*layers, last, nn.Tanh())
        if self._how in ("mul", "add", "cat"):
            self.embedding = nn.Embedding(num_classes, self.latent_size)
        self.apply(initialise)

    def merge(self, z_BZ: Tensor, labels_B: Tensor) -> Tensor:
        """Return h: ``[B, Z]``, longer for ``cat`` and ``cat_naive``."""
        if self._how == "none":
            return z_BZ
        if self._how == "cat_naive":
            return torch.cat([z_BZ, _one_hot(labels_B, self.num_classes, z_BZ)], dim=1)
        label_BZ: Tensor = self.embedding(labels_B)
        if self._how == "cat":
            return torch.cat([z_BZ, label_BZ], dim=1)
        return z_BZ * label_BZ if self._how == "mul" else z_BZ + label_BZ

    def decode(self, h_BA: Tensor) -> Tensor:
        """Map merged vectors ``[B, A]`` to images ``[B, C, H, W]`` in [-1, 1]."""
        images: Tensor = self.layers(h_BA[:, :, None, None])
        return centre(images, self.image_shape)


@final
class UpsamplingGenerator(ConditionalGenerator):
    """Maps noise and labels to images with mean 0 and variance 1 per channel.

    The generator of FedFTG's released code (``gan_models.py``, ``CGeneratorA``): noise
    and one-hot label each go through a linear layer to w maps of a quarter of the side;
    BatchNorm, up by 2, conv 2w, BatchNorm, LeakyReLU 0.2, up by 2, conv w, BatchNorm,
    LeakyReLU, conv, tanh, BatchNorm without scale and shift. That last layer standardises
    the output, which suits classifiers trained on normalised images. Sides are 8 or more;
    where they are no multiples of 4, it makes the next larger ones and standardises
    their centre. Initial weights are PyTorch's. For 3x32x32 images, 10 classes, latent
    size 100 and width 64 it has 682,499 parameters.
    """

    Config = GeneratorConfig

    def __init__(
        self, image_shape: ImageShape, num_classes: int, config: GeneratorConfig
    ) -> None:
        super().__init__()
        channels = image_shape[0]
        height, breadth = multiples(image_shape, 4)
        self.image_shape = image_shape
        self.num_classes = num_classes
        self.latent_size = config.latent_size
        self.width = width = config.width
        self._first = (2 * width, height // 4, breadth // 4)
        size = width * self._first[1] * self._first[2]
        self.from_noise = nn.Linear(self.latent_size, size)
        self.from_label = nn.Linear(num_classes, size)
        self.layers = nn.Sequential(
            nn.BatchNorm2d(2 * width),
            nn.Upsample(scale_factor=2),
            *_convolution(2 * width, 2 * width),
            nn.Upsample(scale_factor=2),
            *_convolution(2 * width, width),
            nn.Conv2d(width, channels, 3, padding=1),
            nn.Tanh(),
            nn.BatchNorm2d(channels, affine=False),
        )

    def merge(self, z_BZ: Tensor, labels_B: Tensor) -> Tensor:
        """Return h, noise and one-hot label in a row, ``[B, Z + classes]``."""
        return torch.cat([z_BZ, _one_hot(labels_B, self.num_classes, z_BZ)], dim=1)

    def decode(self, h_BA: Tensor) -> Tensor:
        """Map merged vectors ``[B, A]`` to images ``[B, C, H, W]``."""
        z_BZ, label_BC = h_BA.split([self.latent_size, self.num_classes], dim=1)
        maps = torch.cat([self.from_noise(z_BZ), self.from_label(label_BC)], dim=1)
        images: Tensor = self.layers[:-1](maps.view(-1, *self._first))
        standardised: Tensor = self.layers[-1](centre(images, self.image_shape))
        return standardised


@final
class VectorGenerator(ConditionalGenerator):
    """Maps noise and labels to vectors with mean 0 and variance 1 per value.

    Noise and one-hot label in a row, twice Linear, BatchNorm, ReLU, then Linear and
    BatchNorm without scale and shift, which standardises the output as training vectors
    are. No paper has it: it is the counterpart of the ``upsampling-generator`` for data
    that are no images. Initial weights are PyTorch's. For 13 values, 3 classes and the
    defaults it has 7,565 parameters.
    """

    Config = VectorConfig
    takes = ("vectors",)

    def __init__(
        self, input_shape: InputShape, num_classes: int, config: VectorConfig
    ) -> None:
        super().__init__()
        (values,) = input_shape
        self.num_classes = num_classes
        self.latent_size = config.latent_size
        self.width = width = config.width
        sizes = [self.latent_size + num_classes, width, width]
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU()]
        last = nn.BatchNorm1d(values, affine=False)
        self.layers = nn.Sequential(*layers, nn.Linear(width, values), last)

    def merge(self, z_BZ: Tensor, labels_B: Tensor) -> Tensor:
        """Return h, noise and one-hot label in a row, ``[B, Z + classes]``."""
        return torch.cat([z_BZ, _one_hot(labels_B, self.num_classes, z_BZ)], dim=1)

    def decode(self, h_BA: Tensor) -> Tensor:
        """Map merged vectors ``[B, A]`` to vectors ``[B, D]``."""
        vectors_BD: Tensor = self.layers(h_BA)
        return vectors_BD


@final
class FeatureGenerator(Model):
    """Maps noise and labels to features: what a classifier's head is given.

    The generator of FedGen's released code (``generator.py``): noise and one-hot label
    in a row, Linear, BatchNorm, ReLU, Linear; then a ReLU if features are never to be
    negative. Initial weights are PyTorch's. For 10 classes and the defaults it has
    19,744 parameters.
    """

    Config = FeatureConfig
    takes = ("images", "vectors")

    def __init__(
        self, input_shape: InputShape, num_classes: int, config: FeatureConfig
    ) -> None:
        super().__init__()
        del input_shape  # features have none
        self.num_classes = num_classes
        self.latent_size = size = config.latent_size
        self.feature_size = config.feature_size
        told = size if config.embedding else num_classes
        self.embedding = nn.Embedding(num_classes, size) if config.embedding else None
        self.layers = nn.Sequential(
            nn.Linear(size + told, config.hidden),
            nn.BatchNorm1d(config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, config.feature_size),
            *([nn.ReLU()] if config.nonnegative else []),
        )

    def forward(self, z_BZ: Tensor, labels_B: Tensor) -> Tensor:
        """Map noise ``[B, Z]`` and labels ``[B]`` to features ``[B, D]``."""
        if self.embedding is None:
            label = _one_hot(labels_B, self.num_classes, z_BZ)
        else:
            label = self.embedding(labels_B)
        features_BD: Tensor = self.layers(torch.cat([z_BZ, label], dim=1))
        return features_BD


def _channels(side: int, width: int) -> list[int]:
    """Return the channels of the maps from 4x4 on, up to half the side."""
    doublings = (side // 4).bit_length() - 1
    widest = min(WIDEST, side // 4)
    return [widest * width // 2**i for i in range(doublings)]


def _convolution(before: int, after: int) -> list[nn.Module]:
    """Return a 3x3 convolution with BatchNorm and LeakyReLU."""
    convolution = nn.Conv2d(before, after, 3, padding=1)
    return [convolution, nn.BatchNorm2d(after), nn.LeakyReLU(0.2)]


def _one_hot(labels_B: Tensor, num_classes: int, like: Tensor) -> Tensor:
    return F.one_hot(labels_B, num_classes).to(like)
