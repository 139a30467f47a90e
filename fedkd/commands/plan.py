"""``fedkd bench --dry-run``: the grid of a suite and what its cells will cost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from fedkd.commands.common import wide_console
from fedkd.errors import counted
from fedkd.harness.bench import Bench
from fedkd.harness.builder import RunBuilder
from fedkd.harness.cost import Cost, estimate, total_line
from fedkd.harness.paces import HERE, Pace, probed, recorded
from fedkd.harness.precheck import Foreseen
from fedkd.harness.request import strategies_by
from fedkd.report.terminal import Whole
from fedkd.suite.grid import Cell

AXES = ("data set", "partition", "models", "seed", "rounds")
"""Columns that are left out where all cells agree; the title has them then."""
RIGHT = ("seed", "rounds", "client images", "server images", "seconds")
SOURCE = "seconds from"
"""The column that says where an estimate is from, left out where all is of this folder."""


def show_plan(bench: Bench, foreseen: Foreseen, probe: bool) -> None:
    """Print the grid with the estimated cost of every cell, and what will be skipped.

    Args:
        bench: Has the cells.
        foreseen: What will not run.
        probe: Whether steps are timed for cells that no run is like.
    """
    paces = _paces(bench, foreseen, probe)
    costs = estimate(bench.cells, bench.rows, paces)
    statuses = dict.fromkeys(foreseen.skipped, "skips")
    statuses |= dict.fromkeys(foreseen.failing, "fails")
    statuses |= {run_id: row.status for run_id, row in bench.done.items()}
    rows = [
        _row(cell, cost, statuses.get(cell.run_id, ""))
        for cell, cost in zip(bench.cells, costs, strict=True)
    ]
    if {cost.source for cost in costs} <= {"", HERE}:
        for row in rows:
            del row[SOURCE]
    shared = [name for name in AXES if len({row[name] for row in rows}) == 1]
    facts = [
        counted(len(rows), "cell"),
        *(_fact(name, rows[0][name]) for name in shared),
    ]
    public = bench.suite.public
    facts += [] if public is None else [f"public {public.shown}"]
    # Text: options are in square brackets, which are markup to rich.
    title = Text(f"{bench.suite.name}: {', '.join(facts)}", style="table.title")
    columns = [name for name in rows[0] if name not in shared]
    body = [[Text(row[name]) for name in columns] for row in rows]
    numbers = [place for place, name in enumerate(columns) if name in RIGHT]
    table = Whole(columns, body, numbers, lambda: Table(title=title, box=SIMPLE_HEAD))
    wide_console().print(table)
    click.echo(total_line(bench.cells, bench.rows, bench.settings.jobs, paces))
    for names, reason in strategies_by(bench, foreseen.skipped):
        click.echo(f"Skips {names}: {reason}")


def _paces(bench: Bench, foreseen: Foreseen, probe: bool) -> dict[str, Pace]:
    """Return what is known of cells that nothing in this folder is like."""
    settings, rows = bench.settings, bench.rows
    costs = zip(bench.cells, estimate(bench.cells, rows), strict=True)
    unknown = [cell for cell, cost in costs if cost.seconds is None]
    paces = recorded(unknown, settings.out, settings.device)
    if not probe:
        return paces
    timed = {run_id for run_id, pace in paces.items() if pace.seconds is not None}
    lost = {*timed, *foreseen.skipped, *foreseen.failing}
    builder = RunBuilder(bench.registry, settings.data_root, settings.device)
    probes = probed([c for c in unknown if c.run_id not in lost], builder)
    return paces | {
        run_id: replace(
            paces.get(run_id, pace), seconds=pace.seconds, source=pace.source
        )
        for run_id, pace in probes.items()
    }


def _row(cell: Cell, cost: Cost, status: str) -> dict[str, str]:
    run = cell.run
    return {
        "strategy": run.strategy,
        "data set": run.dataset,
        "partition": run.split,
        "models": run.models,
        **dict(run.axes),
        "seed": str(run.seed),
        "rounds": str(run.rounds),
        "status": status,
        "client images": _images(cost),
        "server images": "?" if cost.server is None else f"{cost.server:,}",
        "seconds": "?" if cost.seconds is None else f"{cost.seconds:.0f}",
        SOURCE: Path(cost.source).name,
    }


def _images(cost: Cost) -> str:
    """Return the images on clients, and whether there may be more than is counted."""
    if cost.images is None:
        return "?"
    return f"{cost.images:,}" + ("" if cost.is_whole else " + ?")


def _fact(name: str, value: str) -> str:
    if name == "rounds":
        return counted(int(value), "round")
    return f"seed {value}" if name == "seed" else value
