"""Drawing: arrays in, a picture out. Knows no runs and no result files.

The ending of its path says what a picture is: ``.png``, ``.pdf`` or ``.svg``.

matplotlib is imported when something is drawn, without pyplot: no window system, no
global state, usable from any thread.
"""

from __future__ import annotations

import functools
import io
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedkd.base.files import write_atomic

DPI = 150
PAPER_DPI = 300
KINDS: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "pdf": {"Creator": None, "Producer": None, "CreationDate": None},
    "svg": {"Creator": None, "Date": None},
}
"""What pictures can be. No version and no time in the file: equal results give equal
bytes."""
FONTS = (
    "DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR",
    "Source Han Sans SC", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Droid Sans Fallback",
    "PingFang SC", "Hiragino Sans", "Microsoft YaHei", "SimHei", "Yu Gothic",
    "Malgun Gothic", "Arial Unicode MS",
)  # fmt: skip
"""Families that are drawn with, as far as they are installed; a later one has the letters
that those before it lack."""
_STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "axes.edgecolor": "#888888",
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    # Names are not formulas: a $ in one is a $.
    "text.parse_math": False,
    # Letters stay letters: whole fonts in PDF, text in SVG.
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "svg.hashsalt": "fedkd",
}


def partition_heat_map(
    counts: ArrayLike, classes: Sequence[str], path: Path, title: str
) -> None:
    """Draw how many images of each class each client has.

    Args:
        counts: ``[K, C]``: clients, classes.
        classes: The C class names.
        path: The file to write.
        title: Heading.
    """
    table = np.asarray(counts, dtype=np.int64)
    clients, number = table.shape
    width = float(np.clip(0.55 * number + 2.2, 5.5, 13))
    height = float(np.clip(0.34 * clients + 1.7, 3.2, 12))
    with figure_in(width, height, path) as figure:
        axis = figure.subplots()
        shown = np.ma.masked_equal(table, 0)
        most = max(int(table.max(initial=0)), 2)
        image = axis.imshow(
            shown, cmap="YlGnBu", norm="log", vmin=1, vmax=most, aspect="auto"
        )
        bar = figure.colorbar(image, ax=axis, pad=0.02, aspect=30, format=short)
        bar.set_label("images (log scale)")
        bar.ax.yaxis.get_major_locator().set_params(subs=(1, 2, 5))
        bar.ax.minorticks_off()
        axis.grid(visible=False)
        _name_classes(axis, classes, width - 2.4)
        totals = [f"{k}  (n={n:,})" for k, n in enumerate(table.sum(1))]
        _name_ticks(axis.yaxis, totals, room=(height - 1.3) / 0.19)
        axis.set_xlabel("class")
        axis.set_ylabel("client")
        axis.set_title(drawable(title))
        digits = len(str(int(table.max(initial=0))))
        if number * (digits + 1) * 0.085 < width - 2 and clients * 0.17 < height - 1.3:
            _write_numbers(axis, table)


def image_grid(
    images: Mapping[str, ArrayLike], path: Path, title: str, limit: int = 16
) -> None:
    """Draw rows of images, one row a name.

    Args:
        images: ``{name: [N, C, H, W]}`` with C 1 or 3: uint8, or numbers in 0..1.
            Tensors on the CPU are welcome.
        path: The file to write.
        title: Heading.
        limit: Most images in a row.
    """
    rows = {name: _pixels(x)[:limit] for name, x in images.items()}
    high = max(x.shape[1] for x in rows.values())
    wide = max(x.shape[2] for x in rows.values())
    most = max(len(x) for x in rows.values())
    gap = max(1, high // 16)
    canvas = np.ones((len(rows) * (high + gap) - gap, most * (wide + gap) - gap, 3))
    for i, x in enumerate(rows.values()):
        for j, picture in enumerate(x):
            top, left = i * (high + gap), j * (wide + gap)
            canvas[top : top + x.shape[1], left : left + x.shape[2]] = picture
    cell = float(np.clip(11 / most, 0.35, 0.9))
    names = max(map(len, rows)) * 0.085 + 0.3
    size = (cell * most + names, cell * len(rows) * high / wide + 0.6)
    with figure_in(*size, path) as figure:
        axis = figure.subplots()
        axis.imshow(canvas, interpolation="nearest")
        axis.set_yticks(
            [i * (high + gap) + high / 2 for i in range(len(rows))],
            [*map(drawable, rows)],
        )
        axis.set_xticks([])
        axis.tick_params(length=0)
        axis.grid(visible=False)
        axis.spines[:].set_visible(False)
        figure.suptitle(drawable(title), fontsize=11)


@contextmanager
def figure_in(
    width: float, height: float, path: Path, size: float | None = None
) -> Iterator[Any]:
    """Give a figure in inches; written to ``path`` when the block ends well.

    Args:
        width: Of the figure.
        height: Of the figure.
        path: The file to write; its ending says what it is, see :data:`KINDS`.
        size: Points of all letters in a figure for a paper, which is exactly as large as
            was said; None for one on its own, without margins.
    """
    # Half a second to import, and most commands draw nothing.
    with _no_backend():
        import matplotlib as mpl  # noqa: PLC0415
        from matplotlib.figure import Figure  # noqa: PLC0415

    style = {**_STYLE, **(_in_paper(size) if size else {}), "font.family": _fonts()[0]}
    with mpl.rc_context(style):
        figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
        yield figure
        kind = path.suffix.removeprefix(".")
        around: dict[str, Any] = (
            {"dpi": PAPER_DPI} if size else {"bbox_inches": "tight", "pad_inches": 0.1}
        )
        written = io.BytesIO()
        figure.savefig(written, format=kind, metadata=KINDS[kind], **around)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, written.getvalue())


