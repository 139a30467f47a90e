"""Cells side by side, each in a worker process; one that dies takes only its cell along."""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

import torch

from fedkd.base.workers import Worker
from fedkd.errors import FedKDError
from fedkd.harness.builder import RunBuilder, SplitKey
from fedkd.harness.cell import failed_row, run_cell
from fedkd.plugins.registry import load_registry
from fedkd.report.results import Row
from fedkd.simulation.executors import SERIAL, Choice
from fedkd.suite.grid import Cell


class Listener(Protocol):
    """Who is told what becomes of the cells."""

    def started(self, cell: Cell) -> None:
        """A cell starts."""

    def round(self, cell: Cell, metrics: Mapping[str, Any]) -> None:
        """A round of a cell has ended."""

    def finished(self, cell: Cell, row: Row) -> None:
        """A cell has ended, well or not."""


@dataclass(frozen=True)
class WorkerSettings:
    """What a worker needs to know; plain, because it travels to another process."""

    runs: Path
    """Folder of the run folders."""
    data_root: Path
    device: str
    plugin_files: tuple[str, ...] = ()
    executor: Choice = SERIAL
    observers: tuple[str, ...] = ()
    """Names of those that hear of the runs, in the worker too."""
    hashes: Mapping[SplitKey, str] = field(default_factory=dict)
    """Of the splits that the main process has dealt; a worker deals the same ones."""


def run_serially(
    cells: Sequence[Cell],
    builder: RunBuilder,
    runs: Path,
    listener: Listener,
    executor: Choice = SERIAL,
) -> None:
    """Run ``cells`` in this process, one after another."""
    for cell in cells:
        listener.started(cell)
        row = run_cell(
            cell,
            builder,
            runs / cell.run_id,
            lambda metrics, cell=cell: listener.round(cell, metrics),  # type: ignore[misc]
            executor,
        )
        listener.finished(cell, row)


def run_side_by_side(
    cells: Sequence[Cell], jobs: int, settings: WorkerSettings, listener: Listener
) -> None:
    """Run ``cells`` in ``jobs`` worker processes.

    Raises:
        FedKDError: If a worker found that no cell can go on, such as on a full disk.
    """
    todo = deque(cells)
    workers: list[_CellWorker] = []
    try:
        _work_off(todo, workers, jobs, settings, listener)
    finally:
        for worker in workers:
            worker.process.terminate()  # all at once, then one by one
        for worker in workers:
            worker.end()


def _work_off(
    todo: deque[Cell],
    workers: list[_CellWorker],
    jobs: int,
    settings: WorkerSettings,
    listener: Listener,
) -> None:
    while todo or workers:
        while todo and len(workers) < jobs:
            workers.append(_CellWorker(settings))
            workers[-1].start(todo.popleft(), listener)
        for worker in _ready(workers):
            if not worker.listen(settings, listener) and not (
                worker.alive and _gave_next(worker, todo, listener)
            ):
                worker.stop()
                workers.remove(worker)


def _gave_next(worker: _CellWorker, todo: deque[Cell], listener: Listener) -> bool:
    """Hand over the next cell; return False if there is none."""
    if not todo:
        return False
    worker.start(todo.popleft(), listener)
    return True


def _ready(workers: Sequence[_CellWorker]) -> list[_CellWorker]:
    ready = wait([worker.pipe for worker in workers])
    return [worker for worker in workers if worker.pipe in ready]


class _CellWorker(Worker):
    """A worker, and the cell that it is at."""

    def __init__(self, settings: WorkerSettings) -> None:
        super().__init__(_serve, settings.plugin_files)
        # The executor's class may be of a plug-in, which is to be loaded before.
        self.give(settings)
        self.cell: Cell | None = None
        self.alive = True

    def start(self, cell: Cell, listener: Listener) -> None:
        """Hand over a cell."""
        self.cell = cell
        listener.started(cell)
        self.give(cell)

    def listen(self, settings: WorkerSettings, listener: Listener) -> bool:
        """Take one message; return whether the worker is still at its cell."""
        cell = self.cell
        assert cell is not None, "only workers with a cell are listened to"
        try:
            kind, content = self.take()
        except EOFError:
            self.alive = False
            row = failed_row(cell, settings.runs / cell.run_id, self._epitaph())
            listener.finished(cell, row)
            return False
        if kind == "round":
            listener.round(cell, content)
            return True
        if kind == "fatal":
            raise FedKDError(content)
        if kind == "system":
            raise OSError(*content)
        listener.finished(cell, content)
        return False

    def _epitaph(self) -> str:
        """Return what the worker died of."""
        code = self.exit_code()
        if code is None or code >= 0:
            return f"the worker process ended with exit code {code} in the middle."
        name = signal.Signals(-code).name
        guess = " (out of memory?)" if name == "SIGKILL" else ""
        return f"the worker process was ended by {name}{guess}."


def _serve(pipe: Connection, plugin_files: tuple[str, ...]) -> None:
    """Run cells until the pipe closes; be a worker."""
    try:
        registry = load_registry(plugin_files, quiet=True)
        settings: WorkerSettings = pipe.recv()
        registry.observe(settings.observers)
        builder = RunBuilder(
            registry,
            settings.data_root,
            torch.device(settings.device),
            settings.hashes,
        )
    except FedKDError as error:
        pipe.send(("fatal", str(error)))
        return
    while True:
        try:
            cell = pipe.recv()
        except EOFError:
            return
        try:
            row = run_cell(
                cell,
                builder,
                settings.runs / cell.run_id,
                lambda metrics: _tell(pipe, "round", metrics),
                settings.executor,
            )
        except OSError as error:
            _tell(pipe, "system", (error.errno, error.strerror, error.filename))
            return
        _tell(pipe, "done", row)


def _tell(pipe: Connection, kind: str, content: Any) -> None:
    try:
        pipe.send((kind, content))
    except (BrokenPipeError, ConnectionResetError):
        # The master is gone. Not an exception: the cell would be recorded as failed.
        os._exit(1)
