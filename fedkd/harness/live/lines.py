"""What is shown while a bench runs: a live grid of cells, or plain lines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console

from fedkd.base.streams import is_screen
from fedkd.errors import counted
from fedkd.harness.live.grid import LiveView
from fedkd.harness.live.progress import (
    CellProgress,
    Progress,
    bytes_text,
    clock_text,
    summary_text,
)
from fedkd.report.results import Row

if TYPE_CHECKING:
    from fedkd.suite.grid import Cell

LINE_EVERY = 10.0
"""Least seconds between two plain lines of one running cell."""
LINE_AT_LATEST = 60.0
"""Most seconds between them, as far as rounds end."""


class View(Protocol):
    """Is told what becomes of the cells, and shows it."""

    def started(self, cell: Cell) -> None:
        """A cell starts."""

    def round(self, cell: Cell, metrics: Mapping[str, Any]) -> None:
        """A round of a cell has ended."""

    def note(self, cell: Cell, text: str) -> None:
        """There is a remark on a cell."""

    def finished(self, cell: Cell, row: Row) -> None:
        """A cell has ended, well or not."""

    def close(self) -> None:
        """Stop showing; may be called twice."""


def make_view(
    cells: Sequence[Cell],
    finished: Iterable[Row] = (),
    plain: bool = False,
    console: Console | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> View:
    """Return a live grid, or plain lines where there is no terminal to draw on.

    Both write to the standard error, so that the output holds nothing but results.

    Args:
        cells: All cells, in the order of the grid.
        finished: Rows of the cells that are not run again.
        plain: Whether to write plain lines on a terminal too.
        console: Where to write.
        clock: Returns seconds.
    """
    target = console or Console(stderr=True)
    # FORCE_COLOR makes rich take a file for a terminal; colours are fine there, a
    # cursor that goes up is not.
    drawable = target.is_terminal and (console is not None or is_screen(target.file))
    progress = Progress(cells, finished, clock)
    if plain or not drawable or target.is_dumb_terminal:
        return PlainView(progress, target)
    return LiveView(progress, target)


class PlainView:
    """One line when a cell starts or ends, and now and then in between."""

    def __init__(self, progress: Progress, console: Console) -> None:
        self._progress = progress
        self._console = console
        self._last: dict[str, tuple[float, int]] = {}
        """When, and in which round, a line of a running cell was written."""

    def started(self, cell: Cell) -> None:
        """Write that a cell starts."""
        one = self._progress.started(cell)
        self._last[cell.run_id] = (self._progress.clock(), 0)
        self._say(one, f"started, {counted(cell.run.rounds, 'round')}")

    def round(self, cell: Cell, metrics: Mapping[str, Any]) -> None:
        """Write how far a cell is, if the last line of it is old enough."""
        one = self._progress.round(cell, metrics)
        now = self._progress.clock()
        when, at = self._last.get(cell.run_id, (now, 0))
        moved = (one.round - at) * 10 >= cell.run.rounds
        waited = now - when
        due = waited >= LINE_AT_LATEST or (waited >= LINE_EVERY and moved)
        if not due or one.round >= cell.run.rounds:
            return
        self._last[cell.run_id] = (now, one.round)
        parts = [f"round {one.round}/{cell.run.rounds}", *_facts(one, now)]
        left = one.left(now)
        parts += [f"about {clock_text(left)} left"] if left is not None else []
        self._say(one, ", ".join(parts))

    def note(self, cell: Cell, text: str) -> None:
        """Write a remark on a cell."""
        self._say(self._progress.cells[cell.run_id], text)

    def finished(self, cell: Cell, row: Row) -> None:
        """Write how a cell ended, and how many are left."""
        one = self._progress.finished(cell, row)
        self._last.pop(cell.run_id, None)
        if row.status == "done":
            text = ", ".join(["done", *_facts(one, self._progress.clock())])
        else:
            text = f"{row.status}: {row.reason}"
        self._say(one, f"{text} [{summary_text(self._progress)}]")

    def close(self) -> None:
        """Do nothing: every line is already written."""

    def _say(self, one: CellProgress, text: str) -> None:
        total = len(self._progress.cells)
        line = f"[{one.number}/{total}] {one.cell.run.title}: {text}"
        self._console.print(
            line, markup=False, emoji=False, highlight=False, soft_wrap=True
        )


def _facts(one: CellProgress, now: float) -> list[str]:
    """Return accuracy, bytes and time of a cell, as far as they are known."""
    accuracy = "" if one.accuracy is None else f"accuracy {one.accuracy:.2f}"
    known = [accuracy, bytes_text(one.bytes), clock_text(one.elapsed(now))]
    return [text for text in known if text]
