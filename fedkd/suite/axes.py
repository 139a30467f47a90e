"""Lists where one value is expected: each is an axis of the grid."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from fedkd.base.runname import Axes
from fedkd.errors import ConfigError
from fedkd.simulation.faults.config import faults_text
from fedkd.simulation.protocol import Protocol

FAULTS = "faults"
"""May be an axis itself, and so may the keys below it."""
NESTED = ("training", "evaluation", "public", "accept", "clock", FAULTS)
"""Keys of a suite that have keys below them, each of which may be an axis."""
MOST_POINTS = 1000
"""Points of the axes of a suite; at each, the whole of it is checked."""
PLAIN = (
    *(key for key in Protocol.model_fields if key not in NESTED),
    "validation",
    FAULTS,
)
"""Keys that may be an axis themselves."""

AxisValues: TypeAlias = dict[str, list[Any]]
"""What an axis goes through, by its path: ``{"training.lr": [0.01, 0.05]}``."""


def axes_of(values: Mapping[str, Any], where: str) -> AxisValues:
    """Return the axes of a suite: what has a list where one value is expected.

    Args:
        values: Of the suite, by key.
        where: How messages call it.

    Raises:
        ConfigError: If a list is empty, or has a value twice.
    """
    axes = {key: values[key] for key in PLAIN if isinstance(values.get(key), list)}
    for key in NESTED:
        inner = values.get(key)
        for name, value in inner.items() if isinstance(inner, Mapping) else ():
            # Of another name build says that it is no key.
            if isinstance(value, list) and str(name).isidentifier():
                axes[f"{key}.{name}"] = value
    for path, several in axes.items():
        texts = [axis_text(value, path) for value in several]
        if not several or len(set(texts)) < len(texts):
            raise ConfigError(
                f"{where}: {path}: found {several!r}, expected one value, or a list of "
                "different ones, each of which the grid goes through."
            )
    require_few((len(several) for several in axes.values()), where)
    return axes


def require_few(lengths: Iterable[int], where: str, most: int = MOST_POINTS) -> None:
    """Refuse a grid that a few lists would make larger than anybody can run.

    Args:
        lengths: Of the lists, each with each other.
        where: What messages call the suite, or the thing in it.
        most: Points that there may be.

    Raises:
        ConfigError: If there are more.
    """
    number = math.prod(lengths)
    if number > most:
        raise ConfigError(
            f"{where}: found lists that make {number:,} points of a grid, expected at most "
            f"{most:,}; make them shorter, or several suites of one."
        )


def points_of(
    values: Mapping[str, Any], axes: AxisValues
) -> Iterator[tuple[Axes, dict[str, Any]]]:
    """Yield each point of the axes, in words, and the values of the suite there."""
    for point in itertools.product(*axes.values()):
        there = dict(values)
        for path, value in zip(axes, point, strict=True):
            there = with_value(there, path, unlabelled(value, path))
        words = ((p, axis_text(v, p)) for p, v in zip(axes, point, strict=True))
        yield tuple(words), there


def unlabelled(value: Any, path: str) -> Any:
    """Return a value of an axis without what tables call it."""
    if path != FAULTS or not isinstance(value, Mapping):
        return value
    return {key: one for key, one in value.items() if key != "label"}


def with_value(values: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return values with another one at a path, ``rounds`` or ``training.lr``."""
    key, _, below = path.partition(".")
    if not below:
        return {**values, key: value}
    # What a suite leaves at its default may be written as nothing at all.
    return {**values, key: with_value(values.get(key) or {}, below, value)}


def axis_text(value: Any, path: str = "") -> str:
    """Return a value of the axis at a path as results have it: ``0.05``, ``none``."""
    if path == FAULTS:
        return faults_text(value)
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value)
