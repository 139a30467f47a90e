"""What notebooks show: a bar while a bench runs, pictures, and tables as HTML."""

from __future__ import annotations

import base64
import html
import importlib
import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType

from fedkd.base.shown import brief
from fedkd.errors import counted
from fedkd.harness.live.lines import View, make_view
from fedkd.harness.live.progress import Progress, summary_text
from fedkd.report.results import Row
from fedkd.suite.grid import Cell

EVERY = 0.5
"""Least seconds between two drawings of the bar."""
WIDTH = 120
"""Columns of a table in a page."""


class Silent:
    """Shows nothing of the cells."""

    def started(self, cell: Cell) -> None:
        """Do nothing."""

    def round(self, cell: Cell, metrics: Mapping[str, Any]) -> None:
        """Do nothing."""

    def note(self, cell: Cell, text: str) -> None:
        """Do nothing."""

    def finished(self, cell: Cell, row: Row) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class Bar:
    """A bar of all rounds of a bench, in the output of a notebook's cell."""

    def __init__(self, progress: Progress) -> None:
        """Draw an empty bar.

        Args:
            progress: What is known of the cells.
        """
        shown: Any = importlib.import_module("IPython.display")  # a notebook has it
        self._progress = progress
        self._html = shown.HTML
        self._handle = shown.display(shown.HTML(self.text), display_id=True)
        self._last = progress.clock()

    @property
    def text(self) -> str:
        """The bar as HTML."""
        cells = self._progress.cells.values()
        total = sum(one.cell.run.rounds for one in cells)
        done = sum(
            one.cell.run.rounds if one.seconds is not None or one.reason else one.round
            for one in cells
        )
        said = html.escape(summary_text(self._progress))
        bar = f'<progress value="{done}" max="{total}" style="width:24em"></progress>'
        return f"{bar} {done} of {counted(total, 'round')}; {said}"

    def started(self, cell: Cell) -> None:
        """Note that a cell starts."""
        self._progress.started(cell)
        self._draw()

    def round(self, cell: Cell, metrics: Mapping[str, Any]) -> None:
        """Note a round."""
        self._progress.round(cell, metrics)
        self._draw()

    def note(self, cell: Cell, text: str) -> None:
        """Leave remarks on cells to their logs."""

    def finished(self, cell: Cell, row: Row) -> None:
        """Note how a cell ended."""
        self._progress.finished(cell, row)
        self._draw()

    def close(self) -> None:
        """Draw it a last time."""
        self._draw(at_once=True)

    def _draw(self, at_once: bool = False) -> None:
        now = self._progress.clock()
        if at_once or now - self._last >= EVERY:
            self._last = now
            self._handle.update(self._html(self.text))


def view_of(cells: Sequence[Cell], rows: Sequence[Row], shown: bool) -> View:
    """Return what shows a bench where this is called: a bar, lines, or nothing."""
    if not shown:
        return Silent()
    if in_notebook():
        return Bar(Progress(cells, rows))
    return make_view(cells, rows)


def in_notebook() -> bool:
    """Say whether this process is the kernel of a notebook."""
    ipython: Any = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


def as_html(table: RenderableType) -> str:
    """Return what a terminal would show as HTML, with its own styles."""
    # Left alone, rich would also show it in a notebook by itself.
    quiet = io.StringIO()
    console = Console(record=True, file=quiet, width=WIDTH, force_jupyter=False)
    console.print(table)
    form = '<pre style="line-height:1.2;white-space:pre;font-family:monospace">{code}</pre>'
    return console.export_html(inline_styles=True, code_format=form)


@dataclass(frozen=True, repr=False)
class Figures:
    """Pictures that were drawn; a notebook shows them."""

    files: tuple[Path, ...]
    """The files."""
    failed: tuple[str, ...] = ()
    """A sentence for each that could not be drawn."""

    def __repr__(self) -> str:
        """Return how many there are, and where."""
        where = str(self.files[0].parent) if self.files else "nowhere"
        lost = f"{len(self.failed)} not drawn" if self.failed else ""
        return brief(self, f"{counted(len(self.files), 'figure')} in {where}", lost)

    def _repr_html_(self) -> str:
        """Return the pictures themselves, so that the notebook holds them."""
        parts = [f"<p>{html.escape(line)}</p>" for line in self.failed]
        for path in self.files:
            if path.suffix == ".png":
                data = base64.b64encode(path.read_bytes()).decode("ascii")
                name = html.escape(path.stem)
                style = "max-width:100%"
                parts.append(
                    f'<img alt="{name}" style="{style}" '
                    f'src="data:image/png;base64,{data}">'
                )
        return "\n".join(parts)


class Page(str):
    """A Markdown text, which a notebook shows as a page."""

    def _repr_markdown_(self) -> str:
        return str(self)
