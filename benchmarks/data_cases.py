"""The data sets that ``measure_data.py`` measures, and where their files come from."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WRITERS = Path(__file__).resolve().parents[1] / "tests" / "datasets"
"""Folder of the module ``published``, which writes sets in the published formats."""


@dataclass(frozen=True)
class Case:
    """A data set to measure."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    written: str = ""
    """Code that writes its files into ``root``, with ``published``; none: real files."""
    note: str = ""


CASES = (
    Case("mnist"),
    Case("fashion-mnist"),
    Case(
        "svhn",
        {"partial": True},
        "published.write_svhn(root, 73_257, 26_032)",
        "generated, published size",
    ),
    Case("cifar10"),
    Case("cifar100"),
    Case("tiny-imagenet", {"partial": True}),
    Case("tiny-imagenet", {"partial": True, "resolution": 64}),
    Case(
        "food101",
        {"partial": True, "resolution": 64},
        "published.picture = large; published.write_food101(root, 30, 10)",
        "generated, 40 a class, 512x384",
    ),
)
LARGE = """
def large(label, number, *sides):
    small = picture(label, number, 48, 64)
    return np.kron(small, np.ones((8, 8, 1), np.uint8))
"""
"""Images as large as the published ones of FOOD101, in blocks of 8x8 pixels."""


def write(case: Case, root: Path) -> None:
    """Write the files of a set, in a process of its own: it takes memory."""
    start = f"import sys; sys.path.insert(0, {str(WRITERS)!r})"
    imports = "import numpy as np, published; from pathlib import Path"
    setting = f"root = Path({str(root)!r}); picture = published.picture"
    code = "\n".join([start, imports, setting, LARGE, case.written])
    subprocess.run([sys.executable, "-c", code], check=True)


def link(root: Path, to: Path) -> None:
    """Make all files of a data root appear in another, but prepared ones."""
    for place in root.iterdir():
        if place.name != "prepared":
            (to / place.name).symlink_to(place)
