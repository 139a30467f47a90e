"""Who is hit by a fault: the same clients in the same rounds for every strategy."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping

import numpy as np

from fedkd.base.randomness import numpy_stream
from fedkd.errors import ConfigError
from fedkd.ops.training import TrainingConfig, steps_of
from fedkd.simulation.faults.config import PREFIX, FaultConfig, ShareConfig
from fedkd.simulation.faults.files import FileConfig, rows_of
from fedkd.strategy import Round

SPANS = ("client", "first", "last")
"""The first line of an availability file."""


class Plan:
    """Who is hit when; a function of faults, seed and round alone."""

    def __init__(self, faults: FaultConfig, seed: int, clients: int) -> None:
        """Draw nothing yet.

        Args:
            faults: What goes wrong.
            seed: Of the run; the streams are ``(seed, "faults", kind, round, client)``,
                and without the round for clients that are drawn once.
            clients: How many there are.
        """
        self.faults = faults
        self._seed = seed
        self._clients = clients

    def hit(self, kind: str, round: Round) -> frozenset[int]:
        """Return the clients of a round that a fault hits; none where it is not asked."""
        fault = getattr(self.faults, kind)
        if fault is None:
            return frozenset()
        if getattr(fault, "drawn", "run") == "run":
            return self.malicious(kind) & frozenset(round.clients)
        name = (self._seed, PREFIX, kind, round.index)
        return drawn(name, round.clients, fault.share)

    def malicious(self, kind: str) -> frozenset[int]:
        """Return the clients that a fault hits throughout the run."""
        fault: ShareConfig | None = getattr(self.faults, kind)
        if fault is None:
            return frozenset()
        name = (self._seed, PREFIX, kind)
        return drawn(name, tuple(range(self._clients)), fault.share)

    def training(
        self, k: int, images: int, round: Round, training: TrainingConfig
    ) -> TrainingConfig:
        """Return the local training of a client, which may do a part of it.

        Args:
            k: The client.
            images: How many it has in the round.
            round: The round.
            training: Of all clients.
        """
        straggle = self.faults.straggle
        if straggle is None or k not in self.hit("straggle", round):
            return training
        # 0.29 of 100 is below 29 in floats, and stands for it.
        exact = straggle.work * steps_of(training, images)
        steps = max(1, math.floor(exact + 1e-9))
        return training.model_copy(update={"local_steps": steps, "local_epochs": None})

    def available(self, index: int) -> tuple[int, ...] | None:
        """Return the clients that can be sampled in a round; None for all of them.

        Raises:
            ConfigError: If the file names a client that there is not, or a span that ends
                before it begins.
        """
        trace = self.faults.availability
        if trace is None:
            return None
        spans = spans_of(trace, self._clients)
        here = (
            k
            for k, own in spans.items()
            if any(first <= index + 1 <= last for first, last in own)
        )
        return tuple(sorted(here))


@functools.lru_cache(maxsize=64)
def drawn(
    name: tuple[int | str, ...], clients: tuple[int, ...], share: float
) -> frozenset[int]:
    """Return a share of some clients: those with the smallest draws.

    Each draws from the stream of the name and its number, so that it does not hang on
    who else is there. How many they are is drawn from the stream of the name where the
    share of them is no whole number.
    """
    exact = round(share * len(clients), 9)
    number = math.floor(exact + numpy_stream(*name).random())
    luck = {k: numpy_stream(*name, k).random() for k in clients}
    return frozenset(sorted(clients, key=luck.__getitem__)[:number])


@functools.lru_cache(maxsize=4)
def spans_of(
    trace: FileConfig, clients: int
) -> Mapping[int, tuple[tuple[int, int], ...]]:
    """Return the rounds, from 1, in which each client can be sampled: first and last.

    Raises:
        ConfigError: As :meth:`Plan.available`.
    """
    spans: dict[int, tuple[tuple[int, int], ...]] = {}
    rows = np.asarray(rows_of(trace.file, trace.sha256, SPANS)).reshape(-1, len(SPANS))
    for k, first, last in rows:
        are_whole = not any(v % 1 for v in (k, first, last))
        if not k < clients or not 1 <= first <= last or not are_whole:
            raise ConfigError(
                f"{trace.file}: found client {k:g} from round {first:g} to "
                f"{last:g}, expected a client from 0 to {clients - 1}, and rounds from 1 "
                "on, the first of them first; whole numbers all."
            )
        spans[int(k)] = (*spans.get(int(k), ()), (int(first), int(last)))
    return spans
