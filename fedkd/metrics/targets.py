"""Metrics over the rounds: what it takes to reach a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fedkd.config import Config
from fedkd.metrics.base import Line, Metric
from fedkd.metrics.columns import Column


class TargetConfig(Config):
    """Options of metrics that say when a target is reached."""

    target: float
    """The value to be reached, in the unit of what is watched: 80 is 80 % accuracy."""
    of: str = "global_accuracy"
    """What is watched: a column that the run measures, such as ``local_accuracy`` or
    ``global_loss``. Its own direction says whether it has to rise or to fall."""


class RoundsTo(Metric):
    """Rounds until a target is reached for the first time.

    Only rounds that were measured count. There is no value where the run does not
    reach the target.
    """

    Config = TargetConfig
    unit = "rounds"
    higher_is_better = False
    decimals = 0

    def of_rounds(
        self, lines: Sequence[Line], columns: Mapping[str, Column]
    ) -> int | None:
        """Return the first round, from 1, that is as good as the target."""
        line = _first(lines, columns[self.config.of], self.config.target)
        return None if line is None else int(line["round"])

    def reads(self) -> tuple[str, ...]:
        """Return what is watched."""
        return (self.config.of,)


class BytesTo(Metric):
    """Bytes sent, up and down, until a target is reached for the first time.

    They are those of all clients, in all rounds up to the first measured one that is as
    good as the target. There is no value where the run does not reach it.
    """

    Config = TargetConfig
    unit = "bytes"
    higher_is_better = False
    decimals = 0

    def of_rounds(
        self, lines: Sequence[Line], columns: Mapping[str, Column]
    ) -> int | None:
        """Return the bytes up to the first round that is as good as the target."""
        line = _first(lines, columns[self.config.of], self.config.target)
        return None if line is None else int(line["bytes_up"] + line["bytes_down"])

    def reads(self) -> tuple[str, ...]:
        """Return what is watched."""
        return (self.config.of,)


def _first(lines: Sequence[Line], column: Column, target: float) -> Line | None:
    """Return the first line whose value is as good as a target; None if none is."""
    for line in lines:
        value = column.value(line)
        if value is not None and column.reaches(value, target):
            return line
    return None
