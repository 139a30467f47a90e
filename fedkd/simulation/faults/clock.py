"""Simulated time: how long clients would take to compute and to send."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from fedkd.base.randomness import numpy_stream
from fedkd.config import Config
from fedkd.errors import ConfigError
from fedkd.simulation.faults.files import FileConfig, rows_of, with_checksum

SECONDS = "simulated_seconds"
"""Key of a round's line and column of results.csv."""
DEVICES = ("client", "compute", "bandwidth")
"""The first line of a file of devices."""


class LognormalConfig(Config):
    """Speeds whose logarithms are normal."""

    median: float = Field(gt=0)
    """The speed that half of the clients reach."""
    sigma: float = Field(ge=0, le=10)
    """Standard deviation of the natural logarithm."""


class UniformConfig(Config):
    """Speeds between two."""

    low: float = Field(gt=0)
    """The smallest."""
    high: float = Field(gt=0)
    """The largest."""

    @model_validator(mode="after")
    def _in_order(self) -> UniformConfig:
        if self.high < self.low:
            raise ValueError("high is below low; exchange them")
        return self


class SpeedConfig(Config):
    """How fast clients are: one speed for all, or a draw for each."""

    value: float | None = Field(None, gt=0)
    """That of all clients; a number alone stands for it."""
    lognormal: LognormalConfig | None = None
    """``{lognormal: {median: 100, sigma: 1}}``."""
    uniform: UniformConfig | None = None
    """``{uniform: {low: 50, high: 200}}``."""

    @model_validator(mode="after")
    def _exactly_one(self) -> SpeedConfig:
        given = [n for n in type(self).model_fields if getattr(self, n) is not None]
        if len(given) != 1:
            raise ValueError(
                f"expected a number, lognormal or uniform, found {given or 'none'}"
            )
        return self

    def of(self, *name: int | str) -> float:
        """Return the speed that is drawn from a named stream."""
        rng = numpy_stream(*name)
        if self.lognormal is not None:
            spread = math.exp(self.lognormal.sigma * rng.standard_normal())
            return self.lognormal.median * spread
        if self.uniform is not None:
            return float(rng.uniform(self.uniform.low, self.uniform.high))
        assert self.value is not None, "exactly one is given"
        return self.value


def _speed(value: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return {"value": value} if is_number else value


class ClockConfig(Config):
    """What simulated time is made of: both speeds, or a file of devices."""

    compute: Annotated[SpeedConfig | None, BeforeValidator(_speed)] = None
    """Images a second that a client trains on."""
    bandwidth: Annotated[SpeedConfig | None, BeforeValidator(_speed)] = None
    """Bytes a second that a client sends or receives."""
    devices: Annotated[FileConfig | None, BeforeValidator(with_checksum)] = None
    """A CSV file with a line for each client: ``client,compute,bandwidth``."""

    @model_validator(mode="after")
    def _both_or_file(self) -> ClockConfig:
        speeds = [s is not None for s in (self.compute, self.bandwidth)]
        if any(speeds) == (self.devices is not None) or any(speeds) != all(speeds):
            raise ValueError(
                "expected compute and bandwidth, or devices, a file of both"
            )
        return self

    def speeds(self, seed: int, k: int) -> tuple[float, float]:
        """Return images and bytes a second of a client.

        Args:
            seed: Of the run; the streams are ``(seed, "clock", "compute", client)`` and
                ``(seed, "clock", "bandwidth", client)``.
            k: The client.

        Raises:
            ConfigError: If the file of devices lacks it, has a speed of 0, or has two
                lines for a client.
        """
        if self.devices is not None:
            return _device(self.devices, k)
        assert self.compute is not None, "the validator has seen both"
        assert self.bandwidth is not None, "the validator has seen both"
        return (
            self.compute.of(seed, "clock", "compute", k),
            self.bandwidth.of(seed, "clock", "bandwidth", k),
        )

    def check(self, clients: int) -> None:
        """Refuse a file of devices that lacks one of the clients.

        Raises:
            ConfigError: As :meth:`speeds`.
        """
        for k in range(clients if self.devices is not None else 0):
            self.speeds(0, k)

    def seconds(self, seed: int, k: int, record: Mapping[str, Any]) -> float:
        """Return how long a client's turn takes.

        Args:
            seed: Of the run.
            k: The client.
            record: What was counted: ``examples``, ``bytes_up`` and ``bytes_down``.
        """
        compute, bandwidth = self.speeds(seed, k)
        moved = record["bytes_up"] + record["bytes_down"]
        return float(record["examples"] / compute + moved / bandwidth)


def _device(devices: FileConfig, k: int) -> tuple[float, float]:
    known = _devices(devices)
    if k not in known or not all(known[k]):
        raise ConfigError(
            f"{devices.file}: found {known.get(k, 'no line')} for client {k}, expected a "
            "line with two speeds above 0."
        )
    return known[k]


@functools.lru_cache(maxsize=4)
def _devices(devices: FileConfig) -> dict[int, tuple[float, float]]:
    known: dict[int, tuple[float, float]] = {}
    for k, compute, bandwidth in rows_of(devices.file, devices.sha256, DEVICES):
        if k % 1 or int(k) in known:
            found = f"two lines for client {k:g}" if k in known else f"client {k:g}"
            raise ConfigError(
                f"{devices.file}: found {found}, expected one line for each client, and "
                "whole numbers for clients."
            )
        known[int(k)] = (compute, bandwidth)
    return known
