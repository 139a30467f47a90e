"""MNIST, and how the files of its family are read."""

from __future__ import annotations

import struct
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from torch import Tensor

from fedkd.data.dataset import DatasetConfig, Source, Split
from fedkd.datasets.torchvision_files import TorchvisionSet

SIZES = {
    "train-images-idx3-ubyte": 47_040_016,
    "train-labels-idx1-ubyte": 60_008,
    "t10k-images-idx3-ubyte": 7_840_016,
    "t10k-labels-idx1-ubyte": 10_008,
}
"""The four IDX files: a header of 16 or 8 bytes, then a byte a pixel or label."""
_HEADER = struct.Struct(">4I")
_IMAGES = 0x0803
"""Magic number of an IDX file of bytes in three dimensions."""


class MnistConfig(DatasetConfig):
    """Options of the MNIST family."""

    resolution: Literal[28, 32] = 28
    """Height and width. 32 stretches the images bilinearly, as Mosaic's released code
    does."""
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

    def archives(self) -> Mapping[str, str]:
        """See :meth:`TorchvisionSet.archives`."""
        folder = Path(next(iter(self.files))).parent
        return {
            (folder / name).as_posix(): md5 for name, md5 in self.reader().resources
        }

    def inspect(self, root: Path) -> None:
        """See :meth:`TorchvisionSet.inspect`; of the size of the images."""
        for name in list(self.files)[::2]:
            header = _start(root / name)
            if len(header) < _HEADER.size:
                continue
            magic, _, height, width = _HEADER.unpack(header)
            if magic == _IMAGES and (height, width) != (28, 28):
                problem = f"images of {height}x{width} pixels, expected 28x28"
                raise self.damage(root, root / name, problem)

    def read(self, root: Path) -> Source:
        """See :meth:`TorchvisionSet.read`."""
        x_train, y_train, x_test, y_test = (root / name for name in self.files)
        channels = self.config.channels
        return Source(
            train=self._half(root, x_train, y_train),
            test=self._half(root, x_test, y_test),
            classes=self.names,
            mean=(self.mean,) * channels,
            std=(self.std,) * channels,
        )

    def fetch(self, root: Path) -> None:
        """See :meth:`TorchvisionSet.fetch`."""
        self.reader()(root, download=True)

    def by_hand(self, root: Path) -> str:
        """See :meth:`PublishedSet.by_hand`."""
        folder = (root / next(iter(self.files))).parent
        archives = ", ".join(f"{name}.gz" for name in SIZES)
        mirrors = " or ".join(self.reader().mirrors)
        return f"get {archives} from {mirrors} and unpack them into {folder}."

    @abstractmethod
    def reader(self) -> Any:
        """Return torchvision's class for the set."""

    def _half(self, root: Path, images: Path, labels: Path) -> Split:
        # Imported here: torchvision takes a second, and the files' sizes need none of it.
        from torchvision.datasets import mnist  # noqa: PLC0415

        stored: Tensor = mnist.read_image_file(str(images))
        y: Tensor = mnist.read_label_file(str(labels))
        if len(stored) != len(y):
            problem = (
                f"{len(y):,} labels, expected one for each of {len(stored):,} images"
            )
            raise self.damage(root, labels, problem)
        self.require_labels(root, labels, y, len(self.names))
        channels, size = self.config.channels, self.config.resolution

        def read(start: int, stop: int) -> Tensor:
            return _stretched(stored[start:stop, None], size).repeat(1, channels, 1, 1)

        return Split(y, (channels, size, size), read)


def _start(path: Path) -> bytes:
    """Return the bytes of an IDX header of images, or fewer if the file is shorter."""
    with path.open("rb") as file:
        return file.read(_HEADER.size)


def _stretched(x: Tensor, size: int) -> Tensor:
    """Resize images uint8 ``[n, 1, 28, 28]``, as PIL does but for one grey level."""
    if x.shape[-1] == size:
        return x
    from torchvision.transforms.functional import resize  # noqa: PLC0415

    resized: Tensor = resize(x, [size, size], antialias=True)
    return resized


class MNIST(MnistFamily):
    """MNIST: 60,000 + 10,000 handwritten digits, 28x28 grey (LeCun et al. 1998).

    Images are used as they are published; Mosaic's released code (commit a7f8b5b)
    stretches them to 32x32 and repeats the channel, as ``resolution: 32`` and
    ``channels: 3`` do. Normalised by .1307 / .3081, the mean and standard deviation of
    the training pixels, and without augmentation, both as in that code.
    """

    name = "mnist"
    paper = (
        'LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document'
        ' Recognition", Proceedings of the IEEE 1998, doi:10.1109/5.726791'
    )
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
