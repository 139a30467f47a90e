"""Metrics over the rounds: what it takes to reach a target, what a round has reached."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field

from fedkd.config import Config
from fedkd.errors import ConfigError
from fedkd.metrics.base import Line, Metric
from fedkd.metrics.columns import Column


class TargetConfig(Config):
    """Options of metrics that say when a target is reached."""

    target: float
    """The value to be reached, in the unit of what is watched: 80 is 80 % accuracy."""
    of: str = "global_accuracy"
    """What is watched: a column that the run measures, such as ``local_accuracy`` or
    ``global_loss``. Its own direction says whether it has to rise or to fall."""


class _ToTarget(Metric):
    """What it takes to reach a target; what is counted is open."""

    Config = TargetConfig
    higher_is_better = False
    decimals = 0

    @abstractmethod
    def until(self, line: Line) -> int:
        """Return what the rounds up to that of a line have taken."""

    def of_rounds(
        self, lines: Sequence[Line], columns: Mapping[str, Column]
    ) -> int | None:
        """Return what it takes until a round is as good as the target."""
        line = _first(lines, columns[self.config.of], self.config.target)
        return None if line is None else self.until(line)

    def reads(self) -> tuple[str, ...]:
        """Return what is watched."""
        return (self.config.of,)

    def check(self, columns: Mapping[str, Column]) -> None:
        """Refuse a target that no run can reach or miss.

        Raises:
            ConfigError: If what is watched is in percent and the target is not.
        """
        watched, target = columns[self.config.of], self.config.target
        if watched.unit == "%" and not 0 <= target <= 100:
            raise ConfigError(
                f"target: found {target:g}, expected a value from 0 to 100, for "
                f"{watched.name} is in percent."
            )


class RoundsTo(_ToTarget):
    """Rounds until a target is reached for the first time.

    Only rounds that were measured count. There is no value where the run does not
    reach the target.
    """

    unit = "rounds"
    # Of several seeds the mean is no whole number, and 1, 2, 2 would be 2 ± 1.
    decimals = 1

    def until(self, line: Line) -> int:
        """Return the number of the round, from 1."""
        return int(line["round"])


class BytesTo(_ToTarget):
    """Bytes sent, up and down, until a target is reached for the first time.

    They are those of all clients, in all rounds up to the first measured one that is as
    good as the target. There is no value where the run does not reach it.
    """

    unit = "bytes"

    def until(self, line: Line) -> int:
        """Return the bytes sent so far, both ways."""
        return int(line["bytes_up"] + line["bytes_down"])


class AfterConfig(Config):
    """Options of the accuracy after a number of rounds."""

    rounds: int = Field(ge=1)
    """The rounds after which it is read."""
    of: Literal["global_accuracy", "local_accuracy"] = "global_accuracy"
    """Which accuracy."""


class AccuracyAfter(Metric):
    """Accuracy after a number of rounds, on test images.

    It shows whether a run had converged by then; the result of a run is that of its
    last round. There is no value where the run is shorter, or was not measured then.
    """

    Config = AfterConfig

    def of_rounds(
        self, lines: Sequence[Line], columns: Mapping[str, Column]
    ) -> float | None:
        """Return the accuracy of one round in percent."""
        column = columns[self.config.of]
        at = (line for line in lines if line["round"] == self.config.rounds)
        line = next(at, None)
        return None if line is None else column.value(line)

    def reads(self) -> tuple[str, ...]:
        """Return what is read."""
        return (self.config.of,)


def _first(lines: Sequence[Line], column: Column, target: float) -> Line | None:
    """Return the first line whose value is as good as a target; None if none is."""
    for line in lines:
        value = column.value(line)
        if value is not None and column.reaches(value, target):
            return line
    return None
