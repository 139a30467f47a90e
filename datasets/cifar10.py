"""CIFAR-10, and how the files of its family are read."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from fedkd.data.dataset import Source, Split, in_memory
from fedkd.data.images import Augmentation
from fedkd.datasets.batches import UNREADABLE, read_batch
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

    def archives(self) -> Mapping[str, str]:
        """See :meth:`TorchvisionSet.archives`."""
        return {self.reader().filename: self.reader().tgz_md5}

    def read(self, root: Path) -> Source:
        """See :meth:`TorchvisionSet.read`."""
        reader = self.reader()
        test, classes = self._half(root, [name for name, _ in reader.test_list])
        train, _ = self._half(root, [name for name, _ in reader.train_list])
        return Source(train, test, classes, self.mean, self.std, AUGMENTATION)

    def fetch(self, root: Path) -> None:
        """See :meth:`TorchvisionSet.fetch`."""
        self.reader()(root, download=True)

    def by_hand(self, root: Path) -> str:
        """See :meth:`PublishedSet.by_hand`."""
        reader = self.reader()
        return f"get {reader.url} (MD5 {reader.tgz_md5}) and unpack it into {root}."

    @abstractmethod
    def reader(self) -> Any:
        """Return torchvision's class for the set."""

    def _half(self, root: Path, names: Iterable[str]) -> tuple[Split, tuple[str, ...]]:
        """Return the images in some batches, and the class names."""
        batches = [self._batch(root, name) for name in names]
        x = torch.cat([images for images, _, _ in batches])
        y = torch.cat([labels for _, labels, _ in batches])
        return in_memory(x, y), batches[0][2]

    def _batch(self, root: Path, name: str) -> tuple[Tensor, Tensor, tuple[str, ...]]:
        """Return images uint8 ``[n, 3, 32, 32]``, labels ``[n]`` and class names.

        Not by torchvision, which runs whatever a pickle names.
        """
        reader = self.reader()
        path = root / reader.base_folder / name
        try:
            batch = self._unpickled(root, name)
            pixels = np.asarray(batch["data"]).astype(np.uint8).reshape(-1, 3, 32, 32)
            labels = batch["labels"] if "labels" in batch else batch["fine_labels"]
            y = torch.tensor(labels, dtype=torch.int64)
        except UNREADABLE as error:
            cause = " ".join(str(error).split())
            problem = f"no batch of CIFAR ({cause}), expected rows of 3,072 bytes"
            raise self.damage(root, path, problem) from error
        if len(pixels) != len(y):
            problem = f"{len(pixels):,} images and {len(y):,} labels, expected as many"
            raise self.damage(root, path, problem)
        classes = self._class_names(root)
        self.require_labels(root, path, y, len(classes))
        return torch.from_numpy(pixels), y, classes

    def _class_names(self, root: Path) -> tuple[str, ...]:
        meta = self.reader().meta
        return tuple(self._unpickled(root, meta["filename"])[meta["key"]])

    def _unpickled(self, root: Path, name: str) -> Any:
        """Return what is in a file whose MD5 is the published one."""
        known = f"{self.reader().base_folder}/{name}"
        return read_batch(root / known, self.checksums()[known])


class CIFAR10(CifarFamily):
    """CIFAR-10: 50,000 + 10,000 photos of 10 classes, 32x32 (Krizhevsky 2009).

    Images are used as they are published, normalised by .4914 .4822 .4465 / .2023 .1994
    .2010, cropped (of the image padded by 4) and flipped at random for training: all as
    in Mosaic's released code (commit a7f8b5b). The means are those of the training
    pixels; the deviations, customary since, are means of each image's own (those of the
    pixels are .2470 .2435 .2616).
    """

    name = "cifar10"
    paper = (
        'Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", '
        "University of Toronto 2009"
    )
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
