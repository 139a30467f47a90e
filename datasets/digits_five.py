"""Digits of several sets, joined: each is a domain, and a group of the joined set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from fedkd.base.randomness import numpy_stream
from fedkd.data.dataset import Dataset, DatasetConfig, FileDataset
from fedkd.data.groups import Groups
from fedkd.data.images import ImageSet
from fedkd.data.prepared import store as prepared
from fedkd.datasets import usps
from fedkd.datasets.digits import Digits
from fedkd.datasets.mnist import MNIST
from fedkd.datasets.published_files import stamp
from fedkd.datasets.svhn import SVHN, SvhnConfig
from fedkd.partition.base import apportion, class_pools

Domain = Literal["mnist", "svhn", "digits", "usps"]
SHAPE = (3, 32, 32)
"""What every image becomes: channels, height, width."""
CLASSES = tuple("0123456789")
_PIECE = 4096
"""Images that are stretched at once."""

Half = tuple[Tensor, Tensor]
"""Images uint8 ``[N, C, H, W]`` and labels int64 ``[N]``."""


class DigitsFiveConfig(DatasetConfig):
    """Options of ``digits-five``."""

    domains: Annotated[tuple[Domain, ...], Field(min_length=1)] = (
        "mnist",
        "svhn",
        "digits",
    )
    """The sets that are joined, each a group of its own, numbered in this order. ``usps``
    is read where its two files of LIBSVM are; nothing fetches them."""
    per_domain: int | None = Field(None, ge=10)
    """Training images of each domain, in its own mix of classes; None for all. A domain
    with fewer gives what it has. FedBN takes 743 of each."""
    test_per_domain: int | None = Field(None, ge=10)
    """Test images of each domain, likewise."""
    partial: bool = False
    """As in ``svhn``: whether SVHN's files may hold part of the set."""

    @model_validator(mode="after")
    def _each_once(self) -> DigitsFiveConfig:
        if len(set(self.domains)) < len(self.domains):
            raise ValueError("a domain comes twice in domains; name each once")
        return self


class DigitsFive(Dataset):
    """Digits of several sets as one federation: MNIST, SVHN, scikit-learn's, USPS.

    The setting of FedBN (Li et al. 2021, arXiv:2102.07623), where clients have the same
    classes and images that look different; the partitioner ``natural`` makes each domain
    a client. Images become 32x32 colour: grey is repeated, smaller ones are stretched
    bilinearly. Normalised by .5 / .5 for all domains, as in FedBN's released code, and
    without augmentation.

    Departures: that paper's five domains have MNIST-M and SynthDigits, which nobody
    hosts for good, and no digits of scikit-learn; its images are 28x28.
    """

    Config = DigitsFiveConfig
    places: ClassVar[tuple[str, ...]] = ("MNIST/raw", "train_32x32.mat")

    def load(self, root: Path) -> ImageSet:
        """See :meth:`Dataset.load`."""
        config: DigitsFiveConfig = self.config
        halves: dict[str, list[Half]] = {"train": [], "test": []}
        notes: list[str] = []
        for domain in config.domains:
            train, test, said = self._domain(domain, root)
            notes += said
            for name, half, number in (
                ("train", train, config.per_domain),
                ("test", test, config.test_per_domain),
            ):
                rng = numpy_stream(config.subset_seed, "domain", domain, name)
                x, y = _part(half, number, rng)
                halves[name].append((_fitted(x), y))
        (x_train, y_train), (x_test, y_test) = map(_joined, halves.values())
        return ImageSet(
            "digits-five",
            x_train,
            y_train,
            x_test,
            y_test,
            CLASSES,
            mean=(0.5,) * 3,
            std=(0.5,) * 3,
            notes=tuple(notes),
            groups=Groups(
                _numbered(halves["train"]), _numbered(halves["test"]), config.domains
            ),
        )

    def fingerprint(self, root: Path) -> str:
        """Return a text that changes when the files of a domain do.

        Raises:
            DataError: If a file is missing.
        """
        parts = []
        for domain in self.config.domains:
            reader = self._reader(domain)
            if isinstance(reader, FileDataset):
                parts.append(reader.fingerprint(root))
            elif reader is None:
                parts.append(stamp(root, usps.paths(root)))
        return "-".join(parts)

    def prepare(self, root: Path) -> None:
        """See :meth:`Dataset.prepare`; of every domain but ``usps``."""
        for domain in self.config.domains:
            if (reader := self._reader(domain)) is not None:
                reader.prepare(root)

    def check(self, root: Path) -> None:
        """See :meth:`Dataset.check`; of every domain."""
        for domain in self.config.domains:
            if (reader := self._reader(domain)) is not None:
                reader.check(root)
            else:
                usps.read_usps(root)

    def _reader(self, domain: str) -> Dataset | None:
        """Return the data set of a domain; None for ``usps``, which is none of its own."""
        if domain == "svhn":
            return SVHN(SvhnConfig(partial=self.config.partial))
        return (
            {"mnist": MNIST, "digits": Digits}[domain]() if domain != "usps" else None
        )

    def _domain(self, domain: str, root: Path) -> tuple[Half, Half, tuple[str, ...]]:
        """Return both halves of a domain in their own form, and what is to be noted."""
        reader = self._reader(domain)
        if reader is None:
            return *usps.read_usps(root), ()
        whole = (
            prepared.images(reader, root)
            if isinstance(reader, FileDataset)
            else reader.load(root)
        )
        part = (f"{domain}: {note}" for note in reader.notes_on_part(whole))
        test = (whole.x_test, whole.y_test)
        return (whole.x_train, whole.y_train), test, (*whole.notes, *part)


def _part(half: Half, number: int | None, rng: np.random.Generator) -> Half:
    """Return so many images in the half's own mix of classes, in their order."""
    x, y = half
    if number is None or number >= len(y):
        return half
    pools = class_pools(y.numpy(), len(CLASSES), rng)
    shares = apportion([len(pool) for pool in pools], number)
    chosen = [pool[:share] for pool, share in zip(pools, shares, strict=True)]
    kept = torch.from_numpy(np.sort(np.concatenate(chosen)))
    return x[kept], y[kept]


def _fitted(x: Tensor) -> Tensor:
    """Stretch images uint8 ``[N, C, H, W]`` and repeat grey: ``[N, 3, 32, 32]``."""
    if x.shape[1:] == SHAPE:
        return x
    made = torch.empty((len(x), *SHAPE), dtype=torch.uint8)
    for place, piece in zip(made.split(_PIECE), x.split(_PIECE), strict=True):
        stretched = torch.nn.functional.interpolate(
            piece.float(), SHAPE[1:], mode="bilinear", align_corners=False
        )
        place.copy_(stretched.round())  # grey is repeated for the three channels
    return made


def _joined(halves: list[Half]) -> Half:
    return torch.cat([x for x, _ in halves]), torch.cat([y for _, y in halves])


def _numbered(halves: list[Half]) -> Tensor:
    """Return the number of the domain of every image, int64 ``[N]``."""
    sizes = torch.tensor([len(y) for _, y in halves])
    return torch.arange(len(halves)).repeat_interleave(sizes)
