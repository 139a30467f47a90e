"""How far the cells of a bench are, and how long the rest may take. No drawing."""

from __future__ import annotations

import math
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fedkd.report.results import Row

if TYPE_CHECKING:
    # Importing it would import torch, which no view needs.
    from fedkd.suite.grid import Cell

WAITING = "waiting"
RUNNING = "running"
_BARS = "▁▂▃▄▅▆▇█"


@dataclass
class CellProgress:
    """What is known of one cell."""

    cell: Cell
    number: int
    """Its position in the grid, from 1."""
    status: str = WAITING
    """``waiting``, ``running``, or the status of its row."""
    round: int = 0
    """Rounds that are done, those before a resumed run's start included."""
    reports: int = 0
    """Rounds reported since the cell was started here."""
    accuracies: list[float] = field(default_factory=list)
    """Every global accuracy measured so far, in percent."""
    bytes: int | None = None
    """Up and down so far."""
    started: float | None = None
    ended: float | None = None
    seconds: float | None = None
    """How long it took, once it has ended."""
    reason: str = ""

    @property
    def accuracy(self) -> float | None:
        """The last accuracy measured, in percent."""
        return self.accuracies[-1] if self.accuracies else None

    def elapsed(self, now: float) -> float | None:
        """Return the seconds it runs, or ran; None before its start."""
        if self.seconds is not None:
            return self.seconds
        return None if self.started is None else now - self.started

    def left(self, now: float) -> float | None:
        """Return the seconds it still needs at its pace; None before a first round."""
        if self.status != RUNNING or not self.reports or self.started is None:
            return None
        pace = (now - self.started) / self.reports
        return pace * max(self.cell.run.rounds - self.round, 0)


class Progress:
    """What is known of all cells of a bench."""

    def __init__(
        self,
        cells: Sequence[Cell],
        finished: Iterable[Row] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock = clock
        self.begun = clock()
        self.cells = {
            cell.run_id: CellProgress(cell, number)
            for number, cell in enumerate(cells, start=1)
        }
        for row in finished:
            if row.run_id in self.cells:
                self._end(self.cells[row.run_id], row)

    def started(self, cell: Cell) -> CellProgress:
        """Note that a cell starts."""
        progress = self.cells[cell.run_id]
        progress.status, progress.started = RUNNING, self.clock()
        return progress

    def round(self, cell: Cell, metrics: Mapping[str, Any]) -> CellProgress:
        """Note the metrics of a round."""
        progress = self.cells[cell.run_id]
        progress.round = int(metrics["round"])
        progress.reports += 1
        accuracy = metrics.get("global_accuracy")
        if accuracy is not None and math.isfinite(accuracy):
            progress.accuracies.append(accuracy)
        progress.bytes = metrics.get("bytes_up", 0) + metrics.get("bytes_down", 0)
        return progress

    def finished(self, cell: Cell, row: Row) -> CellProgress:
        """Note how a cell ended."""
        progress = self.cells[cell.run_id]
        progress.ended = self.clock()
        self._end(progress, row)
        if progress.started is not None:
            progress.seconds = progress.ended - progress.started
        return progress

    def counts(self) -> dict[str, int]:
        """Return how many cells have each status; running and waiting come last."""
        statuses = Counter(one.status for one in self.cells.values())
        order = ["done", "skipped", "diverged", "failed", RUNNING, WAITING]
        return {status: statuses[status] for status in order if statuses[status]}

    def left(self) -> float | None:
        """Return the seconds that all cells still need; None while nothing is known.

        A waiting cell is taken to need what a round of its strategy needed so far, else
        what a cell of the others needed: rounds of different strategies are too
        different. A strategy that was skipped needs nothing. Cells that run side by side
        share the sum.
        """
        now = self.clock()
        running = [one for one in self.cells.values() if one.status == RUNNING]
        waiting = [one for one in self.cells.values() if one.status == WAITING]
        paces = self._paces(now)
        labels = {one.cell.run.strategy for one in (*running, *waiting)}
        if labels and not any(paces.values()):
            return 0.0 if labels <= set(paces) else None
        usual = self._usual(paces)

        def whole(one: CellProgress) -> float:
            pace = paces.get(one.cell.run.strategy)
            return usual if pace is None else one.cell.run.rounds * pace

        rest = [one.left(now) if one.reports else whole(one) for one in running]
        known = [seconds for seconds in rest if seconds is not None]
        total = sum(known) + sum(map(whole, waiting))
        return max([total / max(len(running), 1), *known])

    def _usual(self, paces: Mapping[str, float]) -> float:
        """Return what a cell of the strategies that have run some takes on average."""
        rounds: dict[str, list[int]] = {}
        for one in self.cells.values():
            if paces.get(one.cell.run.strategy):
                rounds.setdefault(one.cell.run.strategy, []).append(one.cell.run.rounds)
        costs = [statistics.fmean(rounds[label]) * paces[label] for label in rounds]
        return statistics.fmean(costs) if costs else 0.0

    def _paces(self, now: float) -> dict[str, float]:
        """Return the mean seconds a round of every strategy that has run some.

        Of one that has been skipped so far, that is 0.
        """
        skipped = [one for one in self.cells.values() if one.status == "skipped"]
        by_label: dict[str, list[float]] = {
            one.cell.run.strategy: [0.0] for one in skipped
        }
        for one in self.cells.values():
            spent = one.elapsed(now)
            rounds = one.cell.run.rounds if one.status == "done" else one.reports
            if spent is not None and rounds:
                by_label.setdefault(one.cell.run.strategy, []).append(spent / rounds)
        return {
            label: statistics.fmean([pace for pace in paces if pace] or [0.0])
            for label, paces in by_label.items()
        }

    def _end(self, one: CellProgress, row: Row) -> None:
        one.status, one.reason, one.seconds = row.status, row.reason, row.seconds
        if row.status == "done":
            one.round = one.cell.run.rounds
        if row.global_accuracy not in (None, one.accuracy):
            one.accuracies.append(row.global_accuracy)
        if row.bytes_up is not None and row.bytes_down is not None:
            one.bytes = row.bytes_up + row.bytes_down


def summary_text(progress: Progress) -> str:
    """Return the time that is left, and how many cells there are of each status."""
    left = progress.left()
    counts = ", ".join(f"{n} {status}" for status, n in progress.counts().items())
    parts = [f"about {clock_text(left)} left" if left else "", counts]
    parts.append(f"{clock_text(progress.clock() - progress.begun)} elapsed")
    return "; ".join(part for part in parts if part)


def sparkline(values: Sequence[float], width: int = 12) -> str:
    """Return values as a row of bars, from the smallest to the largest of them."""
    if len(values) > width:
        last = len(values) - 1
        values = [values[round(i * last / (width - 1))] for i in range(width)]
    if not values:
        return ""
    low, high = min(values), max(values)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((value - low) * scale)] for value in values)


def clock_text(seconds: float | None) -> str:
    """Return ``0:07``, ``12:05`` or ``1:02:03``; nothing for None."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def bytes_text(number: int | None) -> str:
    """Return ``1.2 MB``; nothing for None."""
    if number is None:
        return ""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if number >= unit:
            return f"{number / unit:.1f} {name}"
    return f"{number} B"
