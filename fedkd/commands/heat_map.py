"""A client x class table as a heat map in the terminal."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fedkd.partition.base import Table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

COLUMNS = 20
"""Classes that may have their numbers side by side."""
SHADES = (
    "black on color(193)",
    "black on color(115)",
    "black on color(74)",
    "white on color(31)",
    "white on color(25)",
    "white on color(19)",
)
"""From few to many, pale green to dark blue, of the 256 colours that most terminals
have. Neither end is near to a white or a black terminal."""
NONE = "·"
"""A cell without samples, where cells have numbers."""
TICK = 6
"""Characters, at least, between class numbers above cells that have none."""


def colour_console() -> Console | None:
    """Return a console if the output is a terminal that shows colours, or None."""
    # Imported here: plain output needs none of it.
    from rich.console import Console  # noqa: PLC0415

    console = Console(highlight=False)
    if console.is_terminal and console.color_system and not console.no_color:
        return console
    return None


def print_heat_map(console: Console, counts: Table, title: str) -> None:
    """Draw a table ``[K, C]``: darker is more, on a logarithmic scale.

    Numbers stand in the cells where there are few classes and they fit. Elsewhere cells
    are as wide as fits, and where one column a class is too much, neighbours share one.
    """
    layout = _layout(counts, console.width)
    cells = np.add.reduceat(
        counts, np.arange(0, counts.shape[1], layout.shared), axis=1
    )
    starts = shade_starts(int(cells.max(initial=1)))
    console.print(f"{title}:", markup=False, emoji=False, style="bold", soft_wrap=True)
    heading = layout.margin("client", "samples") + _heading(layout, counts.shape[1])
    console.print(heading, style="dim", no_wrap=True, overflow="crop")
    for client, (row, size) in enumerate(zip(cells, counts.sum(1), strict=True)):
        line = _line(layout, layout.margin(client, size), row.tolist(), starts)
        console.print(line, no_wrap=True, overflow="crop")
    console.print(_legend(starts, int(cells.max(initial=1))))
    if layout.shared > 1:
        console.print(f"A cell holds {layout.shared} classes.")


def shade_starts(most: int) -> list[int]:
    """Return the smallest number of each shade, if the largest of all is ``most``."""
    steps = len(SHADES)
    return [math.ceil((most + 1) ** (s / steps) - 1e-9) for s in range(steps)]


@dataclass(frozen=True)
class _Layout:
    """How a table is laid out."""

    client: int
    """Characters for a client's number."""
    size: int
    """Characters for a client's number of samples."""
    cell: int
    """Characters of a cell."""
    shared: int
    """Classes that share a cell."""
    numbers: bool
    """Whether cells have numbers."""

    def margin(self, client: object, size: object) -> str:
        return f"{client!s:>{self.client}}  {size!s:>{self.size}}  "


def _layout(counts: Table, width: int) -> _Layout:
    clients, classes = counts.shape
    client = max(len("client"), len(str(clients - 1)))
    size = max(len("samples"), len(str(counts.sum(1).max(initial=0))))
    room = max(width - client - size - 4, 1)
    cell = max(len(str(counts.max(initial=0))), len(str(classes - 1))) + 2
    if classes <= COLUMNS and classes * cell <= room:
        return _Layout(client, size, cell, 1, numbers=True)
    shared = math.ceil(classes / room)
    cell = room // math.ceil(classes / shared)
    return _Layout(client, size, cell, shared, numbers=False)


def _heading(layout: _Layout, classes: int) -> str:
    """Return the class numbers that stand above the cells."""
    if layout.numbers:
        return "".join(f"{c:>{layout.cell - 1}} " for c in range(classes))
    steps = (step * 10**power for power in itertools.count() for step in (1, 2, 5))
    step = next(s for s in steps if s * layout.cell // layout.shared >= TICK)
    text = ""
    for c in range(0, classes, step):
        text = text.ljust(c // layout.shared * layout.cell) + str(c)
    return text


def _line(
    layout: _Layout, margin: str, row: Sequence[int], starts: Sequence[int]
) -> Text:
    from rich.text import Text  # noqa: PLC0415

    line = Text(margin)
    for number in row:
        shown = str(number or NONE) if layout.numbers else ""
        style = SHADES[bisect_right(starts, number) - 1] if number else "dim"
        line.append(f"{shown:>{layout.cell - 1}} ", style)
    return line


def _legend(starts: Sequence[int], most: int) -> Text:
    """Return the shades that can occur, with their numbers."""
    from rich.text import Text  # noqa: PLC0415

    line = Text("Samples: ")
    for style, first, after in zip(
        SHADES, starts, [*starts[1:], most + 1], strict=True
    ):
        if first < after:
            span = str(first) if after - first == 1 else f"{first:,}-{after - 1:,}"
            line.append(f" {span} ", style)
    return line
