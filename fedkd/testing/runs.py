"""Toy runs of a strategy, in a world that suits it."""

from __future__ import annotations

import functools
import unittest
from collections.abc import Callable
from typing import Any, TypeAlias

from fedkd.errors import ContractError
from fedkd.simulation.federation import Federation
from fedkd.simulation.protocol import Protocol
from fedkd.simulation.requirements import fitted
from fedkd.simulation.sides import Sides
from fedkd.simulation.simulator import Run, RunResult, simulate
from fedkd.strategy import Round
from fedkd.testing.record import Record
from fedkd.testing.toys import toy_federation, toy_protocol
from fedkd.testing.watching import AnyStrategy, watched

Factory: TypeAlias = Callable[[], AnyStrategy]
ROUNDS = 3


class NotApplicable(unittest.SkipTest):
    """A check does not apply to a strategy; says why. In pytest and unittest: a skip."""


def world_for(
    strategy: AnyStrategy, rounds: int = ROUNDS, participation: float | int = 1.0
) -> tuple[Federation, Protocol]:
    """Return the toy world, with a buffer policy that the strategy supports."""
    requires = strategy.requires
    policy = "average" if "average" in requires.buffers else requires.buffers[0]
    protocol = toy_protocol(rounds, participation=participation, buffers=policy)
    return toy_federation(), protocol


def run(
    strategy: AnyStrategy,
    *,
    seed: int = 0,
    rounds: int = ROUNDS,
    participation: float | int = 1.0,
    **options: Any,
) -> RunResult:
    """Run a strategy on the toy world.

    Raises:
        AssertionError: If the simulator refuses what the strategy does.
    """
    federation, protocol = world_for(strategy, rounds, participation)
    try:
        return simulate(strategy, federation, protocol, seed, **options)
    except ContractError as error:
        raise AssertionError(str(error)) from error


@functools.lru_cache(maxsize=64)
def recorded(
    make: Factory, seed: int = 0, leftover: float | None = None, backwards: bool = False
) -> Record:
    """Run a strategy and record it; once for each of these arguments.

    Args:
        make: Makes the strategy.
        seed: Of the run.
        leftover: Fills the working models before each call; None for what is in them.
        backwards: Whether the clients of a round take their turns in descending order.

    Raises:
        AssertionError: If the simulator refuses what the strategy does.
    """
    strategy = make()
    federation, protocol = fitted(strategy, *world_for(strategy), seed, "it")
    record = Record(strategy, federation, leftover)
    sides = Sides(federation, protocol, seed)
    kind = _Backwards if backwards else Run
    toy = kind(watched(strategy, record), sides, type(strategy).__name__.lower())
    try:
        record.result = toy.execute(None, 0, lambda _: None)
    except ContractError as error:
        reasons = dict.fromkeys([*record.faults.values(), str(error)])
        raise AssertionError(" ".join(reasons)) from error
    return record


class _Backwards(Run):
    """A run that visits its clients backwards."""

    def sample(self, index: int) -> Round:
        round = super().sample(index)
        return Round(round.index, round.total, round.clients[::-1])
