"""What a cell will cost, as far as that is known before it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedkd.errors import counted
from fedkd.harness.paces import HERE, PROBE, Pace, Ran, kind_of, pace_of
from fedkd.report.results import Row
from fedkd.suite.grid import Cell


@dataclass(frozen=True)
class Cost:
    """The estimated cost of a cell."""

    images: int | None
    """Images that go through training steps on clients; None where that is not known."""
    is_whole: bool = False
    """Whether all of them are counted, those of generators too, as a run like it did.
    Else they are those of plain local training, if no client has fewer than a batch."""
    seconds: float | None = None
    """From runs like it, or from steps that were timed; None without."""
    server: int | None = None
    """Images that the server trains on, those of generators included; from the same
    runs, None without."""
    source: str = ""
    """Where the seconds are from: :data:`~fedkd.harness.paces.HERE`, another results
    folder, or the timing of local steps, with which they are those of local training
    alone."""
    is_scaled: bool = False
    """Whether it is that of runs with another number of rounds, by the round."""


def estimate(
    cells: Sequence[Cell], rows: Sequence[Row], paces: Mapping[str, Pace] | None = None
) -> list[Cost]:
    """Return the cost of every cell.

    Args:
        cells: The grid.
        rows: Rows of cells of it that are finished; they tell the pace of those that
            differ from them in seed, partition and number of rounds only.
        paces: By ``run_id``, for cells that no row is like.
    """
    done = {row.run_id: Ran.of(row.plain()) for row in rows if row.status == "done"}
    kinds = {cell.run_id: kind_of(cell.config) for cell in cells}
    like: dict[str, list[Ran]] = {}
    for cell in cells:
        if cell.run_id in done:
            like.setdefault(kinds[cell.run_id], []).append(done[cell.run_id])
    costs = []
    for cell in cells:
        own = [done[cell.run_id]] if cell.run_id in done else []
        alike = own or like.get(kinds[cell.run_id], [])
        pace = pace_of(alike, cell.run.rounds, HERE) if alike else None
        if pace is None or pace.seconds is None:
            pace = (paces or {}).get(cell.run_id, pace)
        costs.append(_cost(cell, pace))
    return costs


def _cost(cell: Cell, pace: Pace | None) -> Cost:
    rounds = cell.run.rounds
    if pace is None:
        return Cost(_images(cell))
    whole = pace.client is not None
    return Cost(
        round((pace.client or 0) * rounds) if whole else _images(cell),
        whole,
        None if pace.seconds is None else pace.seconds * rounds,
        None if pace.server is None else round(pace.server * rounds),
        pace.source,
        pace.is_scaled,
    )


def _images(cell: Cell) -> int | None:
    """Return the images of plain local training; None where it goes by epochs."""
    protocol = cell.parts.protocol
    steps = protocol.training.local_steps
    if steps is None:
        return None
    turns = cell.run.rounds * protocol.clients_per_round()
    return turns * steps * protocol.training.batch_size


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
    parts += [*_work_parts(left), *_time_parts(left, jobs)]
    scaled = sum(cost.is_scaled for cost in left)
    if scaled:
        parts.append(
            f"{counted(scaled, 'cell')} by runs of another number of rounds, counted by "
            "the round, although a method may do some work once in a run"
        )
    return "; ".join(parts) + "."


def _work_parts(left: Sequence[Cost]) -> list[str]:
    """Return the images of cells that are to do, and what is not counted of them."""
    whole = [cost for cost in left if cost.is_whole]
    rest = [cost for cost in left if not cost.is_whole]
    parts = []
    if whole:
        images = sum(cost.images or 0 for cost in whole)
        server = sum(cost.server or 0 for cost in whole)
        parts.append(
            f"{images:,} client images and {server:,} server images, generators included, "
            f"for the {counted(len(whole), 'cell')} whose like is finished"
        )
    known = [cost.images for cost in rest if cost.images is not None]
    if known:
        parts.append(
            f"{sum(known):,} client images at most in the local training alone of "
            f"{counted(len(known), 'cell')}"
        )
    if rest:
        parts.append(
            "what else clients and server train there, generators above all, is known "
            "once a cell like it ran"
        )
    return parts


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
            what = (
                f"the local training alone of {number}, by {PROBE} of each model and "
                "without generators and server"
            )
        parts.append(f"about {minutes:.1f} minutes for {what}, {jobs} side by side")
    return parts
