"""SVHN, the cropped digits."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor

from fedkd.data.dataset import DatasetConfig, Source, Split
from fedkd.data.images import Augmentation
from fedkd.datasets.torchvision_files import TorchvisionSet
from fedkd.errors import DataError, listing

COUNTS = {"train": 73_257, "test": 26_032}
"""Images in the two published files."""
Variables: TypeAlias = dict[str, tuple[tuple[int, ...], str]]
"""Shape and type of the variables of a .mat file, by name."""


class SvhnConfig(DatasetConfig):
    """Options of SVHN."""

    partial: bool = False
    """Whether files that hold only part of the set, or are not the published ones, are
    accepted: sizes and checksums are then not held against the published, and a run
    that is done is not run again when they change (``--fresh`` does it); tables warn
    of runs that saw different files."""


class SVHN(TorchvisionSet):
    """SVHN, cropped: 73,257 + 26,032 digits of house numbers, 32x32 (Netzer et al. 2011).

    Without the ``extra`` images. Images are used as they are published, normalised by
    .5 / .5, cropped (of the image padded by 4) and flipped at random for training: all
    as in Mosaic's released code (commit a7f8b5b); a flipped digit may be another or
    none. In the files the digit 0 has the label 10.
    """

    name = "svhn"
    paper = (
        'Netzer, Wang, Coates, Bissacco, Wu, Ng, "Reading Digits in Natural Images '
        'with Unsupervised Feature Learning", NIPS Workshop on Deep Learning and '
        "Unsupervised Feature Learning 2011"
    )
    Config = SvhnConfig
    published = (COUNTS["train"], COUNTS["test"])
    files: ClassVar[dict[str, int]] = {
        "train_32x32.mat": 182_040_794,
        "test_32x32.mat": 64_275_384,
    }

    def checksums(self) -> Mapping[str, str]:
        """See :meth:`TorchvisionSet.checksums`; they are torchvision's own."""
        halves = self.reader().split_list
        return {halves[half][1]: halves[half][2] for half in COUNTS}

    def archives(self) -> Mapping[str, str]:
        """See :meth:`TorchvisionSet.archives`; the files themselves."""
        return self.checksums()

    def inspect(self, root: Path) -> None:
        """See :meth:`TorchvisionSet.inspect`; of the variables of the files."""
        for (half, whole), name in zip(COUNTS.items(), self.files, strict=True):
            path = root / name
            variables = self._variables(root, path)
            if self.held and variables.get("X") == ((32, 32, 3, whole), "uint8"):
                continue  # size and checksum say whether it is damaged
            number = self._require_layout(root, path, variables)
            if self.held:
                raise self.part(root, path, f"{number:,} of {whole:,} {half} images")

    def holds_part(self, root: Path) -> bool:
        """See :meth:`FileDataset.holds_part`; by the shapes of the arrays."""
        paths = [root / name for name in self.files]
        numbers = [
            self._require_layout(root, path, self._variables(root, path))
            for path in paths
        ]
        return sum(numbers) < sum(COUNTS.values())

    def read(self, root: Path) -> Source:
        """See :meth:`TorchvisionSet.read`."""
        train, test = (self._half(root, half) for half in COUNTS)
        return Source(
            train,
            test,
            classes=tuple("0123456789"),
            mean=(0.5,) * 3,
            std=(0.5,) * 3,
            augmentation=Augmentation(pad=4, flip=True),
        )

    def fetch(self, root: Path) -> None:
        """See :meth:`TorchvisionSet.fetch`."""
        for half in COUNTS:
            self.reader()(root, split=half, download=True)

    def by_hand(self, root: Path) -> str:
        """See :meth:`PublishedSet.by_hand`."""
        halves = self.reader().split_list
        return f"get {' and '.join(halves[half][0] for half in COUNTS)} into {root}."

    def reader(self) -> Any:
        """Return torchvision's class for the set."""
        # Imported here: torchvision takes a second, and the files' sizes need none of it.
        from torchvision import datasets  # noqa: PLC0415

        return datasets.SVHN

    def _half(self, root: Path, half: str) -> Split:
        reader = self.reader()
        url, name, _ = reader.split_list[half]
        path = root / name
        # The checksum is None, which torchvision takes as "any": it was held already.
        only = {"split_list": {half: [url, name, None]}}
        try:
            loaded = type(reader.__name__, (reader,), only)(root, split=half)
        except _errors() as error:
            raise self._unreadable(root, path, error) from error
        # One image would make a scalar of its label.
        y = torch.from_numpy(loaded.labels).reshape(-1)
        self.require_labels(root, path, y, 10)
        # A view, in the order of the file: rows and columns are swapped in memory.
        stored = torch.from_numpy(loaded.data)

        def read(start: int, stop: int) -> Tensor:
            return stored[start:stop].contiguous()

        return Split(y, (3, 32, 32), read)

    def _variables(self, root: Path, path: Path) -> Variables:
        """Return shape and type of the variables in a file, without reading them."""
        from scipy.io import whosmat  # noqa: PLC0415

        try:
            return {name: (shape, kind) for name, shape, kind in whosmat(str(path))}
        except _errors() as error:
            raise self._unreadable(root, path, error) from error

    def _require_layout(self, root: Path, path: Path, variables: Variables) -> int:
        """Make sure that images and labels are there; return their number."""
        for name in ("X", "y"):
            if name not in variables:
                others = listing(sorted(variables)) or "none"
                problem = f"no variable {name} (variables: {others}), expected X and y"
                raise self.damage(root, path, problem)
        shape, kind = variables["X"]
        if len(shape) != 4 or shape[:3] != (32, 32, 3) or kind != "uint8":
            problem = f"X of {_shown(shape)} {kind}, expected 32x32x3xN uint8"
            raise self.damage(root, path, problem)
        labels, _ = variables["y"]
        if labels != (shape[3], 1):
            problem = (
                f"y of {_shown(labels)}, expected {shape[3]}x1, one for each image"
            )
            raise self.damage(root, path, problem)
        return shape[3]

    def _unreadable(self, root: Path, path: Path, error: Exception) -> DataError:
        cause = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        problem = f"no readable MATLAB v5 file ({cause}), expected one with X and y"
        return self.damage(root, path, problem)


def _shown(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _errors() -> tuple[type[Exception], ...]:
    """Return what scipy raises on damaged files; found by changing bytes of some."""
    from scipy.io.matlab import MatReadError  # noqa: PLC0415

    return (
        *(OSError, ValueError, TypeError, LookupError, NameError, MemoryError),
        *(NotImplementedError, zlib.error, MatReadError),
    )
