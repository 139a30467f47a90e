"""CIFAR-100: 50,000 training and 10,000 test photographs, 32x32, 100 classes.

Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
Normalised by mean .5071 .4865 .4409 and deviation .2673 .2564 .2762; random crop with
padding 4 and horizontal flip (released Mosaic code, commit a7f8b5b).
"""

from __future__ import annotations

from pathlib import Path

from fedkd.data import Augmentation, Dataset, ImageSet
from fedkd.datasets.files import SourceFile, check_sums, download, read

MEAN = (0.5071, 0.4865, 0.4409)
STD = (0.2673, 0.2564, 0.2762)
CROP_AND_FLIP = Augmentation(pad=4, flip=True)
FOLDER = "cifar-100-python"
FILES = tuple(
    SourceFile(f"{FOLDER}/{name}", size, md5)
    for name, size, md5 in (
        ("meta", 1_473, "7973b15100ade9c7d40fb424638fde48"),
        ("test", 31_049_707, "f0ef6b0ae62326f3e7ffdfab6717acfc"),
        ("train", 155_249_918, "16019d7e3df5f24257cddd939b257f8d"),
    )
)


class Cifar100(Dataset):
    """CIFAR-100, read by torchvision."""

    files = {f.path: f.size for f in FILES}  # noqa: RUF012 - a constant of the class

    def load(self, root: Path) -> ImageSet:
        """Read the set from ``root/cifar-100-python``."""
        # Imported here: torchvision is slow to import.
        from torchvision.datasets import CIFAR100  # noqa: PLC0415

        tensors, classes = read("cifar100", FILES, root, CIFAR100)
        return ImageSet("cifar100", *tensors, classes, MEAN, STD, CROP_AND_FLIP)

    def prepare(self, root: Path) -> None:
        """Download with torchvision."""
        from torchvision.datasets import CIFAR100  # noqa: PLC0415

        download("cifar100", root, CIFAR100)

    def check(self, root: Path) -> None:
        """Compare every file with its MD5 sum."""
        check_sums("cifar100", FILES, root)
