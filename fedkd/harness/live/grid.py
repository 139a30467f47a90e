"""A grid of cells that is redrawn in place on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fedkd.errors import counted
from fedkd.harness.live.progress import (
    RUNNING,
    WAITING,
    CellProgress,
    Progress,
    bytes_text,
    clock_text,
    sparkline,
    summary_text,
)
from fedkd.report.results import Row

if TYPE_CHECKING:
    from fedkd.suite.grid import Cell

REFRESHES = 4
"""Redraws of the live view a second."""
_STYLES = {
    "done": "green", "failed": "bold red", "diverged": "red", "skipped": "yellow",
    RUNNING: "cyan", WAITING: "dim",
}  # fmt: skip

GAP = 2
"""Blanks between columns."""
_CHANGING = {
    "status": 8, "round": 5, "acc %": 6, "trend": 12, "sent": 8, "time": 7, "left": 7,
}  # fmt: skip
"""Columns whose texts change, with the widths that they never pass."""
_RIGHT = ("seed", "round", "acc %", "sent", "time", "left")
_DISPENSABLE = (
    "trend", "sent", "time", "models", "left", "partition", "data", "round", "seed",
)  # fmt: skip
"""Columns that go, in this order, where the terminal is too narrow."""


class LiveView:
    """A grid of cells that is redrawn in place."""

    def __init__(self, progress: Progress, console: Console) -> None:
        self._progress = progress
        self._console = console
        every = list(progress.cells.values())
        self._common = _common(every)
        self._widths = _widths(every, self._common)
        self._live = Live(
            console=console,
            get_renderable=self.render,
            refresh_per_second=REFRESHES,
            transient=True,
            vertical_overflow="crop",
        )

    def started(self, cell: Cell) -> None:
        """Show that a cell runs."""
        self._progress.started(cell)
        self._live.start()

    def round(self, cell: Cell, metrics: Mapping[str, Any]) -> None:
        """Show the metrics of a round at the next redraw."""
        self._progress.round(cell, metrics)

    def note(self, cell: Cell, text: str) -> None:
        """Write a remark on a cell above the grid, where it stays."""
        self._console.print(Text(f"{cell.run_id}: {text}"))

    def finished(self, cell: Cell, row: Row) -> None:
        """Show how a cell ended; a failure also stays above the grid."""
        self._progress.finished(cell, row)
        if row.status in ("failed", "diverged"):
            text = f"{cell.run_id} {row.status}: {row.reason}"
            self._console.print(Text(text, style=_STYLES[row.status]))

    def close(self) -> None:
        """Wipe the grid off the terminal."""
        self._live.stop()

    def render(self) -> RenderableType:
        """Return what the terminal shows now: never wider or higher than it is."""
        width, height = self._console.size
        every = list(self._progress.cells.values())
        shown = visible(every, max(height - 4, 1))
        widths = dict(self._widths)
        if not self._console.encoding.lower().startswith("utf"):
            widths.pop("trend")
        table = _grid(shown, self._progress.clock(), _fitting(widths, width))
        hidden = len(every) - len(shown)
        more = f" ({counted(hidden, 'cell')} not shown)" if hidden else ""
        return Group(
            Text(
                ", ".join(self._common), style="bold", no_wrap=True, overflow="ellipsis"
            ),
            table,
            Text(
                summary_text(self._progress) + more, no_wrap=True, overflow="ellipsis"
            ),
        )


def visible(cells: Sequence[CellProgress], room: int) -> list[CellProgress]:
    """Return the cells to show, at most ``room``, in the order of the grid.

    Running cells come first, then the one that is next, then those that ended last.
    """
    if len(cells) <= room:
        return list(cells)
    running = [one for one in cells if one.status == RUNNING]
    waiting = [one for one in cells if one.status == WAITING]
    ended = [one for one in cells if one.status not in (RUNNING, WAITING)]
    ended.sort(key=lambda one: -(one.ended if one.ended is not None else -1.0))
    ranked = [*running, *waiting[:1], *ended, *waiting[1:]]
    return sorted(ranked[:room], key=lambda one: one.number)


def _columns(one: CellProgress) -> dict[str, str]:
    """Return what tells cells apart, by column."""
    run = one.cell.run
    return {
        "strategy": run.strategy,
        "data": run.dataset,
        "partition": run.split,
        "models": run.models,
        "seed": str(run.seed),
    }


def _common(cells: Sequence[CellProgress]) -> tuple[str, ...]:
    """Return what all cells share: the suite, and columns that hold one text."""
    shared = [{one.cell.run.suite} for one in cells[:1]]
    columns = [_columns(one) for one in cells]
    for name in ("data", "partition", "models"):
        shared.append({column[name] for column in columns})
    return tuple(texts.pop() for texts in shared if len(texts) == 1)


def _widths(cells: Sequence[CellProgress], common: Sequence[str]) -> dict[str, int]:
    """Return the columns with their widths, which do not change while cells run."""
    columns = [_columns(one) for one in cells]
    texts = {
        name: {column[name] for column in columns} for name in (columns or [{}])[0]
    }
    own = {
        name: max(len(name), *map(len, names))
        for name, names in texts.items()
        if name in ("strategy", "seed") or len(names) > 1
    }
    rounds = max((len(str(one.cell.run.rounds)) for one in cells), default=1)
    return {**own, **_CHANGING, "round": max(5, 2 * rounds + 1)}


def _fitting(widths: Mapping[str, int], width: int) -> dict[str, int]:
    """Return the columns that fit into a terminal of ``width``."""
    fitting = dict(widths)
    for name in _DISPENSABLE:
        if sum(fitting.values()) + GAP * (len(fitting) - 1) > width:
            fitting.pop(name, None)
    return fitting


def _fields(one: CellProgress, now: float) -> dict[str, str]:
    """Return all fields of a line, by column."""
    started = one.status != WAITING
    accuracy = "" if one.accuracy is None else f"{one.accuracy:.2f}"
    return {
        **_columns(one),
        "status": one.status,
        "round": f"{one.round}/{one.cell.run.rounds}" if started else "",
        "acc %": accuracy,
        "trend": sparkline(one.accuracies, _CHANGING["trend"]),
        "sent": bytes_text(one.bytes),
        "time": clock_text(one.elapsed(now)),
        "left": clock_text(one.left(now)),
    }


def _grid(
    shown: Sequence[CellProgress], now: float, widths: Mapping[str, int]
) -> Table:
    table = Table(box=None, padding=(0, GAP, 0, 0), pad_edge=False, header_style="dim")
    for name, width in widths.items():
        table.add_column(
            name,
            justify="right" if name in _RIGHT else "left",
            no_wrap=True,
            overflow="ellipsis",
            min_width=min(width, 20),
        )
    for one in shown:
        fields = _fields(one, now)
        texts = [
            Text(fields[name], style=_STYLES.get(one.status, "") * (name == "status"))
            for name in widths
        ]
        table.add_row(*texts, style="dim" if one.status == WAITING else "")
    return table
