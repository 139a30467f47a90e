"""Turns in several processes of one machine; the main process works too.

Workers start once a run. All take clients from one queue in shared memory, so that a
slow one holds up nobody. A worker that dies loses nothing: the main process does the
turns that it had taken, with the same numbers.
"""

from __future__ import annotations

import functools
import importlib.util
import sys
import warnings
from collections.abc import Iterator
from multiprocessing.connection import wait
from typing import Any

import torch

from fedkd.base.phases import phase
from fedkd.base.workers import Worker, afresh
from fedkd.errors import ConfigError
from fedkd.ops.training import TrainingConfig
from fedkd.simulation.executors.base import Executor
from fedkd.simulation.executors.region import Queue, Region
from fedkd.simulation.executors.worker import (
    Fault,
    SharedOrders,
    Task,
    Wiring,
    attempted,
    serve,
    warn_again,
)
from fedkd.simulation.turns import Answer, Orders, Turns

DEATHS = 3
"""Times that a worker is replaced before the run goes on without it."""
ENOUGH = 500
"""Images in a round from which several processes are faster than one."""
PAYS = 10_000
"""Images in a run from which it pays to start them."""


class Processes(Executor):
    """The main process and ``workers - 1`` others."""

    name = "processes"
    starts_processes = True

    def __init__(self, turns: Turns, workers: int = 1, address: str = "local") -> None:
        """Start nothing yet: as :class:`Executor`."""
        super().__init__(turns, workers, address)
        self._others: list[TurnWorker] = []
        self._missing = workers - 1
        self._left = DEATHS * max(workers - 1, 0)
        self._queue: Queue | None = None
        self._down: Region | None = None

    @classmethod
    def check_usable(cls, device: torch.device) -> None:
        """Refuse systems without Unix's locks.

        Raises:
            ConfigError: On such a system.
        """
        if not _has_locks():
            raise ConfigError(
                "the executor 'processes' needs a Unix system; use 'serial' or 'ray'."
            )

    @classmethod
    def speed(cls, turns: Turns, workers: int) -> float | None:
        """Return the number of processes that work, where starting them pays on a CPU."""
        sides = turns.sides
        protocol, federation = sides.protocol, sides.federation
        if federation.device.type != "cpu" or not _has_locks():
            return None
        sampled = protocol.clients_per_round()
        mean = sum(len(c) for c in federation.clients) / len(federation)
        images = sampled * _images(protocol.training, mean)
        pays = images >= ENOUGH and images * protocol.rounds >= PAYS
        return float(min(workers, sampled)) if pays else 1.0

    def _safe_method(self) -> str:
        # A fork shares all data and takes no time; CUDA does not survive it, and on
        # systems other than Linux neither do their own libraries.
        cuda = torch.cuda.is_initialized()
        return "fork" if sys.platform.startswith("linux") and not cuda else afresh()

    def answers(self, orders: Orders) -> Iterator[tuple[int, Answer]]:
        """Yield what this process and the others have done, as it comes."""
        queue, down = self._started()
        clients = orders.round.clients
        down.clear()
        shared = self._shared(orders, down, queue.start(len(clients)))
        for worker in self._others:
            worker.start(shared)
        faults: dict[int, Fault] = {}
        for place, answer in self._gather(orders, queue, shared.offer):
            if isinstance(answer, Fault):
                faults[place] = answer
                queue.stop()
            else:
                yield clients[place], answer
        if faults:
            faults[min(faults)].throw()

    def _started(self) -> tuple[Queue, Region]:
        if self._queue is None or self._down is None:
            self._queue, self._down = Queue(), Region()
        while self._missing:
            self._missing -= 1
            taken = {worker.number for worker in self._others}
            number = next(i for i in range(1, len(taken) + 2) if i not in taken)
            paths = (self._queue.path, self._down.path)
            method = self._safe_method()
            self._others.append(TurnWorker(self.turns, number, paths, method))
        return self._queue, self._down

    def _shared(self, orders: Orders, down: Region, offer: int) -> SharedOrders:
        """Write the round's broadcasts and memories where workers read them."""
        numbers: dict[int, tuple[Any, int]] = {}
        downs: list[tuple[tuple[int, str], int]] = []
        tasks: list[Task] = []
        memories, sender = self.turns.sides.memories, "a client's broadcast"
        for k in orders.round.clients:
            tree, size = orders.broadcast(k)
            if id(tree) not in numbers:
                # The tree is kept, so that no other gets its id.
                numbers[id(tree)] = (tree, len(downs))
                with phase("transport"):
                    downs.append((down.put(tree, sender), size))
            memory = memories.recall(k)
            place = down.put(memory, f"the memory of client {k}") if memory else None
            tasks.append(Task(k, numbers[id(tree)][1], place))
        return SharedOrders(
            offer,
            orders.round,
            orders.training,
            orders.scores,
            tuple(tasks),
            tuple(downs),
        )

    def _gather(
        self, orders: Orders, queue: Queue, offer: int
    ) -> Iterator[tuple[int, Answer | Fault]]:
        """Work, and take what the others have done, until every turn is done."""
        done: set[int] = set()
        lost: list[int] = []
        while True:
            for place, answer in self._arrived(queue, done, lost, block=False):
                done.add(place)
                yield place, answer
            mine = lost.pop() if lost else queue.take(0, offer)
            if mine is not None:
                done.add(mine)
                k = orders.round.clients[mine]
                yield mine, attempted(functools.partial(self.turns.do, k, orders))
                continue
            if len(done) == len(queue.taken()):
                return
            for place, answer in self._arrived(queue, done, lost, block=True):
                done.add(place)
                yield place, answer

    def _arrived(
        self, queue: Queue, done: set[int], lost: list[int], *, block: bool
    ) -> list[tuple[int, Answer | Fault]]:
        """Return what has come; turns of workers that have died become ``lost``."""
        pipes: list[Any] = [worker.pipe for worker in self._others]
        ready = wait(pipes, None if block else 0)
        arrived: list[tuple[int, Answer | Fault]] = []
        for worker in [w for w in self._others if w.pipe in ready]:
            try:
                arrived.append(self._read(worker, worker.take()))
            except EOFError:
                self._bury(worker)
                known = done | {place for place, _ in arrived}
                theirs = enumerate(queue.taken())
                lost += [i for i, w in theirs if w == worker.number and i not in known]
        return arrived

    def _read(
        self, worker: TurnWorker, message: tuple[int, Any]
    ) -> tuple[int, Answer | Fault]:
        place, content = message
        if isinstance(content, Fault):
            return place, content
        where, record, said = content
        warn_again(said)
        with phase("transport"):
            up, memory = worker.read(where)
        if memory is not None:
            self.turns.sides.memories.keep(worker.client_of(place), memory)
        return place, Answer(up, record)

    def _bury(self, worker: TurnWorker) -> None:
        self._others.remove(worker)
        worker.end()
        code = worker.process.exitcode
        if self._left:
            self._left -= 1
            self._missing += 1
        warnings.warn(
            f"worker process {worker.number} ended with exit code {code} in the middle "
            "(out of memory?); its clients' turns are done again elsewhere.",
            RuntimeWarning,
            stacklevel=2,
        )

    def close(self) -> None:
        """End the workers and give the shared memory back."""
        for worker in self._others:
            worker.process.terminate()  # all at once, then one by one
        for worker in self._others:
            worker.end()
        self._others.clear()
        for thing in (self._queue, self._down):
            if thing is not None:
                thing.close()
        self._queue = self._down = None


