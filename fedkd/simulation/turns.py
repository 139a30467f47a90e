"""A client's turn: what every executor does for a client, wherever it does it."""

from __future__ import annotations

import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from fedkd.base.phases import Phases, measured, phase
from fedkd.errors import raised_in
from fedkd.metrics.classification import Accuracy
from fedkd.ops.training import TrainingConfig
from fedkd.party import Trainer
from fedkd.payload import seal
from fedkd.simulation.evaluate import predictions
from fedkd.simulation.faults.plan import Plan
from fedkd.simulation.federation import Federation
from fedkd.simulation.precision import widen_memory, widened
from fedkd.simulation.protocol import Protocol
from fedkd.simulation.sides import Sides
from fedkd.simulation.untouched import Untouched, refuse_alias
from fedkd.strategy import Client, Round, Strategy

TRAINED = "trained_accuracy"
"""Key of a turn's record: the trained model's accuracy on the client's test shard; None
if nothing was trained."""
TurnRecord = dict[str, Any]
"""What is recorded of a client's turn: what the simulator counted and, in a dictionary of
its own, what the client logged."""


@dataclass(frozen=True)
class Answer:
    """What a client's turn gives."""

    up: Any
    """What the client sends to the server."""
    record: TurnRecord


@dataclass(frozen=True)
class Orders:
    """What is to be done in a round."""

    round: Round
    training: TrainingConfig
    broadcast: Callable[[int], tuple[Any, int]]
    """Gives what the server sends to a client, and its size in bytes."""
    scores: bool = False
    """Whether trained models are measured, before they are averaged."""


class Turns:
    """Does the turns of clients of one run."""

    def __init__(
        self, strategy: Strategy[Any, Any, Any], sides: Sides, name: str
    ) -> None:
        self.strategy = strategy
        self.sides = sides
        self.name = name
        self._plan = Plan(sides.protocol.faults, sides.seed, len(sides.federation))
        self.profile = False
        """Whether to measure where the time of a turn goes."""

    def __reduce__(self) -> tuple[Any, ...]:
        # In another process: turns of the same run; the memories stay here. The
        # federation is first: its registry imports what the strategy is of.
        sides = self.sides
        run = (sides.federation, self.strategy, sides.protocol, sides.seed)
        return _turns, (*run, self.name, self.profile)

    def beside(self, trainer: Trainer) -> Turns:
        """Return these turns with working models, and a trainer, of their own."""
        other = Turns(self.strategy, self.sides.beside(trainer), self.name)
        other.profile = self.profile
        return other

    def orders(self, state: Any, round: Round, scores: bool = False) -> Orders:
        """Return what is to be done in the round ``round``; for ``scores`` see Orders."""
        sealed: list[tuple[Any, int]] = []
        given = Untouched(state, "the state")

        def broadcast(k: int) -> tuple[Any, int]:
            where = f"{self.name}.broadcast (client {k}, round {round.index + 1})"
            with raised_in(where):
                down = self.strategy.broadcast(state, k, round)
            given.check(where)
            # The same object is usually sent to every client.
            if not sealed or sealed[-1][0] is not down:
                with phase("transport"):
                    sealed[:] = [(down, seal(down, f"{self.name}.broadcast"))]
            return sealed[-1]

        training = self.sides.protocol.training.at_round(round.index)
        return Orders(round, training, broadcast, scores)

    def do(self, k: int, orders: Orders) -> Answer:
        """Do the turn of client ``k`` here; its memory is read and kept here."""
        started = time.perf_counter()
        memories = self.sides.memories
        memory = memories.recall(k)
        down, size = orders.broadcast(k)
        up, known = self.local(k, down, orders, memory)
        memories.keep(k, memory)
        seconds = round(time.perf_counter() - started, 4)
        return Answer(up, record_of(known, size, seconds))

    def local(
        self, k: int, down: Any, orders: Orders, memory: MutableMapping[str, Any]
    ) -> tuple[Any, TurnRecord]:
        """Run the strategy's ``local``; return what it sends and what is known of it."""
        phases = Phases() if self.profile else None
        with measured(phases, "local"):
            up, known = self._local(k, down, orders, memory)
        return up, known if phases is None else {**known, "phases": phases.seconds}

    def _local(
        self, k: int, down: Any, orders: Orders, memory: MutableMapping[str, Any]
    ) -> tuple[Any, TurnRecord]:
        sides = self.sides
        client = self._client(k, orders, memory)
        index = orders.round.index
        sender = f"{self.name}.local (client {k}, round {index + 1})"
        given = Untouched(down, "what the server sent")
        with sides.verb("client", index, k, where=sender, given=given):
            up = self.strategy.local(down, client)
            trained = self._trained(client) if orders.scores else {}
        if sides.protocol.precision == "bf16":
            up = widened(up, sender)
            widen_memory(memory, f"the memory of client {k}")
        with phase("transport"):
            size = seal(up, sender)
        refuse_alias(up, client.model, sender, "sent")
        refuse_alias(memory, client.model, sender, "keeps in client.memory")
        known = {
            "bytes_up": size,
            "examples": client.examples,
            "logged": dict(client.logged),
        }
        return up, known | trained

    def _client(
        self, k: int, orders: Orders, memory: MutableMapping[str, Any]
    ) -> Client:
        """Return a client's side; one that straggles does a part of its local steps."""
        sides = self.sides
        client = sides.client(k, orders.training, memory, orders.round)
        work = (len(client.data), orders.round, orders.training)
        client.training = self._plan.training(k, *work)
        return client

    def _trained(self, client: Client) -> dict[str, float | None]:
        """Return what the working model is worth as ``local`` left it, in percent.

        None if the client has counted no image of training in its turn, as in the last
        round of a method that is calibrated: the model may be the one that was sent.
        """
        if not client.examples:
            return {TRAINED: None}
        federation, how = self.sides.federation, self.sides.protocol.evaluation
        shard = federation.test_shards[client.id]
        said = predictions(client.model, federation.data, how.batch_size, shard)
        return {TRAINED: Accuracy().of_test_set(said)}


def _turns(
    federation: Federation,
    strategy: Strategy[Any, Any, Any],
    protocol: Protocol,
    seed: int,
    name: str,
    profile: bool,
) -> Turns:
    turns = Turns(strategy, Sides(federation, protocol, seed), name)
    turns.profile = profile
    return turns


def record_of(known: TurnRecord, bytes_down: int, seconds: float) -> TurnRecord:
    """Complete what :meth:`Turns.local` knows of a turn."""
    places = dict.fromkeys(("bytes_down", "bytes_up", "examples", "seconds"))
    return {**places, **known, "bytes_down": bytes_down, "seconds": seconds}
