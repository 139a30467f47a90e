"""Reading the files of published sets through torchvision, and saying what is wrong.

Each set lists its files with sizes and MD5 sums. Sizes are checked at every load and MD5
sums by ``fedkd data check`` and where a reader stumbles, so that a load stays fast.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from fedkd.errors import DataError

Halves: TypeAlias = tuple[Tensor, Tensor, Tensor, Tensor]
"""Training images and labels, test images and labels."""


@dataclass(frozen=True)
class SourceFile:
    """One published file."""

    path: str
    """Relative to the data root."""
    size: int
    """Bytes."""
    md5: str
    """Of the whole file."""


def check_sizes(name: str, files: tuple[SourceFile, ...], root: Path) -> None:
    """Refuse missing files and files of another size.

    Raises:
        DataError: If a file is missing (names all of them) or has another size.
    """
    missing = [f for f in files if not (root / f.path).is_file()]
    if missing:
        needed = ", ".join(f"{f.path} ({f.size:,} bytes)" for f in missing)
        raise DataError(
            f"data set {name!r}: not found under {root}: {needed}. Run 'fedkd data "
            f"prepare {name}', or name the folder that holds them with --data-root or "
            "FEDKD_DATA."
        )
    for file in files:
        found = (root / file.path).stat().st_size
        if found != file.size:
            raise DataError(
                f"data set {name!r}: {root / file.path} is damaged: found {found:,} "
                f"bytes, expected {file.size:,}. Delete it and run 'fedkd data prepare "
                f"{name}'."
            )


def check_sums(name: str, files: tuple[SourceFile, ...], root: Path) -> None:
    """Compare every file with its MD5 sum.

    Raises:
        DataError: Naming the first file that differs, or that is missing.
    """
    check_sizes(name, files, root)
    for file in files:
        with (root / file.path).open("rb") as stream:
            digest = hashlib.md5(usedforsecurity=False)
            for block in iter(lambda: stream.read(1 << 22), b""):
                digest.update(block)
        if digest.hexdigest() != file.md5:
            raise DataError(
                f"data set {name!r}: {root / file.path} is damaged: its MD5 is "
                f"{digest.hexdigest()}, expected {file.md5}. Delete it and run 'fedkd "
                f"data prepare {name}'."
            )


def read(
    name: str,
    files: tuple[SourceFile, ...],
    root: Path,
    reader: Callable[..., Any],
) -> tuple[Halves, tuple[str, ...]]:
    """Read both halves with a torchvision reader.

    Args:
        name: The set's registered name, for messages.
        files: What it needs.
        root: The data root.
        reader: A torchvision data set class with ``data`` and ``targets``.

    Returns:
        Training images uint8 ``[N, C, H, W]`` and labels int64 ``[N]``, the same of the
        test half; and the class names.

    Raises:
        DataError: If a file is missing or damaged, or a label is no class.
    """
    check_sizes(name, files, root)
    try:
        halves = [reader(root, train=train, download=False) for train in (True, False)]
    except Exception as error:
        # Readers fail in many ways on damaged bytes: find the file first.
        check_sums(name, files, root)
        raise DataError(
            f"data set {name!r}: torchvision cannot read its files under {root}: {error}"
        ) from error
    classes = len(halves[0].classes)
    tensors: list[Tensor] = []
    for half in halves:
        images, labels = _images(half.data), torch.as_tensor(half.targets).long()
        if len(images) != len(labels) or not _in_range(labels, classes):
            check_sums(name, files, root)
            raise DataError(
                f"data set {name!r}: found {len(images)} images and {len(labels)} "
                f"labels under {root}; expected as many, with labels 0..{classes - 1}."
            )
        tensors += [images, labels]
    both = (tensors[0], tensors[1], tensors[2], tensors[3])
    return both, tuple(str(name) for name in halves[0].classes)


def _images(data: Tensor | np.ndarray) -> Tensor:
    """Return grey ``[N, H, W]`` or colour ``[N, H, W, 3]`` images as ``[N, C, H, W]``."""
    pixels = torch.as_tensor(data)
    if pixels.ndim == 3:
        return pixels.unsqueeze(1).contiguous()
    return pixels.permute(0, 3, 1, 2).contiguous()


def _in_range(labels: Tensor, classes: int) -> bool:
    return bool(labels.min() >= 0) and bool(labels.max() < classes)


def download(name: str, root: Path, reader: Callable[..., Any]) -> None:
    """Fetch the files with torchvision.

    Raises:
        DataError: If the network or the folder does not allow it; says what to do.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        for train in (True, False):
            reader(root, train=train, download=True)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(
            f"data set {name!r} could not be fetched into {root}: {reason}. Copy its "
            f"files there by hand ('fedkd data list' names the folder), or try again."
        ) from error
