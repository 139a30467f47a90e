"""Batches of CIFAR, which are published as pickles: arrays and lists, and nothing else."""

from __future__ import annotations

import hashlib
import importlib
import io
import pickle
from pathlib import Path
from typing import Any, ClassVar

from fedkd.base.bounds import read_bytes

LARGEST = 1 << 28
"""Most bytes of a batch; those of CIFAR-100 are the largest, 155 MB."""


class _Arrays(pickle.Unpickler):
    """Rebuilds arrays of NumPy: no pickle may name anything else, so none runs code."""

    known: ClassVar[dict[str, str]] = {
        "_reconstruct": "numpy.core.multiarray numpy._core.multiarray",
        "_frombuffer": "numpy.core.numeric numpy._core.numeric",
        "ndarray": "numpy",
        "dtype": "numpy",
        "encode": "_codecs",
    }
    """In which modules each name is."""

    def find_class(self, module: str, name: str) -> Any:
        """Return one of the functions that make an array.

        Raises:
            ValueError: If something else is asked for.
        """
        if module not in self.known.get(name, "").split():
            raise ValueError(f"it names {module}.{name}, which makes no array")
        # NumPy 2 has moved what files of NumPy 1 name.
        place = module.replace("numpy.core", "numpy._core")
        try:
            return getattr(importlib.import_module(place), name)
        except ModuleNotFoundError:
            return getattr(importlib.import_module(module), name)


UNREADABLE = (
    *(KeyError, TypeError, ValueError, AttributeError, EOFError, IndexError),
    pickle.UnpicklingError,
)
"""What files that are no batches raise."""


def read_batch(path: Path, checksum: str) -> Any:
    """Return what is in a batch whose MD5 is known: of the bytes that are read, no others.

    Raises:
        ValueError: If the bytes are others, or no batch; or another error of
            :data:`UNREADABLE`.
        OSError: If it cannot be read.
    """
    content = read_bytes(path, LARGEST)
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != checksum:
        raise ValueError(f"MD5 {found}, expected {checksum}")
    return _Arrays(io.BytesIO(content), encoding="latin1").load()
