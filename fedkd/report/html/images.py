"""Images that runs left, as PNG inside a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fedkd.errors import DataError
from fedkd.report.grouping import group, titles_of
from fedkd.report.plots import read_gallery
from fedkd.report.reading import Remark, Report
from fedkd.report.results import Row

MOST = 16
"""Images in a strip; a gallery may have more."""
GAP = 1
"""Pixels between two images."""


@dataclass(frozen=True)
class Strip:
    """A row of images."""

    name: str
    """Of whom they are: ``client 0``."""
    uri: str
    """``data:image/png;base64,…``."""
    width: int
    height: int
    number: int
    """Of images in it."""


@dataclass(frozen=True)
class Gallery:
    """The images of one strategy in one setting, of its first seed that left some."""

    strategy: str
    setting: str
    seed: int
    strips: tuple[Strip, ...]


def galleries_of(report: Report, remark: Remark) -> list[Gallery]:
    """Return the images of all strategies whose runs are done and left some.

    Args:
        report: What was read.
        remark: Is given a sentence on what cannot be read.
    """
    groups = group([row for row in report.rows if row.status == "done"])
    titles = titles_of(setting for _, setting in groups)
    found = []
    for (label, setting), rows in groups.items():
        row, strips = _first(rows, report, remark)
        if row is not None:
            found.append(Gallery(label, titles[setting], row.seed, strips))
    return found


def _first(
    rows: Sequence[Row], report: Report, remark: Remark
) -> tuple[Row | None, tuple[Strip, ...]]:
    for row in sorted(rows, key=lambda row: row.seed):
        try:
            images = read_gallery(report.folders[row.run_id].gallery)
        except DataError as error:
            remark(f"{str(error).rstrip('.')}; it is not drawn.")
            continue
        if images:
            return row, tuple(strip(name, x) for name, x in images.items())
    return None, ()


def strip(name: str, images: NDArray[np.uint8]) -> Strip:
    """Return the first images side by side, on transparent ground.

    Args:
        name: Of whom they are.
        images: uint8 ``[N, C, H, W]`` with C 1 or 3.
    """
    x = images[:MOST].transpose(0, 2, 3, 1)
    number, high, wide, channels = x.shape
    canvas = np.zeros((high, max(number * (wide + GAP) - GAP, 1), 4), dtype=np.uint8)
    for place, picture in enumerate(x):
        left = place * (wide + GAP)
        colours = np.repeat(picture, 3, axis=2) if channels == 1 else picture
        canvas[:, left : left + wide, :3] = colours
        canvas[:, left : left + wide, 3] = 255
    png = io.BytesIO()
    Image.fromarray(canvas).save(png, "png", optimize=True)
    uri = f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"
    return Strip(name, uri, canvas.shape[1], high, number)
