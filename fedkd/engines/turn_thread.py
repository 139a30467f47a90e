"""A turn in a thread of its own, which works only while the main thread waits for it."""

from __future__ import annotations

import contextlib
import contextvars
import ctypes
import threading
import time
from collections.abc import Collection, Hashable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from fedkd.base.phases import WAITING, phase
from fedkd.data.images import ClientData
from fedkd.engines.stacked_training import PendingTraining, Sums, kind_of, stackable
from fedkd.engines.surroundings import ProcessSettings, ThreadSettings
from fedkd.ops.training import (
    TrainingConfig,
    TrainingReport,
    draws_of,
    report_of,
    train,
)
from fedkd.simulation.turns import Answer, Orders, Turns

PATIENCE = 5.0
"""Seconds that a thread which is not wanted any more has to end."""


class Abandoned(BaseException):
    """Ends a turn that nobody waits for any more."""


@dataclass
class Parked:
    """Where a turn has stopped, for its training to be done."""

    pending: PendingTraining
    kind: Hashable
    """Equal for those that can be trained together."""
    sums: Sums | None = None
    """What came of it; None: the turn has to train alone."""


class TurnThread:
    """Has a working model of each architecture for one turn at a time."""

    def __init__(self, turns: Turns, alone: Collection[str]) -> None:
        """Start nothing yet.

        Args:
            turns: The turns of the run.
            alone: Keys of architectures that cannot be trained together; may grow.
        """
        self.turns = turns.beside(self._train)
        self.parked: Parked | None = None
        """Where the turn has stopped; None if it has ended."""
        self.outcome: Answer | BaseException | None = None
        """What the turn gave or raised, once it has ended."""
        self.spec = ""
        """Key of the architecture of the turn's client."""
        self._alone = alone
        self._device = turns.sides.federation.device
        self._thread: threading.Thread | None = None
        self._abandoned = False
        self._seconds = 0.0

    def start(self, k: int, orders: Orders) -> None:
        """Start the turn of client ``k``; return when it has parked or ended."""
        self.spec = self.turns.sides.federation.client_models[k].key
        self.parked = self.outcome = None
        self._abandoned = False
        self._seconds = 0.0
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._process = ProcessSettings(self._device)
        self._settings = ThreadSettings.now(self._device)
        run = contextvars.copy_context().run
        self._thread = threading.Thread(
            target=run, args=(self._turn, k, orders), name=f"turn of {k}", daemon=True
        )
        self._thread.start()
        self.go_on()

    def go_on(self) -> None:
        """Let the turn go on; return when it has parked or ended."""
        assert self._thread is not None, "has been started"
        mine = ProcessSettings(self._device)
        self.parked = None
        self._process.restore()
        started = time.perf_counter()
        try:
            self._go.release()
            self._back.acquire()
            self._process = ProcessSettings(self._device)
        except BaseException:
            # Ctrl-C: the turn is in the middle of its work.
            self.abandon()
            raise
        finally:
            mine.restore()
        self._seconds += time.perf_counter() - started
        if self.parked is None:
            self._end()

    def _end(self) -> None:
        if self._thread is not None:
            self._thread.join()
        self._thread = None
        if isinstance(self.outcome, Answer):
            # The clock on the wall went on while others were at work.
            self.outcome.record["seconds"] = round(self._seconds, 4)

    def taken(self) -> Answer | BaseException:
        """Return what the turn, which has ended, gave or raised; keep it no longer."""
        outcome, self.outcome = self.outcome, None
        assert outcome is not None, "has ended"
        return outcome

    def add(self, seconds: float, phases: Mapping[str, float]) -> None:
        """Count the turn's share of what was done for several."""
        self._seconds += seconds
        if self._process.clock is not None:
            self._process.clock.add(phases)

    @contextlib.contextmanager
    def surroundings(self) -> Iterator[None]:
        """Have the settings of the turn, where it has parked, inside the block."""
        mine = ProcessSettings(self._device)
        self._process.restore()
        try:
            with self._settings.entered():
                yield
        finally:
            mine.restore()

    def abandon(self) -> None:
        """End the turn, if it has not ended, wherever it is."""
        thread = self._thread
        if thread is None:
            return
        self._abandoned = True
        ident = ctypes.c_ulong(thread.ident or 0)
        if self.parked is None:
            raised = ctypes.py_object(Abandoned)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, raised)
        self._go.release()
        thread.join(PATIENCE)
        self._thread = None

    def _turn(self, k: int, orders: Orders) -> None:
        """Be the thread."""
        try:
            self._go.acquire()
            with self._settings.entered():
                self.outcome = self.turns.do(k, orders)
        # A strategy's code may raise anything; the main thread raises it again.
        except BaseException as error:
            self.outcome = error
        finally:
            self._back.release()

    def _train(
        self, model: nn.Module, data: ClientData, training: TrainingConfig
    ) -> TrainingReport:
        """Train as :func:`fedkd.ops.training.train`, with others where that can be."""
        possible = torch.is_grad_enabled() and self.spec not in self._alone
        if not possible or not stackable(model):
            return train(model, data, training)
        before = torch.default_generator.get_state()
        with phase("data"):
            pending = PendingTraining(
                model, data, tuple(draws_of(data, training)), training
            )
        sums = self._park(pending)
        if sums is not None:
            return report_of(sums.loss, sums.examples, sums.steps, training)
        torch.default_generator.set_state(before)
        return train(model, data, training)

    def _park(self, pending: PendingTraining) -> Sums | None:
        """Stop until the main thread lets the turn go on."""
        self._settings = ThreadSettings.now(self._device)
        parked = Parked(pending, (self.spec, self._settings, kind_of(pending)))
        with phase(WAITING):
            self.parked = parked
            self._back.release()
            self._go.acquire()
        if self._abandoned:
            raise Abandoned
        return parked.sums
