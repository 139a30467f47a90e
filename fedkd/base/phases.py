"""Where the time of a run goes: seconds of wall clock by phase, none counted twice."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping

PHASES = ("local", "data", "transport", "server", "evaluation", "bookkeeping")
"""Clients' verb; making batches; sealing and moving payloads; the server's verb; measuring;
sampling clients, metrics, checkpoints and observers."""
WAITING = "waiting"
"""For clients' turns, which are measured where they are done; in no result."""


class Phases:
    """A clock with one hand for each phase; a phase within another stops that one's."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        """Args: ``clock`` returns seconds."""
        self.seconds = dict.fromkeys((*PHASES, WAITING), 0.0)
        """Seconds by phase, so far."""
        self._clock = clock
        self._open: list[str] = []
        self._since = 0.0

    def enter(self, name: str) -> None:
        """Start a phase, within the one that runs."""
        self._settle()
        self._open.append(name)

    def leave(self) -> None:
        """End the phase that runs; the one around it goes on."""
        self._settle()
        self._open.pop()

    def add(self, seconds: Mapping[str, float]) -> None:
        """Add what another clock has measured."""
        for name, value in seconds.items():
            self.seconds[name] += value

    def result(self) -> dict[str, float]:
        """Return the seconds of all phases, so far."""
        return {name: round(self.seconds[name], 4) for name in PHASES}

    def _settle(self) -> None:
        now = self._clock()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now


class _Current:
    """The clock that is running in this process; one, one thread works at a time."""

    phases: Phases | None = None


def exchange(phases: Phases | None) -> Phases | None:
    """Let ``phases`` be the clock; return the one that was, for another thread's turn."""
    before = _Current.phases
    _Current.phases = phases
    return before


@contextlib.contextmanager
def measured(phases: Phases | None, name: str) -> Iterator[None]:
    """Let ``phases`` be the clock, starting with phase ``name``; None: no clock."""
    before = _Current.phases
    _Current.phases = phases
    try:
        with phase(name):
            yield
    finally:
        _Current.phases = before


@contextlib.contextmanager
def phase(name: str) -> Iterator[None]:
    """Count what is done here as phase ``name``, if a clock is running."""
    phases = _Current.phases
    if phases is None:
        yield
        return
    phases.enter(name)
    try:
        yield
    finally:
        phases.leave()