def _in_paper(size: float) -> dict[str, Any]:
    """Return the style of a figure that is printed as large as it is drawn."""
    every = ("font.size", "axes.titlesize", "axes.labelsize", "legend.fontsize")
    ticks = ("xtick.labelsize", "ytick.labelsize", "figure.titlesize")
    lines = {"lines.linewidth": 1.2, "grid.linewidth": 0.5, "axes.linewidth": 0.6}
    pads = {"axes.titlepad": 3.0, "axes.labelpad": 2.0, "xtick.major.size": 2.5}
    return {**dict.fromkeys((*every, *ticks), size), **lines, **pads}


@contextmanager
def _no_backend() -> Iterator[None]:
    """Hide the backend that a notebook names: its package may not be here, nor needed."""
    named = os.environ.pop("MPLBACKEND", None)
    try:
        yield
    finally:
        if named is not None:
            os.environ["MPLBACKEND"] = named


@functools.cache
def _fonts() -> tuple[list[str], frozenset[int]]:
    """Return the families to draw with, and the letters that they have together."""
    from matplotlib import font_manager as fonts  # noqa: PLC0415

    files = {f.name: f.fname for f in reversed(fonts.fontManager.ttflist)}
    names = [name for name in FONTS if name in files]
    letters = [fonts.get_font(files[name]).get_charmap() for name in names]
    return names, frozenset().union(*letters)


def drawable(text: str) -> str:
    """Return a text in one line; letters that no font has are escapes: ``<4e2d>``."""
    _, letters = _fonts()
    line = " ".join(text.split())
    return "".join(c if ord(c) in letters else f"<{ord(c):x}>" for c in line)


def short(value: float, _position: int | None = None) -> str:
    """Return ``250k`` for 250000."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:g}{letter}"
    return f"{value:g}"


def _name_classes(axis: Any, classes: Sequence[str], inches: float) -> None:
    """Label the x axis: level where the names fit side by side, else slanted."""
    longest = max(map(len, classes), default=0)
    if len(classes) * (longest * 0.085 + 0.1) < inches:
        _name_ticks(axis.xaxis, classes, room=len(classes))
        return
    _name_ticks(axis.xaxis, classes, room=inches / 0.19)
    angle = 40 if len(classes) <= 12 else 90
    for label in axis.get_xticklabels():
        label.set(
            rotation=angle,
            ha="right",
            va="top" if angle < 90 else "center",
            rotation_mode="anchor",
        )


def _name_ticks(axis: Any, names: Sequence[str], room: float) -> None:
    """Label every tick where there is room, else every k-th."""
    step = max(1, math.ceil(len(names) / max(room, 1)))
    axis.set_ticks(
        range(0, len(names), step), [drawable(name) for name in names[::step]]
    )
    axis.set_tick_params(length=0)


def _write_numbers(axis: Any, table: NDArray[np.int64]) -> None:
    dark = np.sqrt(max(int(table.max()), 1))
    for (k, c), count in np.ndenumerate(table):
        colour = "white" if count > dark else "#333333"
        text = f"{count}" if count else "·"
        axis.text(c, k, text, ha="center", va="center", color=colour, fontsize=8)


def _pixels(images: ArrayLike) -> NDArray[np.float64]:
    """Return ``[N, H, W, 3]`` in 0..1."""
    x = np.asarray(images)
    scale = 255 if x.dtype == np.uint8 else 1
    x = np.nan_to_num(x.astype(np.float64) / scale, nan=0.5).clip(0, 1)
    x = x.transpose(0, 2, 3, 1)
    return np.repeat(x, 3, axis=3) if x.shape[3] == 1 else x
