"""CIFAR-10, and how the files of its family are read."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from fedkd.data import Augmentation, ImageSet
from fedkd.datasets.torchvision_files import TorchvisionSet

AUGMENTATION = Augmentation(pad=4, flip=True)
"""Crops of the image padded by 4, and flips, as Mosaic's released code does."""


class CifarFamily(TorchvisionSet):
    """A data set in the pickled batches of CIFAR."""

    mean: ClassVar[tuple[float, float, float]]
    """Per channel, of training pixels scaled to [0, 1]."""
    std: ClassVar[tuple[float, float, float]]
    """Per channel, of training pixels scaled to [0, 1]."""

    def checksums(self) -> Mapping[str, str]:
        """See :meth:`TorchvisionSet.checksums`; they are torchvision's own."""
        reader = self.reader()
        meta = (reader.meta["filename"], reader.meta["md5"])
        every = [*reader.train_list, *reader.test_list, meta]
        return {f"{reader.base_folder}/{name}": md5 for name, md5 in every}

    def read(self, root: Path) -> ImageSet:
        """See :meth:`TorchvisionSet.read`."""
        reader = self.reader()
        try:
            train, test = reader(root, train=True), reader(root, train=False)
        except RuntimeError:  # it checks every file, but does not say which is damaged
            self.verify(root)
            raise
        return ImageSet(
            name=self.name,
            x_train=_images(train),
            y_train=torch.tensor(train.targets),
            x_test=_images(test),
            y_test=torch.tensor(test.targets),
            classes=tuple(train.classes),
            mean=self.mean,
            std=self.std,
            augmentation=AUGMENTATION,
        )

    def download(self, root: Path) -> None:
        """See :meth:`TorchvisionSet.download`."""
        self.reader()(root, download=True)

    def by_hand(self, root: Path) -> str:
        """See :meth:`TorchvisionSet.by_hand`."""
        reader = self.reader()
        return f"get {reader.url} (MD5 {reader.tgz_md5}) and unpack it into {root}."

    @abstractmethod
    def reader(self) -> Any:
        """Return torchvision's class for the set."""


def _images(half: Any) -> Tensor:
    """Return the images of one half, uint8 ``[N, 3, 32, 32]``."""
    return torch.from_numpy(half.data).permute(0, 3, 1, 2).contiguous()


class CIFAR10(CifarFamily):
    """CIFAR-10: 50,000 + 10,000 photos of 10 classes, 32x32 (Krizhevsky 2009).

    Normalised by .4914 .4822 .4465 / .2023 .1994 .2010, as Mosaic's released code does.
    The means are those of the training pixels; the deviations, customary since, are
    means of each image's own (those of the pixels are .2470 .2435 .2616). Training
    images are cropped and flipped at random.
    """

    name = "cifar10"
    files: ClassVar[dict[str, int]] = {
        "cifar-10-batches-py/data_batch_1": 31_035_704,
        "cifar-10-batches-py/data_batch_2": 31_035_320,
        "cifar-10-batches-py/data_batch_3": 31_035_999,
        "cifar-10-batches-py/data_batch_4": 31_035_696,
        "cifar-10-batches-py/data_batch_5": 31_035_623,
        "cifar-10-batches-py/test_batch": 31_035_526,
        "cifar-10-batches-py/batches.meta": 158,
    }
    mean = (0.4914, 0.4822, 0.4465)
    std = (0.2023, 0.1994, 0.2010)

    def reader(self) -> Any:
        """See :meth:`CifarFamily.reader`."""
        # Imported here: torchvision takes a second, and the files' sizes need none of it.
        from torchvision import datasets  # noqa: PLC0415

        return datasets.CIFAR10
