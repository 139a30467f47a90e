"""Where cells start and where they could go on, from what is heard of their rounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedkd.base.folders import ResultsFolder
from fedkd.report.description import said_since_start
from fedkd.simulation.store.checkpoint import (
    FITTING,
    OTHER_LINES,
    OTHER_RUN,
    READING,
    UNREADABLE,
)
from fedkd.suite.grid import Cell


@dataclass
class _Start:
    """A cell that runs."""

    had_checkpoint: bool
    saved: int | None
    """Round of its last checkpoint; 0 without one, None if it is not known."""
    heard: bool = False


class ResumePoints:
    """The cells that run, and which round each would go on after."""

    def __init__(self, out: ResultsFolder) -> None:
        self._out = out
        self._running: dict[str, _Start] = {}

    def started(self, cell: Cell) -> None:
        """Note that a cell starts."""
        files = self._out.run(cell.run_id)
        there = files.checkpoint.is_file() or files.before.is_file()
        self._running[cell.run_id] = _Start(there, None if there else 0)

    def round(self, cell: Cell, metrics: Mapping[str, Any]) -> str:
        """Note a round; return what is to be said of the first one, mostly nothing."""
        start, done = self._running[cell.run_id], int(metrics["round"])
        first = not start.heard
        if first:
            start.heard, start.saved = True, done - 1
        every = cell.checkpoint_every
        if (every and done % every == 0) or done == cell.run.rounds:
            start.saved = done
        if not first:
            return ""
        log = self._out.run(cell.run_id).log
        if done > 1:
            return _why_before(log) + resumed(done - 1, cell.run.rounds)
        return _why_anew(log) if start.had_checkpoint else ""

    def ended(self, cell: Cell) -> None:
        """Note that a cell has ended."""
        self._running.pop(cell.run_id, None)

    def prospect(self) -> str:
        """Return what becomes of the cells that run, if they are cut off now."""
        saved = [start.saved for start in self._running.values()]
        if not saved:
            return ""
        many = len(saved) > 1
        who = (
            f"the {len(saved)} that were running"
            if many
            else "the one that was running"
        )
        if not any(saved) and None not in saved:
            verb = "have" if many else "has"
            return f"{who} {verb} no checkpoint yet"
        which = _rounds([done for done in saved if done])
        if many:
            return f"{who} go on from their last checkpoints{which}"
        return f"{who} goes on from its last checkpoint{which}"


def _rounds(saved: Sequence[int]) -> str:
    """Return the rounds of checkpoints, in brackets; nothing without any."""
    if not saved:
        return ""
    first, last = min(saved), max(saved)
    return f" (round {first})" if first == last else f" (rounds {first} to {last})"


def resumed(done: int, total: int) -> str:
    """Return that a run goes on after ``done`` of ``total`` rounds."""
    return f"goes on after round {done} of {total}"


def _why_before(log: Path) -> str:
    """Return what was wrong with the last checkpoint, as the log says; mostly nothing."""
    said = said_since_start(log)
    return "".join(f"{text}; " for text in (READING, FITTING) if text in said)


def _why_anew(log: Path) -> str:
    """Return why a run with a checkpoint began at round 1, as its log says."""
    said = said_since_start(log)
    why = [text for text in (UNREADABLE, OTHER_LINES, OTHER_RUN) if text in said]
    return f"{why[0]}." if why else "starts from round 1."
