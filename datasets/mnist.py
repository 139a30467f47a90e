"""MNIST: 60,000 training and 10,000 test images of handwritten digits, grey 28x28.

Source: LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document
Recognition", 1998 (CC BY-SA 3.0). Normalised by mean 0.1307 and deviation 0.3081 (the
training set's, as in the released Mosaic code, commit a7f8b5b); no augmentation there.
"""

from __future__ import annotations

from pathlib import Path

from fedkd.data import Dataset, ImageSet
from fedkd.datasets.files import check_sums, download, read
from fedkd.datasets.grey import GreyConfig, grey_files, grey_set

FILES = grey_files(
    "MNIST",
    (
        "2646ac647ad5339dbf082846283269ea",
        "27ae3e4e09519cfbb04c329615203637",
        "6bbc9ace898e44ae57da46a324031adb",
        "a25bea736e30d166cdddb491f175f624",
    ),
)


class Mnist(Dataset):
    """MNIST, read by torchvision."""

    Config = GreyConfig
    files = {f.path: f.size for f in FILES}  # noqa: RUF012 - a constant of the class

    def load(self, root: Path) -> ImageSet:
        """Read the set from ``root/MNIST/raw``."""
        # Imported here: torchvision is slow to import.
        from torchvision.datasets import MNIST  # noqa: PLC0415

        tensors, classes = read("mnist", FILES, root, MNIST)
        return grey_set("mnist", tensors, classes, (0.1307, 0.3081), self.config)

    def prepare(self, root: Path) -> None:
        """Download with torchvision."""
        from torchvision.datasets import MNIST  # noqa: PLC0415

        download("mnist", root, MNIST)

    def check(self, root: Path) -> None:
        """Compare every file with its MD5 sum."""
        check_sums("mnist", FILES, root)
