"""A bench as it is asked for, from the command line or from Python: opened, then run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from fedkd.base.folders import ResultsFolder, refuse_links_out_of
from fedkd.base.machine import cores
from fedkd.data.root import data_root
from fedkd.errors import ConfigError
from fedkd.harness.bench import Bench, Settings
from fedkd.harness.builder import RunBuilder
from fedkd.harness.environment import pick_device
from fedkd.harness.folder import refuse_other_suite
from fedkd.harness.live.lines import View
from fedkd.harness.precheck import Foreseen
from fedkd.harness.taken import with_chosen
from fedkd.plugins.registry import Registry, load_registry
from fedkd.report.tuning import write_tuning
from fedkd.simulation.executors import AUTO, Choice, Executor
from fedkd.suite.overrides import Overrides, load_overridden

Say = Callable[[str], None]
"""Is given one sentence at a time that a user should read."""


@dataclass(frozen=True)
class Request:
    """What somebody asks of a bench, before anything of it is looked at."""

    suite: str | Mapping[str, Any]
    """A packaged suite's name, a YAML file's path, or what such a file would hold."""
    wishes: Overrides = field(default_factory=Overrides)
    """What is laid over the suite."""
    out: str | Path | None = None
    """Results folder; ``runs/SUITE`` if None."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:1``."""
    data_root: str | None = None
    """Folder of the data files; the usual one if None."""
    jobs: int | None = None
    """Processes that work at a time, in all; one a core if None."""
    workers: int | None = None
    """Processes for one cell, where one runs at a time; as ``jobs`` if None."""
    executor: str = AUTO
    """How the clients of a cell do their turns."""
    ray_address: str = "local"
    """A Ray cluster."""
    profile: bool = False
    """Whether metrics say where the time went."""
    fresh: bool = False
    """Whether finished cells are run again."""
    chosen: str | Path | None = None
    """``chosen.json`` of a search before, in place of the suite's search."""
    plots: bool = True
    """Whether figures are drawn."""
    plugin_files: tuple[str, ...] = ()
    """Plug-ins of one file each."""
    observers: tuple[str, ...] = ()
    """Names of the observers that hear of the runs, beside those of plug-ins."""
    command: tuple[str, ...] = ()
    """What was called, for the record."""


def opened(request: Request, registry: Registry | None = None) -> Bench:
    """Return the bench that is asked for; its finished cells are found, nothing is run.

    Args:
        request: What is asked for.
        registry: Of its plug-in files, where that is loaded; its observers come into it.

    Raises:
        ConfigError: If the suite, an option or the folder cannot be used.
        BoundsError: If a link in the folder leads out of it.
    """
    registry = load_registry(request.plugin_files) if registry is None else registry
    registry.observe(request.observers)
    suite = load_overridden(request.suite, request.wishes, registry)
    device = pick_device(request.device)
    candidates = candidates_of(request.executor, registry, device)
    cells, processes = shares(request.jobs, request.workers, candidates, device)
    settings = Settings(
        out=ResultsFolder(Path(request.out or Path("runs", suite.name))),
        data_root=data_root(request.data_root),
        device=device,
        jobs=cells,
        executor=Choice(candidates, processes, request.ray_address, request.profile),
        fresh=request.fresh,
        plots=request.plots,
        plugin_files=request.plugin_files,
        observers=request.observers,
        command=request.command,
    )
    refuse_links_out_of(settings.out.path)
    refuse_other_suite(settings.out, suite.name)
    bench = Bench(suite, registry, settings)
    if request.chosen is not None:
        bench = with_chosen(bench, Path(request.chosen))
    bench.look()
    return bench


def run_left(bench: Bench, show: Callable[[], View], say: Say) -> None:
    """Run the cells that are to do and write the results; the folder must be held.

    Args:
        bench: What :func:`opened` returned.
        show: Makes what is told of the cells; called only if any is run.
        say: Is told what is missing or easily misread.

    Raises:
        FedKDError: If no cell has its data, or no cell can run as asked.
    """
    if bench.taken is not None:
        write_tuning(bench.taken, bench.settings.out)
    if bench.todo:
        world, foreseen = checked(bench, say)
        foreseen.require_data()
        with contextlib.closing(show()) as view:
            bench.run(world, view)
    bench.write(whole=True)


def checked(bench: Bench, say: Say) -> tuple[RunBuilder, Foreseen]:
    """Check a bench that has cells to run, and say what is missing or easily misread."""
    share, clients = bench.suite.participation, bench.suite.clients
    if share == 1 and isinstance(share, int) and clients > 1:
        say(
            f"participation: 1 is one client, 1 of {clients} in each round; all of "
            "them are 1.0."
        )
    world, foreseen = bench.check()
    for line in () if foreseen.all_lost else foreseen.lost:
        say(f"{line} Its cells will fail, the others run.")
    for names, reason in strategies_by(bench, foreseen.failing):
        say(f"{names} will fail before the first round: {reason} The others run.")
    for dataset, notes in world.notes.items():
        for note in notes:
            say(f"{dataset.shown()}: {note}")
    return world, foreseen


def strategies_by(bench: Bench, reasons: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return each different reason, after the labels of the strategies that it is of.

    Args:
        bench: Has the cells.
        reasons: By ``run_id``.
    """
    labels: dict[str, dict[str, None]] = {}
    for cell in bench.cells:
        if cell.run_id in reasons:
            labels.setdefault(reasons[cell.run_id], {})[cell.run.strategy] = None
    return [(", ".join(names), reason) for reason, names in labels.items()]


def candidates_of(
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


def shares(
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
            f"at a time. Raise --jobs to {workers}, or leave --workers out."
        )
    # All processes of these serve one cell at a time.
    spread = all(executor.starts_processes for executor in candidates)
    usual = cores() if device.type == "cpu" else 1
    return (1 if spread else jobs or usual), workers or jobs
