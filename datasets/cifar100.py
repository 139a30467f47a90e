"""CIFAR-100."""

from __future__ import annotations

from typing import Any, ClassVar

from fedkd.datasets.cifar10 import CifarFamily


class CIFAR100(CifarFamily):
    """CIFAR-100: 50,000 + 10,000 photos of 100 classes, 32x32 (Krizhevsky 2009).

    Labels are the fine ones. Images are used as they are published, normalised by .5071
    .4865 .4409 / .2673 .2564 .2762, the mean and standard deviation of the training
    pixels, cropped (of the image padded by 4) and flipped at random for training: all
    as in Mosaic's released code (commit a7f8b5b).
    """

    name = "cifar100"
    paper = (
        'Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", '
        "University of Toronto 2009"
    )
    files: ClassVar[dict[str, int]] = {
        "cifar-100-python/train": 155_249_918,
        "cifar-100-python/test": 31_049_707,
        "cifar-100-python/meta": 1_473,
    }
    mean = (0.5071, 0.4865, 0.4409)
    std = (0.2673, 0.2564, 0.2762)

    def reader(self) -> Any:
        """See :meth:`CifarFamily.reader`."""
        from torchvision import datasets  # noqa: PLC0415

        return datasets.CIFAR100
