"""CIFAR-10: 50,000 training and 10,000 test photographs, colour 32x32, 10 classes.

Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
Normalised by mean .4914 .4822 .4465 and deviation .2023 .1994 .2010; random crop with
padding 4 and horizontal flip (released Mosaic code, commit a7f8b5b).
"""

from __future__ import annotations

from pathlib import Path

from fedkd.data import Augmentation, Dataset, ImageSet
from fedkd.datasets.files import SourceFile, check_sums, download, read

MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2023, 0.1994, 0.2010)
CROP_AND_FLIP = Augmentation(pad=4, flip=True)
FOLDER = "cifar-10-batches-py"
FILES = tuple(
    SourceFile(f"{FOLDER}/{name}", size, md5)
    for name, size, md5 in (
        ("batches.meta", 158, "5ff9c542aee3614f3951f8cda6e48888"),
        ("data_batch_1", 31_035_704, "c99cafc152244af753f735de768cd75f"),
        ("data_batch_2", 31_035_320, "d4bba439e000b95fd0a9bffe97cbabec"),
        ("data_batch_3", 31_035_999, "54ebc095f3ab1f0389bbae665268c751"),
        ("data_batch_4", 31_035_696, "634d18415352ddfa80567beed471001a"),
        ("data_batch_5", 31_035_623, "482c414d41f54cd18b22e5b47cb7c3cb"),
        ("test_batch", 31_035_526, "40351d587109b95175f43aff81a1287e"),
    )
)


class Cifar10(Dataset):
    """CIFAR-10, read by torchvision."""

    files = {f.path: f.size for f in FILES}  # noqa: RUF012 - a constant of the class

    def load(self, root: Path) -> ImageSet:
        """Read the set from ``root/cifar-10-batches-py``."""
        # Imported here: torchvision is slow to import.
        from torchvision.datasets import CIFAR10  # noqa: PLC0415

        tensors, classes = read("cifar10", FILES, root, CIFAR10)
        return ImageSet("cifar10", *tensors, classes, MEAN, STD, CROP_AND_FLIP)

    def prepare(self, root: Path) -> None:
        """Download with torchvision."""
        from torchvision.datasets import CIFAR10  # noqa: PLC0415

        download("cifar10", root, CIFAR10)

    def check(self, root: Path) -> None:
        """Compare every file with its MD5 sum."""
        check_sums("cifar10", FILES, root)
