"""Opening prepared files: their images are mapped into memory, not read."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fedkd.base.bounds import opened as open_file
from fedkd.data.groups import Groups
from fedkd.data.images import Augmentation, ImageSet
from fedkd.data.prepared.files import Header, Prepared, read_opened


def opened(files: tuple[Prepared, Prepared]) -> ImageSet | None:
    """Return the set in a training and a test file; its images are mapped, not read.

    None if another process put other files in their place meanwhile: images and facts
    always are of one preparation.
    """
    header = files[0].header
    halves = [mapped(file.path, file.header) for file in files]
    if halves[0] is None or halves[1] is None:
        return None
    (x_train, y_train), (x_test, y_test) = halves[0], halves[1]
    return ImageSet(
        header.name,
        x_train,
        y_train,
        x_test,
        y_test,
        header.classes,
        header.mean,
        header.std,
        augmentation=Augmentation(**header.augmentation),
        notes=header.notes,
        groups=_groups(*(file.header for file in files)),
    )


def _groups(train: Header, test: Header) -> Groups | None:
    """Return the groups that the headers of both files say, or None."""
    if not train.group_names:
        return None
    of_train, of_test = (
        torch.tensor(h.groups, dtype=torch.int64) for h in (train, test)
    )
    return Groups(of_train, of_test, train.group_names)


def mapped(path: Path, expected: Header) -> tuple[Tensor, Tensor] | None:
    """Return images uint8 ``[N, C, H, W]`` and labels int64 ``[N]`` of a file.

    None if it is gone, or its header is another than the expected one. The header is
    read from the descriptor that is mapped, so both are of one file.
    """
    try:
        with open_file(path) as file:
            opened = read_opened(path, file)
            if opened is None or opened.header != expected:
                return None
            # A page that is written to becomes a copy of this process alone.
            whole = mmap.mmap(file.fileno(), opened.bytes, access=mmap.ACCESS_COPY)
    except FileNotFoundError:
        return None
    middle = opened.start + expected.label_bytes
    labels = np.frombuffer(whole, "<i8", expected.number, opened.start)
    content = torch.frombuffer(whole, dtype=torch.uint8)
    x = content[middle:].view(expected.number, *expected.shape)
    return x, torch.from_numpy(labels.astype(np.int64))
