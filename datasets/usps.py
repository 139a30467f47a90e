"""USPS, a domain of ``digits-five``: read where its files are, fetched by nobody."""

from __future__ import annotations

import bz2
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fedkd.datasets.published_files import md5
from fedkd.errors import DataError

FILES = {
    "usps.bz2": "ec16c51db3855ca6c91edd34d0e9b197",
    "usps.t.bz2": "8ea070ee2aca1ac39742fdd1ef5ed118",
}
"""Training and test file, as LIBSVM publishes them, and their MD5 (torchvision's)."""
_HOME = "https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass.html#usps"
_SIDE = 16

Labelled = tuple[Tensor, Tensor]
"""Images uint8 ``[N, 1, 16, 16]`` and labels int64 ``[N]``."""


def paths(root: Path) -> list[Path]:
    """Return the paths of both files, which are there.

    Raises:
        DataError: If one is not; says where to get it.
    """
    for name in FILES:
        if not (root / name).is_file():
            raise DataError(
                f"usps: {name} is not in {root}. Get usps.bz2 and usps.t.bz2 from "
                f"{_HOME} into {root}, or leave usps out of the option domains."
            )
    return [root / name for name in FILES]


def read_usps(root: Path) -> tuple[Labelled, Labelled]:
    """Return the training and the test half of USPS (Hull 1994), 16x16 grey.

    Values -1..1 of the files become 0..255; in the files the digit 0 has the label 1.

    Raises:
        DataError: If a file is missing or not the published one.
    """
    halves = []
    for path, expected in zip(paths(root), FILES.values(), strict=True):
        if (checksum := md5(path)) != expected:
            raise DataError(
                f"usps: {path} is damaged: found MD5 {checksum}, expected {expected}. Get "
                f"it again from {_HOME}."
            )
        halves.append(_parsed(path))
    return halves[0], halves[1]


def _parsed(path: Path) -> Labelled:
    """Read lines ``label 1:value ... 256:value``."""
    with bz2.open(path, "rt", encoding="ascii") as file:
        rows = [line.split() for line in file]
    values = [[float(pair.partition(":")[2]) for pair in row[1:]] for row in rows]
    grey = np.rint((np.array(values) + 1) * 127.5).astype(np.uint8)
    labels = np.array([int(float(row[0])) - 1 for row in rows], np.int64)
    x = torch.from_numpy(grey).view(-1, 1, _SIDE, _SIDE)
    return x, torch.from_numpy(labels)
