"""``fedkd bench``: run a suite."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Collection
from contextlib import nullcontext

import click
from rich.console import Console

from fedkd.base.ending import exit_code
from fedkd.commands.closing import closing_lines, used
from fedkd.commands.common import Strict, WholeNumber, plugin_option
from fedkd.commands.plan import show_plan
from fedkd.errors import counted
from fedkd.harness.bench import Bench
from fedkd.harness.environment import one_thread
from fedkd.harness.folder import finished_beside, held
from fedkd.harness.live.lines import View, make_view
from fedkd.harness.precheck import Foreseen
from fedkd.harness.remarks import remarks
from fedkd.harness.request import Request, checked, opened, run_left
from fedkd.harness.search import Search, ViewOf
from fedkd.report.terminal import table_rich
from fedkd.simulation.executors import AUTO
from fedkd.suite.overrides import Overrides

WHOLE_AT_ONCE = 300
"""Rows up to which an interrupted bench also tells what each stage did, for which metrics
and logs of all runs are read: for a thousand of them a second, and the end is to come in
two."""


@click.command(
    cls=Strict,
    epilog="Exit code: 0 a cell is done and none failed, 1 a cell failed or none is "
    "done, 2 a wrong input.",
)
@click.argument("suite", default="quick")
@click.option(
    "--strategies", metavar="A,B", help="Labels or names; others are left out."
)
@click.option("--datasets", metavar="A,B", help="Data sets; others are left out.")
@click.option("--partitions", metavar="A,B", help="Partitions; others are left out.")
@click.option(
    "--models", metavar="A,B", help="Labels or names of models; others are left out."
)
@click.option("--seeds", metavar="LIST", help="Seeds, such as 0-4 or 0,3.")
@click.option("--rounds", type=WholeNumber(min=1), help="Rounds of every strategy.")
@click.option("--clients", type=WholeNumber(min=1), help="Number of clients.")
@click.option(
    "--set",
    "assignments",
    metavar="PATH=VALUE",
    multiple=True,
    help="Change one value, such as partition.alpha=0.1, training.lr=0.01, "
    "model.width=0.5 or strategies.fedprox.mu=0.1; a list, training.lr=[0.01,0.05], is an "
    "axis of the grid. May be given more than once.",
)
@click.option(
    "--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:1."
)
@click.option("--out", metavar="DIR", help="Results folder.  [default: runs/SUITE]")
@click.option(
    "--resume/--fresh", default=True, help="Keep finished cells, or run them again."
)
@click.option(
    "--chosen",
    metavar="FILE",
    help="In place of the suite's search, the values that one chose before: the "
    "chosen.json of its results folder.",
)
@click.option(
    "--dry-run", is_flag=True, help="Print the grid and its cost; run nothing."
)
@click.option(
    "--probe",
    is_flag=True,
    help="As --dry-run, and where no run tells how long a cell takes, time a few local "
    "steps of each model, which takes seconds.",
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
@click.option(
    "--observer",
    "observers",
    metavar="NAME",
    multiple=True,
    help="Log the runs too: csv, tensorboard, mlflow, wandb, or another of 'fedkd list "
    "observers'. May be given more than once.",
)
@click.option("--data-root", "root", metavar="DIR", help="Folder of the data files.")
@click.option("--plain", is_flag=True, help="Plain lines instead of the live view.")
@click.option("--no-plots", is_flag=True, help="Draw no figures.")
@plugin_option
def command(  # noqa: PLR0913, PLR0917 - one parameter an option
    suite: str,
    strategies: str | None,
    datasets: str | None,
    partitions: str | None,
    models: str | None,
    seeds: str | None,
    rounds: int | None,
    clients: int | None,
    assignments: tuple[str, ...],
    device: str,
    out: str | None,
    resume: bool,
    chosen: str | None,
    dry_run: bool,
    probe: bool,
    jobs: int | None,
    executor: str,
    workers: int | None,
    ray_address: str,
    profile: bool,
    observers: tuple[str, ...],
    root: str | None,
    plain: bool,
    no_plots: bool,
    plugin_files: tuple[str, ...],
) -> int:
    """Run SUITE: every strategy on every data set, partition, model mix and seed.

    SUITE is a YAML file or a packaged suite ('fedkd list suites'). Cells that are done
    are not run again; an interrupted suite goes on where it was.
    """
    request = Request(
        suite,
        Overrides(
            strategies=strategies,
            datasets=datasets,
            partitions=partitions,
            models=models,
            seeds=seeds,
            rounds=rounds,
            clients=clients,
            assignments=assignments,
        ),
        out=out,
        device=device,
        data_root=root,
        jobs=jobs,
        workers=workers,
        executor=executor,
        ray_address=ray_address,
        profile=profile,
        fresh=not resume,
        chosen=chosen,
        plots=not no_plots,
        plugin_files=plugin_files,
        observers=observers,
        command=("fedkd", *sys.argv[1:]),
    )
    bench = opened(request)
    search = None if bench.to_search is None else Search(bench, bench.to_search)
    if dry_run or probe:
        return _plan(bench, search, probe)
    alone = one_thread() if jobs == 1 else nullcontext()
    with held(bench.settings.out, fresh=not resume), alone:
        view_of = _views(plain)
        if search is not None:
            tuned = _searched(bench, search, view_of)
            if isinstance(tuned, int):
                return tuned
            bench = tuned
        return _run(bench, view_of)


def _views(plain: bool) -> ViewOf:
    """Return what shows a bench that has cells to run, and first says what that uses."""
    said = False

    def view_of(bench: Bench) -> View:
        nonlocal said
        if not said:
            _say(f"{used(bench)}.")
            said = True
        return make_view(bench.cells, bench.rows, plain)

    return view_of


def _plan(bench: Bench, search: Search | None, probe: bool) -> int:
    """Print what would be run; return the exit code."""
    tuned = None if search is None else search.finished()
    if tuned is not None:
        bench = tuned
    elif search is not None:
        click.echo(
            f"A search comes first: at most {counted(search.planned, 'run')}. The grid "
            "below has the values that are written in the suite."
        )
    world, foreseen = checked(bench, _say) if bench.todo else (None, Foreseen())
    show_plan(bench, foreseen, probe)
    foreseen.require_data()
    return 0 if world is None or _some_run(bench, foreseen) else 1


def _say(line: str) -> None:
    click.echo(f"fedkd: {line}", err=True)


def _some_run(bench: Bench, foreseen: Foreseen) -> bool:
    """Say whether a cell of a grid is done, or will neither be skipped nor fail at once."""
    done = any(row.status == "done" for row in bench.rows)
    return done or len(foreseen.skipped | foreseen.failing) < len(bench.todo)


def _run(bench: Bench, view_of: ViewOf) -> int:
    ran = {cell.run_id for cell in bench.todo}
    try:
        run_left(bench, lambda: view_of(bench), _say)
    except KeyboardInterrupt as request:
        if bench.reported:
            if len(bench.reported) <= WHOLE_AT_ONCE:
                bench.write(whole=True)
            _print_table(bench)
        _say_interrupted(bench)
        return exit_code(request)
    code = _report(bench, ran)
    for line in bench.draw() if ran else ():
        click.echo(f"fedkd: warning: {line}", err=True)
    return code


def _searched(bench: Bench, search: Search, view_of: ViewOf) -> Bench | int:
    """Run the search of a suite; return its bench with what was chosen.

    The exit code if it was interrupted, which is said.
    """
    try:
        return search.run(view_of)
    except KeyboardInterrupt as request:
        again = shlex.join(bench.settings.again)
        click.echo(
            f"fedkd: interrupted in the search with {search.done} of at most "
            f"{counted(search.planned, 'run')} done; these are kept.{_older(bench)} Go on "
            f"with: {again}",
            err=True,
        )
        return exit_code(request)


def _older(bench: Bench) -> str:
    """Return a sentence on runs of the table that ``--fresh`` has not come to yet."""
    out = bench.settings.out
    older = finished_beside(out) if bench.settings.fresh else 0
    if not older:
        return ""
    return (
        f" The table has {counted(older, 'run')} from before --fresh; what the search "
        "chooses again then counts as done. To run that again, too, remove "
        f"{out.runs} first."
    )


def _say_interrupted(bench: Bench) -> None:
    settings = bench.settings
    begun = bench.ran or bench.to_search is not None
    again = shlex.join(settings.again if begun else settings.command)
    done, prospect = len(bench.rows), bench.resume_points.prospect()
    parts = [
        f"fedkd: interrupted with {done} of {counted(len(bench.cells), 'cell')} done"
    ]
    parts += ["these are kept"] if done else []
    parts += [prospect] if prospect else []
    click.echo(f"{'; '.join(parts)}. Go on with: {again}", err=True)


def _print_table(bench: Bench) -> None:
    """Print the table of the cells that have a row."""
    table = table_rich(
        bench.reported,
        title=bench.suite.name,
        references=bench.references(),
        columns=bench.columns,
    )
    Console().print(table)


def _report(bench: Bench, ran: Collection[str]) -> int:
    """Print the table and where things are; return the exit code."""
    _print_table(bench)
    for line in closing_lines(bench, ran):
        click.echo(line)
    for line in remarks(bench):
        _say(line)
    statuses = {row.status for row in bench.rows}
    return 0 if "done" in statuses and "failed" not in statuses else 1
