"""What all executors are: they do the turns of a round's clients, somewhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

from fedkd.simulation.turns import Answer, Orders, Turns


class Executor(ABC):
    """Does the turns of one run, with the bits that :class:`Serial` gives on the CPU.

    An executor that trains in another way, and agrees to rounding, says so.
    """

    name: str = ""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns

    @abstractmethod
    def answers(self, orders: Orders) -> Iterator[tuple[int, Answer]]:
        """Do the turns of a round's clients; yield ``(client, answer)`` in any order.

        Whatever a strategy's ``local`` raises is raised here: of several clients' the
        first one's in the order of the round.
        """

    def close(self) -> None:  # noqa: B027 - there need be nothing to end
        """End what was started."""


class Serial(Executor):
    """One client after another, in this process."""

    name = "serial"

    def answers(self, orders: Orders) -> Iterator[tuple[int, Answer]]:
        """See :class:`Executor`."""
        for k in orders.round.clients:
            yield k, self.turns.do(k, orders)
