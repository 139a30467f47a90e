"""What runs in a worker process: turns of clients, until the main process is done.

Weights and answers go through shared memory, sealed; pipes carry only where they are.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import Any, TypeVar

import torch

from fedkd.base.phases import Phases, measured
from fedkd.ops.training import TrainingConfig
from fedkd.simulation.executors.region import Queue, Region
from fedkd.simulation.turns import Orders, TurnRecord, Turns, record_of
from fedkd.strategy import Round

Result = TypeVar("Result")
Place = tuple[int, str]
"""Where a tree starts in shared memory, and what is there."""


@dataclass(frozen=True)
class Task:
    """The turn of one client."""

    client: int
    down: int
    """Which of the round's broadcasts it is sent."""
    memory: Place | None
    """What it remembers; None for nothing."""


@dataclass(frozen=True)
class SharedOrders:
    """What is to be done in a round, for workers; trees are in shared memory."""

    offer: int
    """Its name in the queue."""
    round: Round
    training: TrainingConfig
    scores: bool
    """Whether trained models are measured."""
    tasks: tuple[Task, ...]
    downs: tuple[tuple[Place, int], ...]
    """The different broadcasts, and the bytes of each."""


@dataclass(frozen=True)
class Wiring:
    """How a worker and the main process reach each other."""

    number: int
    """Of this worker, from 1; the main process is 0."""
    queue: str
    down: str
    up: str
    """Paths of shared memory."""


Said = list[tuple[type[Warning], str]]
"""Warnings of another process: of what kind, and the sentence."""


@dataclass(frozen=True)
class Fault:
    """What a strategy raised in another process."""

    error: BaseException
    trace: str
    """The traceback there."""
    name: str = ""
    """Of its class, where that cannot travel and the error has but its message."""
    said: Said = field(default_factory=list)
    """What it had warned of before."""

    @staticmethod
    def of(error: BaseException, said: Said) -> Fault:
        """Make an exception fit to travel; its type and message always do."""
        trace, name = "".join(traceback.format_exception(error)), ""
        try:
            ForkingPickler.loads(ForkingPickler.dumps(error))
        # An exception may refuse to travel with whatever it likes.
        except Exception:
            name, notes = type(error).__name__, getattr(error, "__notes__", [])
            error = RuntimeError(str(error))
            error.__notes__ = notes
        return Fault(error, trace, name, said)

    def throw(self) -> None:
        """Raise it here, with the other process's traceback as its cause."""
        warn_again(self.said)
        error = self.error
        if self.name:
            notes = getattr(error, "__notes__", [])
            error = type(self.name, (RuntimeError,), {})(*error.args)
            error.__notes__ = notes
        raise error from Elsewhere(f"\n{self.trace}")


def attempted(do: Callable[[], Result], said: Said | None = None) -> Result | Fault:
    """Return what ``do`` returns, or the fault of the exception that it raises.

    Args:
        do: A turn.
        said: What it has warned of, if that is :func:`heard`.
    """
    try:
        return do()
    except KeyboardInterrupt:
        raise
    # A strategy's code may raise anything; the main process raises it again.
    except BaseException as error:
        return Fault.of(error, said or [])


@contextlib.contextmanager
def heard(said: Said) -> Iterator[None]:
    """Add the warnings of the block, which :func:`warn_again` gives in the main one."""
    with warnings.catch_warnings(record=True) as caught:
        try:
            yield
        finally:
            for warning in caught:
                kind = warning.category
                # One of a library's own may be unknown to the main process.
                known = kind if kind.__module__ == "builtins" else RuntimeWarning
                said.append((known, str(warning.message)))


def warn_again(said: Said) -> None:
    """Give warnings of another process as this one's."""
    for kind, text in said:
        warnings.warn(text, kind, stacklevel=2)


class Elsewhere(Exception):
    """Holds the traceback of another process."""


def serve(pipe: Connection, turns: Turns, wiring: Wiring) -> None:
    """Be a worker: take turns from the queue, round after round, until the pipe ends."""
    # One traversal by the collector would copy every page that the fork shares.
    gc.freeze()
    torch.set_num_threads(1)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError, EOFError):
        state = WorkerState(pipe, turns, wiring)
        while True:
            state.work(pipe.recv())


class WorkerState:
    """What a worker has from round to round."""

    def __init__(self, pipe: Connection, turns: Turns, wiring: Wiring) -> None:
        self.pipe = pipe
        self.turns = turns
        self.number = wiring.number
        self.queue = Queue(wiring.queue)
        self.down = Region(wiring.down)
        self.up = Region(wiring.up)
        self._sent = 0

    def work(self, shared: SharedOrders) -> None:
        """Take turns of a round until there is none left."""
        downs = _Broadcasts(self.down, shared)
        orders = Orders(shared.round, shared.training, downs.of, shared.scores)
        for place in iter(lambda: self.queue.take(self.number, shared.offer), None):
            said: Said = []
            turn = functools.partial(self._turn, shared.tasks[place], orders, said)
            self.pipe.send((place, attempted(turn, said)))

    def _turn(
        self, task: Task, orders: Orders, said: Said
    ) -> tuple[Place, TurnRecord, Said]:
        started = time.perf_counter()
        moving = Phases()
        memory: Any = {}
        if task.memory is not None:
            memory = self.down.get(*task.memory)
        remembers = bool(memory)
        with measured(moving, "transport"):
            down, size = orders.broadcast(task.down)
        with heard(said):
            up, known = self.turns.local(task.client, down, orders, memory)
        # The main process counts what it has read; then the memory is free again.
        if self.up.number(0) == self._sent:
            self.up.clear()
            self.up.put(torch.zeros(8), "the counter's place")
            self.up.set_number(0, self._sent)
        self._sent += 1
        kept = memory if memory or remembers else None
        with measured(moving, "transport"):
            place = self.up.put((up, kept), "a client's answer")
        if self.turns.profile:
            known["phases"]["transport"] += moving.seconds["transport"]
        seconds = round(time.perf_counter() - started, 4)
        return place, record_of(known, size, seconds), said


class _Broadcasts:
    """The broadcasts of a round, each read once; the last one is kept."""

    def __init__(self, region: Region, shared: SharedOrders) -> None:
        self._region = region
        self._shared = shared
        self._last: tuple[int, Any] = (-1, None)

    def of(self, number: int) -> tuple[Any, int]:
        place, size = self._shared.downs[number]
        if self._last[0] != number:
            self._last = (number, self._region.get(*place))
        return self._last[1], size
