"""Benches and single runs from Python, by the functions that the command calls."""

from __future__ import annotations

import multiprocessing
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fedkd.api.asked import Models, Named, Setting, command_of, lone_suite, wishes_of
from fedkd.api.finished import FinishedRun
from fedkd.api.given import only, options_given, warn
from fedkd.api.notebook import view_of
from fedkd.api.results import Results
from fedkd.api.said import said_in_python
from fedkd.base.folders import ResultsFolder
from fedkd.base.forms import require
from fedkd.errors import ConfigError, FedKDError
from fedkd.harness.bench import Bench
from fedkd.harness.folder import held
from fedkd.harness.remarks import remarks, warned
from fedkd.harness.request import Request, opened, run_left
from fedkd.harness.search import Search
from fedkd.plugins.registry import Registry, load_registry
from fedkd.report.reading import read_report
from fedkd.simulation.executors import AUTO
from fedkd.suite.overrides import Overrides
from fedkd.suite.suite import Suite

NAMELESS = ResultsFolder(Path()).suite.name
"""What the record of a bench calls a suite that is no file."""
_OWN = {
    "name",
    "description",
    "seeds",
    "datasets",
    "partitions",
    "models",
    "strategies",
}
"""Keys of a suite that are no keywords of :func:`run`: it has parameters for them."""


def bench(  # noqa: PLR0913 - the options of the command
    suite: str | Path | Mapping[str, Any] = "quick",
    *,
    set: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    device: str = "auto",
    data_root: str | Path | None = None,
    jobs: int | None = 1,
    executor: str = AUTO,
    workers: int | None = None,
    ray_address: str = "local",
    profile: bool = False,
    fresh: bool = False,
    chosen: str | Path | None = None,
    plugins: Iterable[str | Path] = (),
    observers: Iterable[str] = (),
    progress: bool = True,
    **overrides: Any,
) -> Results:
    """Run a suite as ``fedkd bench`` does, and return its results.

    What is done is kept, and the command and this go on from each other's runs: they
    give the same rows, to the bit.

    Args:
        suite: A packaged suite, the path of a YAML file, or what such a file would hold.
        set: Values by dotted path, as ``--set``: ``{"partition.alpha": 0.5}``.
        out: Results folder; ``runs/SUITE`` if None.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
        data_root: Folder of the data files; the usual one if None.
        jobs: Processes that work at a time, in all: so many cells side by side, or so
            many for one cell; results do not depend on it. More than one in a script goes
            under ``if __name__ == "__main__":``. One a core if None.
        executor: How the clients of a cell do their turns.
        workers: Processes or Ray CPUs for one cell, where one runs at a time; at most
            ``jobs``, and as many if None.
        ray_address: A Ray cluster: its address, ``auto``, or ``local`` to start one here.
        profile: Whether metrics also say where the time went.
        fresh: Whether finished cells are run again.
        chosen: In place of the suite's search, the values that one chose before: the
            ``chosen.json`` of its results folder.
        plugins: Plug-ins of one file each.
        observers: Names of what logs the runs too, such as ``csv``; ``--observer``.
        progress: Whether to show how far it is: a bar in a notebook, else lines.
        overrides: ``strategies``, ``datasets``, ``partitions``, ``models``, ``seeds``,
            ``rounds`` and ``clients`` as the command's options; any other key of a suite
            in place of the suite's.

    Raises:
        ConfigError: If the suite or an option cannot be used.
        DataError: If no cell has its data.
    """
    _check_suite(suite, set)
    wishes = said_in_python(overrides)(wishes_of)(overrides, set)
    how = options_given(
        "fedkd.bench", out=out, device=device, data_root=data_root, jobs=jobs,
        executor=executor, workers=workers, ray_address=ray_address, profile=profile,
        fresh=fresh, chosen=chosen, plugins=plugins, observers=observers,
        progress=progress,
    )  # fmt: skip
    request = _request(suite, wishes, how)
    results, made = said_in_python(overrides)(_carried_out)(request, progress)
    for line in remarks(made):
        warn(line)
    return results


