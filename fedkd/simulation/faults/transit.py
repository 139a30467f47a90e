"""The way of a round's answers from the clients to the server's entrance.

On it they are changed, lost, kept for a later round, or doubled, whatever executor has
made them. Who is hit hangs on the run's seed alone, so every strategy meets the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from fedkd.simulation.faults.config import ARRIVED, OUTDATED, PREFIX
from fedkd.simulation.faults.corruption import corrupted
from fedkd.simulation.faults.late import Late
from fedkd.simulation.faults.plan import Plan
from fedkd.simulation.sides import Sides
from fedkd.simulation.turns import Answer, Orders, TurnRecord
from fedkd.strategy import Round


class Transit:
    """What happens to the answers of one run on their way."""

    def __init__(self, sides: Sides) -> None:
        """Take the world in which it happens."""
        self._sides = sides
        self._faults = sides.protocol.faults
        self._clock = sides.protocol.clock
        self._plan = Plan(self._faults, sides.seed, len(sides.federation))
        self.waiting: tuple[Late, ...] = ()
        """Answers that arrive in a later round, by round and client."""
        self.seen: dict[str, list[int]] = {}
        """Clients of the round by what has hit them; all faults of the run are there."""
        self.unanswered: dict[int, TurnRecord] = {}
        """What was recorded of clients of the round whose answer has not arrived."""
        self.seconds = 0.0
        """Simulated, of the round: those of the slowest client that has answered."""
        self.records: dict[int, TurnRecord] = {}
        """Of late answers that have arrived: what the entrance says of them."""
        self.missing = 0
        """Clients of which the round has fewer, for they cannot be sampled."""

    def through(
        self, arriving: Iterable[tuple[int, Answer]], orders: Orders
    ) -> Iterator[tuple[int, Answer]]:
        """Yield the answers that arrive in a round, those of earlier rounds last.

        Args:
            arriving: Clients and their answers, in any order.
            orders: The round, and what the server sent.
        """
        self._begin(orders.round)
        answered = set()
        for k, answer in arriving:
            kept = self._sent(k, answer, orders)
            if kept is None:
                continue
            answered.add(k)
            yield k, kept
            if k in self.seen.get("duplicate", ()):
                kept.record["bytes_up"] *= 2
                yield k, kept
            if self._clock is not None:
                took = self._clock.seconds(self._sides.seed, k, kept.record)
                self.seconds = max(self.seconds, took)
        yield from self._due(orders.round, answered)

    def counts(self) -> dict[str, int]:
        """Return how many the round has of each fault of the run."""
        counts = {kind: len(clients) for kind, clients in self.seen.items()}
        if "availability" in counts:
            counts["availability"] = self.missing
        return counts

    def columns(self) -> dict[str, Any]:
        """Return what a line of ``metrics.jsonl`` says of the round: who was hit."""
        named = {kind: clients for kind, clients in self.seen.items() if clients}
        return {PREFIX: named} if self.seen else {}

    def available(self, index: int, wanted: int) -> tuple[int, ...] | None:
        """Return the clients that can be sampled in a round; None for all of them.

        Args:
            index: Of the round.
            wanted: How many are to take part.

        Raises:
            ConfigError: If the file that says so cannot be used.
        """
        here = self._plan.available(index)
        self.missing = 0 if here is None else max(0, wanted - len(here))
        return here

    def _begin(self, round: Round) -> None:
        kinds = self._faults.kinds
        self.unanswered, self.records, self.seconds = {}, {}, 0.0
        self.seen = {kind: [] for kind in kinds}
        for kind in (k for k in kinds if k != "availability"):
            self.seen[kind] = sorted(self._plan.hit(kind, round))
        lost = set(self.seen.get("drop", ()))
        if "late" in kinds:
            self.seen |= {ARRIVED: [], OUTDATED: []}
            self.seen["late"] = [k for k in self.seen["late"] if k not in lost]
            lost |= set(self.seen["late"])
        if "duplicate" in kinds:
            self.seen["duplicate"] = [
                k for k in self.seen["duplicate"] if k not in lost
            ]

    def _sent(self, k: int, answer: Answer, orders: Orders) -> Answer | None:
        """Return the answer of a client as it arrives; None if it does not, now."""
        faults, index = self._faults, orders.round.index
        up = answer.up
        if faults.corrupt is not None and k in self.seen["corrupt"]:
            name = (self._sides.seed, PREFIX, "corrupt", index, k, "noise")
            up = corrupted(up, orders.broadcast(k)[0], faults.corrupt, *name)
        if k in self.seen.get("drop", ()):
            answer.record["bytes_up"] = 0
            self.unanswered[k] = answer.record
            return None
        if faults.late is not None and k in self.seen["late"]:
            late = Late(k, index, index + faults.late.rounds, up)
            every = (*self.waiting, late)
            self.waiting = tuple(sorted(every, key=lambda o: (o.due, o.client)))
            self.unanswered[k] = answer.record
            return None
        return replace(answer, up=up)

    def _due(
        self, round: Round, answered: Iterable[int]
    ) -> Iterator[tuple[int, Answer]]:
        """Yield the late answers of the round, but where a newer one of the client is."""
        newer = set(answered)
        now = [late for late in self.waiting if late.due == round.index]
        self.waiting = tuple(o for o in self.waiting if o.due > round.index)
        for late in now:
            kind = OUTDATED if late.client in newer else ARRIVED
            self.seen[kind].append(late.client)
            if kind == ARRIVED:
                record = dict.fromkeys(("bytes_up", "bytes_down", "examples"), 0)
                self.records[late.client] = record
                yield late.client, Answer(late.up, record)


def in_order(
    rows: Mapping[int, TurnRecord], other: Mapping[int, TurnRecord], round: Round
) -> dict[int, TurnRecord]:
    """Return records of a round's clients in the order of the round."""
    every = {**rows, **other}
    return {k: every[k] for k in round.clients if k in every}
