"""MNIST, and how the files of its family are read."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from fedkd.config import Config
from fedkd.data import ImageSet
from fedkd.datasets.torchvision_files import TorchvisionSet

SIZES = {
    "train-images-idx3-ubyte": 47_040_016,
    "train-labels-idx1-ubyte": 60_008,
    "t10k-images-idx3-ubyte": 7_840_016,
    "t10k-labels-idx1-ubyte": 10_008,
}
"""The four IDX files: a header of 16 or 8 bytes, then a byte a pixel or label."""


class MnistConfig(Config):
    """Options of the MNIST family."""

    resolution: Literal[28, 32] = 28
    """Height and width. 32 adds two black pixels on each side; Mosaic's released code
    stretches the images instead."""
    channels: Literal[1, 3] = 1
    """3 repeats the grey channel, for models that expect colour; so does Mosaic's
    released code."""


class MnistFamily(TorchvisionSet):
    """A data set in the four files of MNIST, under ``<folder>/raw``."""

    Config = MnistConfig
    sums: ClassVar[dict[str, str]] = {}
    """MD5 of each of the files. Ours: torchvision has those of the archives only."""
    names: ClassVar[tuple[str, ...]] = ()
    """Class names."""
    mean: ClassVar[float]
    """Of training pixels scaled to [0, 1]."""
    std: ClassVar[float]
    """Of training pixels scaled to [0, 1]."""

    def checksums(self) -> Mapping[str, str]:
        """See :meth:`TorchvisionSet.checksums`."""
        return self.sums

    def read(self, root: Path) -> ImageSet:
        """See :meth:`TorchvisionSet.read`."""
        self.verify(root)
        train_images, train_labels, test_images, test_labels = (
            root / name for name in self.files
        )
        channels = self.config.channels
        return ImageSet(
            name=self.name,
            x_train=self._images(train_images),
            y_train=_labels(train_labels),
            x_test=self._images(test_images),
            y_test=_labels(test_labels),
            classes=self.names,
            mean=(self.mean,) * channels,
            std=(self.std,) * channels,
        )

    def download(self, root: Path) -> None:
        """See :meth:`TorchvisionSet.download`."""
        self.reader()(root, download=True)

    def by_hand(self, root: Path) -> str:
        """See :meth:`TorchvisionSet.by_hand`."""
        folder = (root / next(iter(self.files))).parent
        archives = ", ".join(f"{name}.gz" for name in SIZES)
        mirrors = " or ".join(self.reader().mirrors)
        return f"get {archives} from {mirrors} and unpack them into {folder}."

    @abstractmethod
    def reader(self) -> Any:
        """Return torchvision's class for the set."""

    def _images(self, path: Path) -> Tensor:
        """Return the images of a file, uint8 ``[N, channels, H, W]``."""
        # Imported here: torchvision takes a second, and the files' sizes need none of it.
        from torchvision.datasets.mnist import read_image_file  # noqa: PLC0415

        images: Tensor = read_image_file(str(path)).unsqueeze(1)
        border = (self.config.resolution - images.shape[-1]) // 2
        if border:
            images = torch.nn.functional.pad(images, (border,) * 4)
        return images.repeat(1, self.config.channels, 1, 1)


def _labels(path: Path) -> Tensor:
    from torchvision.datasets.mnist import read_label_file  # noqa: PLC0415

    labels: Tensor = read_label_file(str(path))
    return labels


class MNIST(MnistFamily):
    """MNIST: 60,000 + 10,000 handwritten digits, 28x28 grey (LeCun et al. 1998).

    Normalised by .1307 / .3081, the mean and standard deviation of the training pixels,
    as Mosaic's released code does. No augmentation.
    """

    name = "mnist"
    files: ClassVar[dict[str, int]] = {f"MNIST/raw/{n}": s for n, s in SIZES.items()}
    sums: ClassVar[dict[str, str]] = {
        "MNIST/raw/train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "MNIST/raw/train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "MNIST/raw/t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "MNIST/raw/t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    }
    names = tuple("0123456789")
    mean = 0.1307
    std = 0.3081

    def reader(self) -> Any:
        """See :meth:`MnistFamily.reader`."""
        from torchvision import datasets  # noqa: PLC0415

        return datasets.MNIST
