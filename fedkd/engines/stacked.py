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
from fedkd.engines.seat import Parked, Seat
from fedkd.engines.stacked_training import train_together
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
        self._seats: list[Seat] = []
        self._alone: set[str] = set()

    @classmethod
    def speed(cls, turns: Turns, workers: int) -> float | None:
        """Return what was measured."""
        del workers
        return measured_speed(cls.name, turns)

    def answers(self, orders: Orders) -> Iterator[tuple[int, Answer]]:
        """See :class:`Executor`."""
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
        while len(self._seats) < len(clients):
            self._seats.append(Seat(self.turns, self._alone))
        seats = self._seats[: len(clients)]
        try:
            for seat, k in zip(seats, clients, strict=True):
                seat.start(k, orders)
            while parked := [seat for seat in seats if seat.parked is not None]:
                self._train(parked)
                for seat in parked:
                    seat.go_on()
        finally:
            for seat in seats:
                seat.abandon()
        return [seat.taken() for seat in seats]

    def _train(self, parked: Sequence[Seat]) -> None:
        """Train together what can be; the others train alone when they go on."""
        kinds: dict[Hashable, list[tuple[Seat, Parked]]] = {}
        for seat in parked:
            if seat.parked is not None:
                kinds.setdefault(seat.parked.kind, []).append((seat, seat.parked))
        for alike in kinds.values():
            if len(alike) > 1 and alike[0][0].spec not in self._alone:
                self._train_alike(alike)

    def _train_alike(self, alike: Sequence[tuple[Seat, Parked]]) -> None:
        first, _ = alike[0]
        clock = Phases()
        started = time.perf_counter()
        try:
            with first.surroundings(), measured(clock, "local"):
                found = train_together([parked.job for _, parked in alike])
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
        for (seat, parked), sums in zip(alike, found, strict=True):
            parked.sums = sums
            seat.add(seconds, phases)
