"""Cells side by side: each worker is a process of its own with a pipe to its master.

A worker that dies takes only its cell with it. Workers ignore Ctrl-C, which the master
handles, and end when the master does, however it ends.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Protocol

import torch

from fedkd.errors import FedKDError
from fedkd.harness.builder import RunBuilder
from fedkd.harness.cell import failed_row, run_cell
from fedkd.plugins.registry import load_registry
from fedkd.report.results import Row
from fedkd.simulation.executors import SERIAL, Choice
from fedkd.suite.grid import Cell

PATIENCE = 5.0
"""Seconds a worker has to end before it is killed."""


class Listener(Protocol):
    """Who is told what becomes of the cells."""

    def started(self, cell: Cell) -> None:
        """A cell starts."""

    def round(self, cell: Cell, metrics: Mapping[str, Any]) -> None:
        """A round of a cell has ended."""

    def finished(self, cell: Cell, row: Row) -> None:
        """A cell has ended, well or not."""


@dataclass(frozen=True)
class Setup:
    """What a worker needs to know; plain, because it travels to another process."""

    runs: Path
    """Folder of the run folders."""
    data_root: Path
    device: str
    plugin_files: tuple[str, ...] = ()
    executor: Choice = SERIAL


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
    cells: Sequence[Cell], jobs: int, setup: Setup, listener: Listener
) -> None:
    """Run ``cells`` in ``jobs`` worker processes.

    Raises:
        FedKDError: If a worker found that no cell can go on, such as on a full disk.
    """
    todo = deque(cells)
    workers: list[_Worker] = []
    try:
        _work_off(todo, workers, jobs, setup, listener)
    finally:
        for worker in workers:
            worker.end()


def _work_off(
    todo: deque[Cell],
    workers: list[_Worker],
    jobs: int,
    setup: Setup,
    listener: Listener,
) -> None:
    while todo or workers:
        while todo and len(workers) < jobs:
            workers.append(_Worker(setup))
            workers[-1].give(todo.popleft(), listener)
        for worker in _ready(workers):
            if not worker.listen(setup, listener) and not (
                worker.alive and _gave_next(worker, todo, listener)
            ):
                worker.stop()
                workers.remove(worker)


def _gave_next(worker: _Worker, todo: deque[Cell], listener: Listener) -> bool:
    """Hand over the next cell; return False if there is none."""
    if not todo:
        return False
    worker.give(todo.popleft(), listener)
    return True


def _ready(workers: Sequence[_Worker]) -> list[_Worker]:
    ready = wait([worker.pipe for worker in workers])
    return [worker for worker in workers if worker.pipe in ready]


class _Worker:
    """The master's end of one worker."""

    def __init__(self, setup: Setup) -> None:
        # Not forked: CUDA and torch's threads do not survive a fork.
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(
            target=_serve, args=(theirs, setup)
        )
        self.cell: Cell | None = None
        self.alive = True
        with _interrupts_held():
            self.process.start()
        theirs.close()

    def give(self, cell: Cell, listener: Listener) -> None:
        """Hand over a cell."""
        self.cell = cell
        listener.started(cell)
        # A worker that is already dead is noticed when it is listened to.
        with contextlib.suppress(BrokenPipeError):
            self.pipe.send(cell)

    def listen(self, setup: Setup, listener: Listener) -> bool:
        """Take one message; return whether the worker is still at its cell."""
        assert self.cell is not None, "only workers with a cell are listened to"
        try:
            kind, content = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            self.alive = False
            row = failed_row(self.cell, setup.runs / self.cell.run_id, self._epitaph())
            listener.finished(self.cell, row)
            return False
        if kind == "round":
            listener.round(self.cell, content)
            return True
        if kind == "fatal":
            raise FedKDError(content)
        if kind == "system":
            raise OSError(*content)
        listener.finished(self.cell, content)
        return False

    def stop(self) -> None:
        """Let an idle worker end by itself."""
        self.pipe.close()
        self.process.join(PATIENCE)
        self.end()

    def end(self) -> None:
        """End the worker, whatever it does."""
        self.process.terminate()
        self.process.join(PATIENCE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.pipe.close()

    def _epitaph(self) -> str:
        """Return what the worker died of."""
        self.process.join(PATIENCE)
        code = self.process.exitcode
        if code is None or code >= 0:
            return f"the worker process ended with exit code {code} in the middle."
        name = signal.Signals(-code).name
        guess = " (out of memory?)" if name == "SIGKILL" else ""
        return f"the worker process was ended by {name}{guess}."


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Hold Ctrl-C back while a process starts; the new process inherits that."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(pipe: Connection, setup: Setup) -> None:
    """Run cells until the pipe closes; the worker's main function."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_master, daemon=True).start()
    try:
        registry = load_registry(setup.plugin_files, quiet=True)
        builder = RunBuilder(registry, setup.data_root, torch.device(setup.device))
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
                setup.runs / cell.run_id,
                lambda metrics: _tell(pipe, "round", metrics),
                setup.executor,
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


def _end_with_master() -> None:
    master = multiprocessing.parent_process()
    assert master is not None, "runs in a child process"
    wait([master.sentinel])
    os._exit(1)
