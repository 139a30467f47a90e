"""Fashion-MNIST."""

from __future__ import annotations

from typing import Any, ClassVar

from fedkd.datasets.mnist import SIZES, MnistFamily

_RAW = "FashionMNIST/raw"


class FashionMNIST(MnistFamily):
    """Fashion-MNIST: 60,000 + 10,000 articles of clothing, 28x28 grey (Xiao et al. 2017).

    Images are used as they are published; Mosaic's released code (commit a7f8b5b)
    stretches them to 32x32 and repeats the channel, as ``resolution: 32`` and
    ``channels: 3`` do. Normalised by .1307 / .3081, which are MNIST's mean and standard
    deviation, because that code does so (its own are .2860 / .3530), and without
    augmentation, as there.
    """

    name = "fashion-mnist"
    paper = (
        'Xiao, Rasul, Vollgraf, "Fashion-MNIST: a Novel Image Dataset for '
        'Benchmarking Machine Learning Algorithms", arXiv:1708.07747v2'
    )
    files: ClassVar[dict[str, int]] = {f"{_RAW}/{n}": s for n, s in SIZES.items()}
    sums: ClassVar[dict[str, str]] = {
        f"{_RAW}/train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        f"{_RAW}/train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        f"{_RAW}/t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        f"{_RAW}/t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    }
    names = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )
    mean = 0.1307
    std = 0.3081

    def reader(self) -> Any:
        """See :meth:`MnistFamily.reader`."""
        from torchvision import datasets  # noqa: PLC0415

        return datasets.FashionMNIST
