"""What a cell will cost, as far as that is known before it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

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
    paces: dict[tuple[str, str, str], list[float]] = {}
    work: dict[tuple[str, str, str], list[float]] = {}
    for row in rows:
        key = (row.strategy, row.dataset, row.models)
        if row.status == "done" and row.seconds is not None:
            paces.setdefault(key, []).append(row.seconds / row.rounds)
        if row.status == "done" and row.server_examples is not None:
            work.setdefault(key, []).append(row.server_examples / row.rounds)
    known = {row.run_id: row.seconds for row in rows}
    return [
        Cost(
            _images(cell),
            known[cell.run_id]
            if cell.run_id in known
            else _guess(
                cell, paces.get((cell.run.strategy, cell.run.dataset, cell.run.models))
            ),
            _whole(
                _guess(
                    cell,
                    work.get((cell.run.strategy, cell.run.dataset, cell.run.models)),
                )
            ),
        )
        for cell in cells
    ]


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


def _whole(number: float | None) -> int | None:
    return None if number is None else round(number)


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