def run(  # noqa: PLR0913 - the parts of a run
    strategy: Named,
    dataset: Named,
    partition: Named,
    *,
    clients: int,
    models: Models,
    rounds: int,
    training: Mapping[str, Any],
    seed: int = 0,
    out: str | Path | None = None,
    device: str = "auto",
    data_root: str | Path | None = None,
    jobs: int | None = 1,
    executor: str = AUTO,
    ray_address: str = "local",
    profile: bool = False,
    fresh: bool = False,
    plugins: Iterable[str | Path] = (),
    observers: Iterable[str] = (),
    progress: bool = True,
    **options: Any,
) -> FinishedRun:
    """Run one strategy in one setting: a suite of one cell, with that cell's numbers.

    Args:
        strategy: Its name, or a mapping of a name and options.
        dataset: Its name, ``folder:PATH``, or a mapping of a name and options.
        partition: How training data is split, likewise.
        clients: Number of clients.
        models: One model, a list of which client i has entry i mod n, or a mapping with
            ``clients`` and ``server``.
        rounds: Rounds of communication.
        training: Local training, as in a suite: ``{"local_steps": 10, "lr": 0.05}``.
        seed: Of the run.
        out: Results folder; one that lasts as long as what is returned if None.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
        data_root: Folder of the data files; the usual one if None.
        jobs: Processes that do the turns of its clients; results do not depend on it. More
            than one in a script goes under ``if __name__ == "__main__":``. One a core if
            None.
        executor: How the clients do their turns.
        ray_address: A Ray cluster: its address, ``auto``, or ``local`` to start one here.
        profile: Whether metrics also say where the time went.
        fresh: Whether a run that is finished in ``out`` is run again.
        plugins: Plug-ins of one file each.
        observers: Names of what logs the run too, such as ``csv``; ``--observer``.
        progress: Whether to show how far it is.
        options: Of the data set or the partition, such as ``fraction=0.1`` or
            ``alpha=0.1``; and the other keys of a suite: ``public``, ``metrics``,
            ``participation``, ``buffers`` and so on.

    Raises:
        ConfigError: If an option is unknown or cannot be used.
        DataError: If the data set's files are missing or damaged.
        FedKDError: If the run fails, diverges or does not apply; says why.
    """
    how = options_given(
        "fedkd.run", out=out, device=device, data_root=data_root, jobs=jobs,
        executor=executor, ray_address=ray_address, profile=profile, fresh=fresh,
        plugins=plugins, observers=observers, progress=progress,
    )  # fmt: skip
    setting = Setting(dataset, partition, models, seed, strategy)
    keys = Suite.model_fields.keys() - _OWN
    with said_in_python(options):
        registry = load_registry(how["plugins"])
        suite = lone_suite(registry, "fedkd.run", setting, options, keys)
    asked = {"clients": clients, "rounds": rounds, "training": training}
    suite |= {"strategies": [strategy], **asked}
    kept = _Passing() if out is None else None
    how |= {"out": kept.path} if kept else {}
    request = _request(suite, Overrides(), how)
    with said_in_python(options):
        return _lone_run(*_carried_out(request, progress, kept, registry, "fedkd.run"))


def _check_suite(suite: object, assignments: object) -> None:
    """Refuse a suite, or values by path, in a form that none of them has.

    Raises:
        ConfigError: If one of them is.
    """
    what = "the name of a suite, the path of a YAML file, or what it would hold"
    require(suite, (str, Path, Mapping), "fedkd.bench", what)
    if assignments is not None:
        how = "a mapping of paths to values"
        require(assignments, (Mapping,), "fedkd.bench: set", how)


def _request(
    suite: str | Path | Mapping[str, Any], wishes: Overrides, how: Mapping[str, Any]
) -> Request:
    """Return what is asked for, and the command that asks for the same.

    Args:
        suite: As for :func:`bench`.
        wishes: What is laid over it.
        how: Options in the forms of :func:`options_given`.
    """
    alike = {k: v for k, v in how.items() if k not in ("plugins", "progress")}
    whole = suite if isinstance(suite, Mapping) else str(suite)
    named = NAMELESS if isinstance(suite, Mapping) else str(suite)
    request = Request(whole, wishes, plots=False, plugin_files=how["plugins"], **alike)
    return replace(request, command=command_of(named, request))


class _Passing:
    """A folder that is there as long as this is."""

    def __init__(self) -> None:
        self.path = tempfile.mkdtemp(prefix="fedkd-")
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def _lone_run(results: Results, bench: Bench) -> FinishedRun:
    """Return the one run of a bench; what became of it otherwise is an error."""
    run = results.run(run_id=bench.cells[0].run_id)
    if run.row is not None and run.row.status != "done":
        raise FedKDError(f"{run.row.title}: {run.row.status}: {run.row.reason}")
    for line in warned(bench):
        warn(line)
    return run


def _carried_out(
    request: Request,
    progress: bool,
    kept: object = None,
    registry: Registry | None = None,
    alone: str = "",
) -> tuple[Results, Bench]:
    """Run what is left of what is asked for, and read what it left.

    Results are all that the folder's table has; the bench is what was asked for.

    Args:
        request: What is asked for.
        progress: Whether to show how far it is.
        kept: Is kept as long as the results are.
        registry: Of the request's plug-in files, where that is loaded.
        alone: What asks for one run, if that is all that may be asked for.
    """
    # So multiprocessing itself knows that a new process is importing the main script.
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise ConfigError(
            "a worker process has come to this call again, for it imports the script that "
            "made it; put the call under: if __name__ == '__main__':"
        )
    made = opened(request, registry)
    if alone:
        only(made.cells, alone)
    with held(made.settings.out, made.settings.fresh):
        if made.to_search is not None:
            search = Search(made, made.to_search)
            made = search.run(lambda some: view_of(some.cells, some.rows, progress))
        run_left(made, lambda: view_of(made.cells, made.rows, progress), warn)
    folder = made.settings.out
    # A plug-in that does not work is told of once, where its file is loaded.
    report = read_report([folder], remark=warn, registry=made.registry)
    return Results(report, (folder,), made.settings.data_root, kept), made
