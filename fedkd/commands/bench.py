"""``fedkd bench``: run a suite."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Collection
from pathlib import Path

import click
import torch
from rich.console import Console

from fedkd.base.folders import ResultsFolder
from fedkd.base.machine import cores
from fedkd.commands.closing import closing_lines, warned_line
from fedkd.commands.common import WholeNumber, plugin_option
from fedkd.commands.plan import show_plan, strategies_by
from fedkd.data.root import data_root
from fedkd.errors import ConfigError, counted
from fedkd.harness.bench import Bench, Settings
from fedkd.harness.builder import RunBuilder
from fedkd.harness.environment import pick_device
from fedkd.harness.folder import held, refuse_other_suite
from fedkd.harness.live.lines import make_view
from fedkd.harness.precheck import Foreseen
from fedkd.plugins.registry import Registry, load_registry
from fedkd.report.terminal import table_rich
from fedkd.simulation.executors import AUTO, Choice, Executor
from fedkd.suite.grid import grid
from fedkd.suite.overrides import Overrides, load_overridden

INTERRUPTED = 130


@click.command(
    epilog="Exit code: 0 all cells done, 1 a cell failed or none is done, 2 a wrong input."
)
@click.argument("suite", default="quick")
@click.option(
    "--strategies", metavar="A,B", help="Labels or names; others are left out."
)
@click.option("--datasets", metavar="A,B", help="Data sets; others are left out.")
@click.option("--seeds", metavar="LIST", help="Seeds, such as 0-4 or 0,3.")
@click.option("--rounds", type=WholeNumber(min=1), help="Rounds of every strategy.")
@click.option("--clients", type=WholeNumber(min=1), help="Number of clients.")
@click.option(
    "--set",
    "assignments",
    metavar="PATH=VALUE",
    multiple=True,
    help="Change one value, such as partition.alpha=0.1, training.lr=0.01, "
    "model.width=0.5 or strategies.fedprox.mu=0.1. May be given more than once.",
)
@click.option(
    "--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:1."
)
@click.option("--out", metavar="DIR", help="Results folder.  [default: runs/SUITE]")
@click.option(
    "--resume/--fresh", default=True, help="Keep finished cells, or run them again."
)
@click.option(
    "--dry-run", is_flag=True, help="Print the grid and its cost; run nothing."
)
@click.option(
    "--jobs",
    type=WholeNumber(min=1),
    help="Processes that work at a time, in all: so many cells side by side, or so many "
    "for one cell.  [default: one a core; one cell at a time on a GPU]",
)
@click.option(
    "--executor",
    metavar="NAME",
    default=AUTO,
    show_default=True,
    help="How the clients of a cell do their turns: one of 'fedkd list executors', or "
    "auto for the fastest that is known; see docs/speed.md.",
)
@click.option(
    "--workers",
    type=WholeNumber(min=1),
    help="Processes or Ray CPUs for one cell, where one runs at a time.  [default: "
    "--jobs, else one a core]",
)
@click.option(
    "--ray-address",
    default="local",
    show_default=True,
    help="A Ray cluster: its address, auto, or local to start one here.",
)
@click.option(
    "--profile", is_flag=True, help="Also write where the time of each cell went."
)
@click.option("--data-root", "root", metavar="DIR", help="Folder of the data files.")
@click.option("--plain", is_flag=True, help="Plain lines instead of the live view.")
@click.option("--no-plots", is_flag=True, help="Draw no figures.")
@plugin_option
def command(  # noqa: PLR0913, PLR0917 - one parameter an option
    suite: str,
    strategies: str | None,
    datasets: str | None,
    seeds: str | None,
    rounds: int | None,
    clients: int | None,
    assignments: tuple[str, ...],
    device: str,
    out: str | None,
    resume: bool,
    dry_run: bool,
    jobs: int | None,
    executor: str,
    workers: int | None,
    ray_address: str,
    profile: bool,
    root: str | None,
    plain: bool,
    no_plots: bool,
    plugin_files: tuple[str, ...],
) -> int:
    """Run SUITE: every strategy on every data set, partition, model mix and seed.

    SUITE is a YAML file or a packaged suite ('fedkd list suites'). Cells that are done
    are not run again; an interrupted suite goes on where it was.
    """
    registry = load_registry(plugin_files)
    wishes = Overrides(strategies, datasets, seeds, rounds, clients, assignments)
    loaded = load_overridden(suite, wishes, registry)
    chosen = pick_device(device)
    candidates = _candidates(executor, registry, chosen)
    cells, processes = _shares(jobs, workers, candidates, chosen)
    settings = Settings(
        out=ResultsFolder(Path(out or Path("runs", loaded.name))),
        data_root=data_root(root),
        device=chosen,
        jobs=cells,
        executor=Choice(candidates, processes, ray_address, profile),
        fresh=not resume,
        plots=not no_plots,
        plugin_files=plugin_files,
        command=("fedkd", *sys.argv[1:]),
    )
    refuse_other_suite(settings.out, loaded.name)
    bench = Bench(loaded, grid(loaded, registry), registry, settings)
    bench.look()
    if dry_run:
        world, foreseen = _checked(bench) if bench.todo else (None, Foreseen())
        show_plan(bench, foreseen)
        foreseen.require_data()
        return 0 if world is None or _some_run(bench, foreseen) else 1
    with held(settings.out):
        return _run(bench, plain)


def _checked(bench: Bench) -> tuple[RunBuilder, Foreseen]:
    """Check a bench that has cells to run, and say what is missing or easily misread."""
    share, clients = bench.suite.participation, bench.suite.clients
    if share == 1 and isinstance(share, int) and clients > 1:
        click.echo(
            f"fedkd: participation: 1 is one client, 1 of {clients} in each round; all of "
            "them are 1.0.",
            err=True,
        )
    world, foreseen = bench.check()
    for line in () if foreseen.all_lost else foreseen.lost:
        click.echo(f"fedkd: {line} Its cells will fail, the others run.", err=True)
    for names, reason in strategies_by(bench, foreseen.failing):
        text = f"{names} will fail before the first round: {reason}"
        click.echo(f"fedkd: {text} The others run.", err=True)
    for dataset, notes in world.notes.items():
        for note in notes:
            click.echo(f"fedkd: {dataset.shown()}: {note}", err=True)
    return world, foreseen


def _some_run(bench: Bench, foreseen: Foreseen) -> bool:
    """Say whether a cell of a grid is done, or will neither be skipped nor fail at once."""
    done = any(row.status == "done" for row in bench.rows)
    return done or len(foreseen.skipped | foreseen.failing) < len(bench.todo)


def _candidates(
    name: str, registry: Registry, device: torch.device
) -> tuple[type[Executor], ...]:
    """Return the executors of which a cell may take one.

    Raises:
        ConfigError: If there is none of this name, or it does not work here.
    """
    if name == AUTO:
        return registry.executors()
    executor = registry.executor(name)
    executor.check_usable(device)
    return (executor,)


def _shares(
    jobs: int | None,
    workers: int | None,
    candidates: tuple[type[Executor], ...],
    device: torch.device,
) -> tuple[int, int | None]:
    """Return how many cells run side by side, and how many processes one alone may have.

    Whatever runs, no more than ``jobs`` processes work at a time.

    Raises:
        ConfigError: If ``workers`` are more than ``jobs``.
    """
    if jobs is not None and workers is not None and workers > jobs:
        raise ConfigError(
            f"--workers {workers} with --jobs {jobs}: jobs are all processes that work "
            f"at a time. Raise --jobs to {workers}, or leave one of both out."
        )
    # All processes of these serve one cell at a time.
    spread = all(executor.starts_processes for executor in candidates)
    usual = cores() if device.type == "cpu" else 1
    return (1 if spread else jobs or usual), workers or jobs


def _run(bench: Bench, plain: bool) -> int:
    todo = bench.todo
    ran = {cell.run_id for cell in todo}
    if todo:
        world, foreseen = _checked(bench)
        foreseen.require_data()
        view = make_view(bench.cells, bench.rows, plain)
        try:
            with contextlib.closing(view):
                bench.run(world, view)
        except KeyboardInterrupt:
            _say_interrupted(bench)
            return INTERRUPTED
    bench.write(whole=True)
    code = _report(bench, ran)
    for line in bench.draw() if todo else ():
        click.echo(f"fedkd: warning: {line}", err=True)
    return code


def _say_interrupted(bench: Bench) -> None:
    again = shlex.join(bench.settings.command)
    done, prospect = len(bench.rows), bench.resume_points.prospect()
    parts = [
        f"fedkd: interrupted with {done} of {counted(len(bench.cells), 'cell')} done"
    ]
    parts += ["these are kept"] if done else []
    parts += [prospect] if prospect else []
    click.echo(f"{'; '.join(parts)}. Go on with: {again}", err=True)


def _report(bench: Bench, ran: Collection[str]) -> int:
    """Print the table and where things are; return the exit code."""
    console = Console()
    rows = bench.rows
    console.print(
        table_rich(
            bench.reported,
            title=bench.suite.name,
            references=bench.references(),
            columns=bench.columns,
        )
    )
    for line in closing_lines(bench, ran):
        click.echo(line)
    warned = warned_line(bench, ran)
    if warned:
        click.echo(warned, err=True)
    failed = [row for row in rows if row.status == "failed"]
    if failed:
        log = bench.settings.out.run(failed[0].run_id).log
        click.echo(
            f"fedkd: {len(failed)} of {counted(len(rows), 'cell')} failed; read {log}",
            err=True,
        )
    done = any(row.status == "done" for row in rows)
    if rows and not done and not failed:
        click.echo(
            f"fedkd: none of {counted(len(rows), 'cell')} is done; see above why.",
            err=True,
        )
    return 0 if done and not failed else 1
