"""Turns one after another, with plain training steps replayed as CUDA graphs."""

from __future__ import annotations

from fedkd.engines.measured import measured_speed
from fedkd.engines.replayed_training import Replayer
from fedkd.simulation.executors.base import Serial
from fedkd.simulation.turns import Turns


class Graphs(Serial):
    """As :class:`Serial`; a step is captured once and replayed for every client and round.

    On a CPU the steps run in the same static memory and nothing is captured: that proves
    the numbers, and saves nothing.
    """

    name = "graphs"

    def __init__(self, turns: Turns, workers: int = 1, address: str = "local") -> None:
        """Start nothing yet; see :class:`fedkd.simulation.executors.Executor`."""
        self._replayer = Replayer()
        super().__init__(turns.beside(self._replayer), workers, address)

    @classmethod
    def speed(cls, turns: Turns, workers: int) -> float | None:
        """Return what was measured."""
        del workers
        return measured_speed(cls.name, turns)

    def close(self) -> None:
        """Free the graphs and their memory."""
        self._replayer.clear()
