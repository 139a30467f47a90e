"""What this package warned of while a run was made, read from the run's log."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from fedkd.report.results import Row

STARTED = "started, fedkd"
"""What a log says where a run starts, or starts again."""
KIND = RuntimeWarning
"""What this package warns with."""


def said_since_start(log: Path) -> str:
    """Return what the log of a run says since it was started last; nothing without it."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    return text.rpartition(STARTED)[2]


def warnings_in(log: Path) -> list[str]:
    """Return what a run has warned of since it was started last; none without a log."""
    mark = f" {KIND.__name__}: "
    lines = said_since_start(log).splitlines()
    # Before the mark there is the time, which has no space.
    said = (line.partition(mark) for line in lines)
    return [sentence for time, mark_, sentence in said if mark_ and " " not in time]


def warned_lines(runs: Iterable[tuple[Row, Path]]) -> list[str]:
    """Return every different warning of some runs, once, after the runs that gave it.

    Args:
        runs: Rows, each with the log of its run.
    """
    runs_of: dict[str, list[Row]] = {}
    for row, log in runs:
        for sentence in warnings_in(log):
            runs_of.setdefault(sentence, []).append(row)
    return [f"{_named(rows)}: {sentence}" for sentence, rows in runs_of.items()]


def _named(rows: list[Row]) -> str:
    """Return what to call runs: the first one's name, and how many there are beside."""
    more = len(rows) - 1
    return rows[0].title + (f", and {more} more" if more else "")
