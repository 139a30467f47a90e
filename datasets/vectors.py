"""Your own vectors, such as embeddings of texts: the arrays of a NumPy file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, field_validator
from torch import Tensor

from fedkd.base.files import spelled
from fedkd.data.dataset import Dataset, DatasetConfig
from fedkd.data.vectors import VectorSet, vector_moments
from fedkd.datasets.folder.contents import remembered
from fedkd.datasets.npz import NumpyFile, digest_of, read_arrays, shown, wrong
from fedkd.errors import DataError

KINDS = "fiu"
"""What NumPy calls floating-point and whole numbers."""


class VectorsConfig(DatasetConfig):
    """Options of your own vectors."""

    path: str = Field(min_length=1)
    """A file ``.npz`` with ``x_train`` and ``x_test``, numbers ``[N, D]``, and
    ``y_train`` and ``y_test``, labels ``[N]``; relative to the current folder. An array
    ``classes`` may name the classes; ``groups_train`` and ``groups_test`` may say whose
    each vector is."""

    @field_validator("path")
    @classmethod
    def _spelled_once(cls, path: str) -> str:
        return spelled(path)


class Vectors(Dataset):
    """Your own vectors, such as embeddings of texts or rows of a table.

    Named ``vectors:FILE.npz``. Numbers of any kind become float32. Each value is normalised
    by the mean and deviation of the training vectors; one that never changes there is 0.
    No augmentation. Models for them are mlp and linear.
    """

    Config = VectorsConfig
    argument = "path"

    def load(self, root: Path) -> VectorSet:
        """See :meth:`Dataset.load`; ``root`` is not looked at."""
        del root
        held = read_arrays(
            NumpyFile("vectors", self._path(), "vector", "values"), _read
        )
        mean, std = vector_moments(held.train[0])
        return VectorSet(
            "vectors",
            *held.train,
            *held.test,
            held.classes,
            mean,
            std,
            notes=held.notes,
            groups=held.groups,
        )

    def check(self, root: Path) -> None:
        """See :meth:`Dataset.check`; all of the file is read."""
        self.load(root)

    def content(self) -> str:
        """See :meth:`Dataset.content`; of the bytes, read again when the file changes."""
        path = self._path()
        facts = [(path.name, path.stat())]
        return remembered(str(path.resolve()), facts, lambda: digest_of(path))

    def _path(self) -> Path:
        path = Path(self.config.path).expanduser()
        if path.is_file() and path.suffix.lower() == ".npz":
            return path
        problem = "is no .npz file" if path.exists() else "is not there"
        raise DataError(
            f"vectors: {path} {problem}; expected a file that ends in .npz, as "
            "numpy.savez writes it."
        )


def _read(file: NumpyFile, key: str, array: NDArray[Any]) -> Tensor:
    """Return vectors as float32 ``[N, D]``."""
    if array.ndim != 2 or not array.shape[1] or array.dtype.kind not in KINDS:
        found = f"{key} of shape {shown(array.shape)} and type {array.dtype}"
        hint = ""
        if array.ndim in (3, 4):
            hint = " Images are read by the data set folder."
        raise wrong(file, found, "numbers of shape [N, D]", hint)
    with np.errstate(over="ignore"):  # what float32 cannot hold is refused below
        x = array.astype(np.float32)
    outside = ~np.isfinite(x)
    if outside.any():
        row, column = np.argwhere(outside)[0]
        found = f"{key}[{row}, {column}] {array[row, column]}"
        expected = "finite numbers of float32"
        raise wrong(file, found, expected, " Replace what is missing first.")
    return torch.from_numpy(x)
