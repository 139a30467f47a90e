"""What a cell will cost, as far as that is known before it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from fedkd.base.runname import RunName
from fedkd.errors import counted
from fedkd.report.results import Row
from fedkd.suite.grid import Cell


@dataclass(frozen=True)
class Cost:
    """The estimated cost of a cell."""

    images: int | None
    """Images of local training, if no client has fewer than a batch; None where
    training goes by epochs. What a strategy trains besides is not in it."""
    seconds: float | None
    """From finished cells of the same strategy, data set and models; None without."""
    server: int | None = None
    """Images that the server trains on, those of generators included; from the same
    cells, None without."""


def estimate(cells: Sequence[Cell], rows: Sequence[Row]) -> list[Cost]:
    """Return the cost of every cell.

    Args:
        cells: The grid.
        rows: Rows of the cells that are finished.
    """
    done = [row for row in rows if row.status == "done"]
    seconds, server = _paces(done, "seconds"), _paces(done, "server_examples")
    known = {row.run_id: row.seconds for row in rows}
    costs = []
    for cell in cells:
        like = _kind(cell.run)
        work = _guess(cell, server.get(like))
        time = _guess(cell, seconds.get(like))
        costs.append(
            Cost(
                _images(cell),
                known.get(cell.run_id, time),
                None if work is None else round(work),
            )
        )
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


def total_line(cells: Sequence[Cell], rows: Sequence[Row], jobs: int) -> str:
    """Return one sentence on what is still to do."""
    done = {row.run_id for row in rows}
    left = [
        cost
        for cell, cost in zip(cells, estimate(cells, rows), strict=True)
        if cell.run_id not in done
    ]
    parts = [f"{len(left)} of {counted(len(cells), 'cell')} to do"]
    images = [cost.images for cost in left if cost.images is not None]
    if images:
        parts.append(f"{sum(images):,} client images at most")
    parts += [_server_part(left)]
    seconds = [cost.seconds for cost in left if cost.seconds is not None]
    if seconds:
        minutes = sum(seconds) / min(jobs, len(left)) / 60
        parts.append(
            f"about {minutes:.1f} minutes for the "
            f"{counted(len(seconds), 'cell')} whose like is "
            f"finished, {jobs} side by side"
        )
    return "; ".join(parts) + "."
