"""Clients of one architecture that train together, in one batched step, on one device.

Each client's turn runs in a thread of its own, and only one thread runs at a time: this
is no parallel work. A turn that trains in the plain way stops there and lets the others
go on. When all have stopped or ended, the main thread trains those that can be trained
together, and the turns go on.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Hashable, Iterator, Sequence

from fedkd.base.phases import Phases, measured
from fedkd.engines.measured import measured_speed
from fedkd.engines.stacked_training import train_together
from fedkd.engines.turn_thread import Parked, TurnThread
from fedkd.simulation.executors.base import Executor
from fedkd.simulation.turns import Answer, Orders, Turns

LARGEST = 32
"""Clients whose turns overlap, at most; each has a working model of its own."""


class StackedClients(Executor):
    """Turns in groups; for many small models on a GPU.

    Weights agree with those of :class:`Serial` to rounding, random numbers to the bit.
    """

    name = "stacked"

    def __init__(self, turns: Turns, workers: int = 1, address: str = "local") -> None:
        """Start nothing yet; see :class:`fedkd.simulation.executors.Executor`."""
        super().__init__(turns, workers, address)
        self._threads: list[TurnThread] = []
        self._alone: set[str] = set()

    @classmethod
    def speed(cls, turns: Turns, workers: int) -> float | None:
        """Return what was measured."""
        del workers
        return measured_speed(cls.name, turns)

    def answers(self, orders: Orders) -> Iterator[tuple[int, Answer]]:
        """Yield the answers of one group after another."""
        clients = orders.round.clients
        faults: dict[int, BaseException] = {}
        for places in self._groups(clients):
            # Later ones than the first fault would be for nothing.
            todo = [p for p in places if p < min(faults, default=len(clients))]
            outcomes = self._together([clients[p] for p in todo], orders)
            for place, outcome in zip(todo, outcomes, strict=True):
                if isinstance(outcome, Answer):
                    yield clients[place], outcome
                else:
                    faults[place] = outcome
        if faults:
            raise faults[min(faults)]

    def _groups(self, clients: Sequence[int]) -> list[list[int]]:
        """Return places of clients with one architecture, in groups."""
        of_kind: dict[str, list[int]] = {}
        models = self.turns.sides.federation.client_models
        for place, k in enumerate(clients):
            of_kind.setdefault(models[k].key, []).append(place)
        return [
            places[start : start + LARGEST]
            for places in of_kind.values()
            for start in range(0, len(places), LARGEST)
        ]

    def _together(
        self, clients: Sequence[int], orders: Orders
    ) -> list[Answer | BaseException]:
        """Do the turns of a group; return what each gives or raises."""
        while len(self._threads) < len(clients):
            self._threads.append(TurnThread(self.turns, self._alone))
        threads = self._threads[: len(clients)]
        try:
            for thread, k in zip(threads, clients, strict=True):
                thread.start(k, orders)
            while parked := [thread for thread in threads if thread.parked is not None]:
                self._train(parked)
                for thread in parked:
                    thread.go_on()
        finally:
            for thread in threads:
                thread.abandon()
        return [thread.taken() for thread in threads]

    def _train(self, parked: Sequence[TurnThread]) -> None:
        """Train together what can be; the others train alone when they go on."""
        kinds: dict[Hashable, list[tuple[TurnThread, Parked]]] = {}
        for thread in parked:
            if thread.parked is not None:
                kinds.setdefault(thread.parked.kind, []).append((thread, thread.parked))
        for alike in kinds.values():
            if len(alike) > 1 and alike[0][0].spec not in self._alone:
                self._train_alike(alike)

    def _train_alike(self, alike: Sequence[tuple[TurnThread, Parked]]) -> None:
        first, _ = alike[0]
        clock = Phases()
        started = time.perf_counter()
        try:
            with first.surroundings(), measured(clock, "local"):
                all_sums = train_together([parked.pending for _, parked in alike])
        except RuntimeError as error:
            self._alone.add(first.spec)
            warnings.warn(
                f"clients with the model {first.spec} cannot be trained together and "
                f"are trained one by one, as by the executor 'serial': {error}",
                RuntimeWarning,
                stacklevel=2,
            )
            return
        share = 1 / len(alike)
        seconds = (time.perf_counter() - started) * share
        phases = {name: share * value for name, value in clock.seconds.items()}
        for (thread, parked), sums in zip(alike, all_sums, strict=True):
            parked.sums = sums
            thread.add(seconds, phases)
