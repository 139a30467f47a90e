"""Turns as tasks of Ray, on this machine or on a cluster that runs already.

Ray hands a task whose worker was lost to another one; a turn's numbers hang on its round
and client only, so they are the same there.
"""

from __future__ import annotations

import importlib
import importlib.util
import time
import uuid
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from fedkd.errors import ConfigError
from fedkd.ops.training import TrainingConfig
from fedkd.payload import put_together, take_apart
from fedkd.simulation.executors.base import Executor
from fedkd.simulation.executors.worker import (
    Fault,
    Said,
    attempted,
    heard,
    warn_again,
)
from fedkd.simulation.turns import Answer, Orders, TurnRecord, Turns, record_of
from fedkd.strategy import Round

RETRIES = 5
"""Times that a turn is given to another worker before the run fails."""

_Tree = tuple[str, list[Tensor]]
_runs: dict[str, Turns] = {}
"""In a worker: the turns of the run that it works for."""


class Cluster(Executor):
    """Ray tasks, one a turn; ``workers`` are the CPUs of a Ray that is started here."""

    name = "ray"
    starts_processes = True

    def __init__(self, turns: Turns, workers: int = 1, address: str = "local") -> None:
        """Start nothing yet: as :class:`Executor`."""
        super().__init__(turns, workers, address)
        self._key = uuid.uuid4().hex
        self._ray: Any = None
        """The module, an extra that takes a second to import; once it has started."""
        self._shared: Any = None
        self._owns = False

    @classmethod
    def check_usable(cls, device: torch.device) -> None:
        """Refuse GPUs, and machines without Ray.

        Raises:
            ConfigError: Saying which of both it is.
        """
        if device.type != "cpu":
            raise ConfigError(
                f"the executor 'ray' is for CPUs: its tasks see no GPU, and this run is "
                f"on {device}. Use another executor, or --device cpu."
            )
        if importlib.util.find_spec("ray") is None:
            raise ConfigError(
                "the executor 'ray' needs Ray; install it with: pip install 'fedkd[ray]' "
                "(from a checkout: pip install -e '.[ray]')."
            )

    def _started(self) -> None:
        if self._shared is not None:
            return
        self._ray = importlib.import_module("ray")
        if not self._ray.is_initialized():
            local: dict[str, Any] = {
                "num_cpus": self.workers,
                "include_dashboard": False,
            }
            more = local if self.address == "local" else dict[str, Any]()
            try:
                self._ray.init(address=self.address, log_to_driver=False, **more)
            except ConnectionError as error:
                raise ConfigError(
                    f"--ray-address {self.address}: no Ray cluster answers there "
                    f"({error}). Start one with 'ray start --head', or use 'local'."
                ) from None
            self._owns = True
        self._shared = self._ray.put(self.turns)

    def answers(self, orders: Orders) -> Iterator[tuple[int, Answer]]:
        """Yield what the tasks have done, as they end."""
        self._started()
        tasks = self._tasks(orders)
        faults: dict[int, Fault] = {}
        while tasks:
            (ready,), _ = self._ray.wait(list(tasks), num_returns=1)
            place, size = tasks.pop(ready)
            outcome = self._ray.get(ready)
            if isinstance(outcome, Fault):
                faults[place] = outcome
                continue
            k = orders.round.clients[place]
            yield k, self._read(k, outcome, size)
        if faults:
            faults[min(faults)].throw()

    def _tasks(self, orders: Orders) -> dict[Any, tuple[int, int]]:
        """Hand in the turns of a round; return the place and the bytes sent of each."""
        # One core each, whatever the task's own library calls would like.
        task = self._ray.remote(max_retries=RETRIES, num_cpus=1)(_turn)
        downs: dict[int, tuple[Any, Any]] = {}
        tasks: dict[Any, tuple[int, int]] = {}
        for place, k in enumerate(orders.round.clients):
            down, size = orders.broadcast(k)
            if id(down) not in downs:
                # The tree is kept, so that no other gets its id.
                downs[id(down)] = (down, self._ray.put(take_apart(down)))
            memory = take_apart(self.turns.sides.memories.recall(k))
            work = (k, orders.round, orders.training, orders.scores)
            sent = downs[id(down)][1]
            ref = task.remote(self._key, [self._shared], work, sent, memory)
            tasks[ref] = (place, size)
        return tasks

    def _read(
        self, k: int, outcome: tuple[_Tree, TurnRecord, Said], size: int
    ) -> Answer:
        tree, known, said = outcome
        warn_again(said)
        up, memory = put_together(*tree)
        self.turns.sides.memories.keep(k, memory)
        return Answer(up, record_of(known, size, known.pop("seconds")))

    def close(self) -> None:
        """Free what the run holds in Ray's memory; end a Ray that was started here."""
        self._shared = None
        if self._owns:
            self._ray.shutdown()
            self._owns = False


def _turn(
    key: str,
    shared: list[Any],
    work: tuple[int, Round, TrainingConfig, bool],
    down: _Tree,
    memory: _Tree,
) -> tuple[_Tree, TurnRecord, Said] | Fault:
    """Do a turn in a worker of Ray."""
    torch.set_num_threads(1)
    turns = _turns(key, shared)
    said: Said = []

    def do() -> tuple[_Tree, TurnRecord, Said]:
        started = time.perf_counter()
        k, this_round, training, scores = work
        store = put_together(*memory)
        orders = Orders(this_round, training, lambda _: (None, 0), scores)
        with heard(said):
            up, known = turns.local(k, put_together(*down), orders, store)
        known["seconds"] = round(time.perf_counter() - started, 4)
        tree = take_apart((up, store), f"{turns.name}.local (client {k})")
        return tree, known, said

    return attempted(do, said)


def _turns(key: str, shared: list[Any]) -> Turns:
    """Return the turns of a run; those of another run make room for them."""
    import ray  # noqa: PLC0415 - an extra

    if key not in _runs:
        _runs.clear()
        _runs[key] = ray.get(shared[0])
    return _runs[key]