def _has_locks() -> bool:
    return importlib.util.find_spec("fcntl") is not None


def _images(training: TrainingConfig, mean: float) -> float:
    """Return the images that a client with ``mean`` of them trains on in a round."""
    if training.local_steps is not None:
        return training.local_steps * min(training.batch_size, mean)
    return (training.local_epochs or 1) * mean


class TurnWorker(Worker):
    """A worker, the round that it is at, and the memory in which it answers."""

    def __init__(
        self, turns: Turns, number: int, paths: tuple[str, str], method: str
    ) -> None:
        self.number = number
        self._up = Region()
        self._read = 0
        self._orders: SharedOrders | None = None
        wiring = Wiring(number, *paths, self._up.path)
        super().__init__(serve, turns, wiring, method=method, daemon=True)

    def start(self, orders: SharedOrders) -> None:
        """Hand over a round."""
        self._orders = orders
        self.give(orders)

    def client_of(self, place: int) -> int:
        """Return the client of a turn of the round."""
        assert self._orders is not None, "an answer belongs to a round"
        return self._orders.tasks[place].client

    def read(self, place: tuple[int, str]) -> Any:
        """Return an answer, and tell the worker that its memory is free."""
        answer = self._up.get(*place)
        self._read += 1
        self._up.set_number(0, self._read)
        return answer

    def end(self) -> None:
        """End the process, whatever it does, and give its memory back."""
        super().end()
        self._up.close()
