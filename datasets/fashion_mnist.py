"""Fashion-MNIST: 60,000 training and 10,000 test images of garments, grey 28x28.

Source: Xiao, Rasul, Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking
Machine Learning Algorithms", 2017, arXiv:1708.07747v2 (MIT). Normalised by MNIST's mean
0.1307 and deviation 0.3081, as in the released Mosaic code (commit a7f8b5b), so that
results compare; no augmentation there.
"""

from __future__ import annotations

from pathlib import Path

from fedkd.data import Dataset, ImageSet
from fedkd.datasets.files import check_sums, download, read
from fedkd.datasets.grey import GreyConfig, grey_files, grey_set

FILES = grey_files(
    "FashionMNIST",
    (
        "8181f5470baa50b63fa0f6fddb340f0a",
        "15d484375f8d13e6eb1aabb0c3f46965",
        "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "9018921c3c673c538a1fc5bad174d6f9",
    ),
)


class FashionMnist(Dataset):
    """Fashion-MNIST, read by torchvision."""

    Config = GreyConfig
    files = {f.path: f.size for f in FILES}  # noqa: RUF012 - a constant of the class

    def load(self, root: Path) -> ImageSet:
        """Read the set from ``root/FashionMNIST/raw``."""
        # Imported here: torchvision is slow to import.
        from torchvision.datasets import FashionMNIST  # noqa: PLC0415

        tensors, classes = read("fashion-mnist", FILES, root, FashionMNIST)
        return grey_set(
            "fashion-mnist", tensors, classes, (0.1307, 0.3081), self.config
        )

    def prepare(self, root: Path) -> None:
        """Download with torchvision."""
        from torchvision.datasets import FashionMNIST  # noqa: PLC0415

        download("fashion-mnist", root, FashionMNIST)

    def check(self, root: Path) -> None:
        """Compare every file with its MD5 sum."""
        check_sums("fashion-mnist", FILES, root)
