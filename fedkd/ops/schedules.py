"""How a learning rate moves: one formula for clients and servers."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import count, islice
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, model_validator

from fedkd.config import Config

Rates: TypeAlias = dict[Annotated[int, Field(ge=0)], Annotated[float, Field(gt=0)]]
"""Learning rates above 0, by the time from which they hold."""


class Schedule(Config):
    """A learning rate over time t = 0, 1, 2, ...; constant by default.

    ``lr(t) = base(t) * decay^t``, where base is the rate given or one of ``rates``; or,
    with ``cosine``, ``lr(t) = lr (1 + cos(pi t / cosine)) / 2``, which is 0 from then on.
    """

    decay: float = Field(1.0, gt=0, le=1)
    """Factor on the rate per unit of time."""
    rates: Rates = Field(default_factory=dict)
    """Rates that take over from a time on, from 0: ``{60: 0.001}``."""
    cosine: int | None = Field(None, ge=1)
    """Units of time in which the rate falls to zero by a cosine; None for no cosine."""
    per: Literal["round", "step"] = "round"
    """What time counts: optimiser steps, which an optimiser counts by itself, or what its
    user calls :meth:`fedkd.ops.optimisers.Stepper.advance` for, a round or an epoch."""

    @model_validator(mode="after")
    def _cosine_alone(self) -> Schedule:
        if self.cosine is not None and (self.decay != 1 or self.rates):
            raise ValueError(
                "expected either cosine or decay and rates, found "
                f"cosine={self.cosine}, decay={self.decay:g} and rates={self.rates}"
            )
        return self

    def rate(self, lr: float, time: int) -> float:
        """Return the rate at ``time``, from 0, of one that starts at ``lr``."""
        if self.cosine is not None:
            return next(islice(_cosine(lr, self.cosine), time, None))
        started = [first for first in self.rates if first <= time]
        base = self.rates[max(started)] if started else lr
        return base * self.decay**time

    def course(self, lr: float, time: int = 0) -> Iterator[float]:
        """Yield the rates from ``time`` on, without end."""
        if self.cosine is not None:
            return islice(_cosine(lr, self.cosine), time, None)
        return (self.rate(lr, t) for t in count(time))


def _cosine(lr: float, total: int) -> Iterator[float]:
    """Yield lr (1 + cos(pi t / total)) / 2 for t = 0, 1, ...; zero from ``total`` on.

    Each rate is the last one times a quotient, as torch's ``CosineAnnealingLR`` has it:
    equal to that to the bit.
    """
    for t in range(1, total + 1):
        yield lr
        above = 1 + math.cos(math.pi * t / total)
        lr = above / (1 + math.cos(math.pi * (t - 1) / total)) * lr
    while True:
        yield 0.0
