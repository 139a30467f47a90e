"""What all executors are: they do the turns of a round's clients, somewhere."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar

import torch

from fedkd.simulation.turns import Answer, Orders, Turns


class Executor(ABC):
    """Does the turns of one run, with the bits that :class:`Serial` gives on the CPU.

    An executor that trains in another way, and agrees to rounding, says so.
    """

    name: ClassVar[str]
    """What it is registered as; results have it in the column ``engine``."""
    starts_processes: ClassVar[bool] = False
    """Whether it has processes of its own, so that cells cannot run side by side."""

    def __init__(self, turns: Turns, workers: int = 1, address: str = "local") -> None:
        """Start nothing yet; the first round does.

        Args:
            turns: The turns of the run.
            workers: Processes that work, if it starts any.
            address: The cluster that it works on, if it does: ``local`` to start one
                here, ``auto`` to join the one that is there, or where it is.
        """
        self.turns = turns
        self.workers = workers
        self.address = address

    @classmethod
    def check_usable(cls, device: torch.device) -> None:
        """Refuse a machine, or a device that the run is on.

        Raises:
            ConfigError: Saying what it needs.
        """
        del device

    @classmethod
    def speed(cls, turns: Turns, workers: int) -> float | None:
        """Return how many times as fast as ``serial`` it does such a run.

        ``auto`` takes the fastest, and ``serial`` if none is more than once as fast.

        Args:
            turns: The turns of the run; none of them is done yet.
            workers: Processes that may work.

        Returns:
            An estimate; None if nothing is known, or if it cannot do such a run.
        """
        del turns, workers
        return None

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
        """Yield the answers in the order of the round."""
        for k in orders.round.clients:
            yield k, self.turns.do(k, orders)
