"""What a cell will cost, as far as that is known before it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from fedkd.base.runname import RunName
from fedkd.errors import counted
from fedkd.harness.paces import PROBE, Pace
from fedkd.report.results import Row
from fedkd.suite.grid import Cell

HERE = "this folder"
"""What the source of an estimate from the bench's own cells is called."""


@dataclass(frozen=True)
class Cost:
    """The estimated cost of a cell."""

    images: int | None
    """Images of local training, if no client has fewer than a batch; None where
    training goes by epochs. What a strategy trains besides is not in it."""
    seconds: float | None
    """From finished cells of the same strategy, data set and models, else from runs like
    it in other folders or from steps that were timed; None without."""
    server: int | None = None
    """Images that the server trains on, those of generators included; from the same
    runs, None without."""
    source: str = ""
    """Where the seconds are from: :data:`HERE`, another results folder, or the timing of
    local steps, with which they are those of local training alone."""


def estimate(
    cells: Sequence[Cell], rows: Sequence[Row], paces: Mapping[str, Pace] | None = None
) -> list[Cost]:
    """Return the cost of every cell.

    Args:
        cells: The grid.
        rows: Rows of the cells that are finished.
        paces: By ``run_id``, for cells that no row is like.
    """
    done = [row for row in rows if row.status == "done"]
    seconds, server = _paces(done, "seconds"), _paces(done, "server_examples")
    known = {row.run_id: row.seconds for row in rows}
    costs = []
    for cell in cells:
        like, images = _kind(cell.run), _images(cell)
        work = _guess(cell, server.get(like))
        time = known.get(cell.run_id, _guess(cell, seconds.get(like)))
        source = "" if time is None else HERE
        pace = (paces or {}).get(cell.run_id)
        if time is None and pace is not None:
            time, source = pace.seconds * cell.run.rounds, pace.source
            work = None if pace.server is None else pace.server * cell.run.rounds
        server_images = None if work is None else round(work)
        costs.append(Cost(images, time, server_images, source))
    return costs


def _kind(run: RunName) -> tuple[str, str, str]:
    """Return what runs have in common that cost alike."""
    return run.strategy, run.dataset, run.models


def _paces(rows: Sequence[Row], column: str) -> dict[tuple[str, str, str], list[float]]:
    """Return what rows have in a column, by round of theirs and kind of run."""
    paces: dict[tuple[str, str, str], list[float]] = {}
    for row in rows:
        value = getattr(row, column)
        if value is not None:
            paces.setdefault(_kind(row), []).append(value / row.rounds)
    return paces


def _server_part(left: Sequence[Cost]) -> str:
    """Return the server's work of cells that are to do, as far as it is known."""
    known = [cost.server for cost in left if cost.server is not None]
    if not known:
        return "the server's work, generators included, is known once one like it ran"
    whom = counted(len(known), "cell")
    return f"{sum(known):,} server images, generators included, for {whom} of them"


def _images(cell: Cell) -> int | None:
    protocol = cell.parts.protocol
    steps = protocol.training.local_steps
    if steps is None:
        return None
    turns = cell.run.rounds * protocol.clients_per_round()
    return turns * steps * protocol.training.batch_size


def _guess(cell: Cell, paces: Sequence[float] | None) -> float | None:
    return fmean(paces) * cell.run.rounds if paces else None


def total_line(
    cells: Sequence[Cell],
    rows: Sequence[Row],
    jobs: int,
    paces: Mapping[str, Pace] | None = None,
) -> str:
    """Return one sentence on what is still to do."""
    done = {row.run_id for row in rows}
    left = [
        cost
        for cell, cost in zip(cells, estimate(cells, rows, paces), strict=True)
        if cell.run_id not in done
    ]
    parts = [f"{len(left)} of {counted(len(cells), 'cell')} to do"]
    images = [cost.images for cost in left if cost.images is not None]
    if images:
        parts.append(f"{sum(images):,} client images at most")
    parts += [_server_part(left), *_time_parts(left, jobs)]
    return "; ".join(parts) + "."


def _time_parts(left: Sequence[Cost], jobs: int) -> list[str]:
    """Return the minutes of cells that are to do, by what is known of them."""
    parts = []
    timed = {cost.source for cost in left if cost.seconds is not None}
    for source in sorted(timed, key=lambda one: (one != HERE, one == PROBE, one)):
        seconds = [
            c.seconds for c in left if c.seconds is not None and c.source == source
        ]
        minutes = sum(seconds) / min(jobs, len(left)) / 60
        number = counted(len(seconds), "cell")
        what = f"the {number} whose like is finished"
        what += "" if source == HERE else f" in {source}, on a machine like this"
        if source == PROBE:
            what = f"the local training alone of {number}, by {PROBE} of each model"
        parts.append(f"about {minutes:.1f} minutes for {what}, {jobs} side by side")
    return parts
