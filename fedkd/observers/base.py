"""What observers share: the rounds before a checkpoint are told again, from the file."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from fedkd.base.folders import RunFolder
from fedkd.errors import ConfigError
from fedkd.hookspecs import RunInfo, hookimpl
from fedkd.simulation.metrics import read_metrics


class Observer(ABC):
    """A logger of runs that is registered by name and hears of them where it is named.

    A subclass says what becomes of a run that begins, of the numbers of a round, and of
    a run that ends. When a run goes on from a checkpoint, its earlier rounds are given
    again, as ``metrics.jsonl`` has them: :meth:`begin` forgets what it had of the run, or
    :meth:`add` leaves out what it has, so that nothing is lost or doubled by a kill.
    One instance hears of one run at a time.
    """

    package: ClassVar[str] = ""
    """The module that it needs; nothing if empty."""
    extra: ClassVar[str] = ""
    """The extra of fedkd, or the distribution, that brings it."""

    def __init__(self) -> None:
        """Look for the package, and import nothing yet.

        Raises:
            ConfigError: If it is not installed.
        """
        if self.package and importlib.util.find_spec(self.package) is None:
            raise ConfigError(
                f"observer {type(self).__name__.lower()!r} needs the package "
                f"{self.package!r}, which is not installed here. Install it: "
                f"pip install {self.extra!r}."
            )

    @hookimpl
    def fedkd_run_started(self, run: RunInfo) -> None:
        """Begin a run, and give the rounds of its checkpoint."""
        with _quiet():
            self.begin(run)
            for line in _before(run):
                self.add(run, line["round"], scalars(line))

    @hookimpl
    def fedkd_round_ended(self, run: RunInfo, metrics: Mapping[str, Any]) -> None:
        """Give the numbers of a round."""
        with _quiet():
            self.add(run, metrics["round"], scalars(metrics))

    @hookimpl
    def fedkd_run_ended(self, run: RunInfo, result: Mapping[str, Any]) -> None:
        """End the run."""
        with _quiet():
            self.end(run, result)

    @abstractmethod
    def begin(self, run: RunInfo) -> None:
        """Open the log of a run; the rounds up to ``run.rounds_done`` follow at once."""

    @abstractmethod
    def add(self, run: RunInfo, step: int, values: Mapping[str, float]) -> None:
        """Log the numbers of round ``step``, from 1, and let them reach the disk."""

    @abstractmethod
    def end(self, run: RunInfo, result: Mapping[str, Any]) -> None:
        """Close the log; ``result`` is the run's row of ``results.csv``."""


def folder_of(run: RunInfo) -> Path:
    """Return the folder of a run.

    Raises:
        ConfigError: If the run writes nothing.
    """
    if run.folder is None:
        raise ConfigError("found a run without a folder; give it one to log to.")
    return run.folder


def identity(run: RunInfo) -> str:
    """Return a name for a run that no run of another results folder has.

    Letters, digits, points, hyphens and underscores only.
    """
    plain = "".join(c if c.isalnum() or c in ".-_" else "-" for c in run.run_id)
    where = hashlib.sha256(str(folder_of(run).resolve()).encode()).hexdigest()[:8]
    return f"{plain[:100]}-{where}"


def scalars(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a line of ``metrics.jsonl``, by name.

    Those that the strategy logged are called ``logged/NAME``, and accuracies of other
    models ``measured/NAME``. What was not measured in the round, is not finite, or is of
    single clients or classes is left out.
    """
    inner = {
        f"{group}/{name}": value
        for group in ("logged", "measured")
        for name, value in (metrics.get(group) or {}).items()
    }
    numbers = {**metrics, **inner}
    return {
        name: float(value)
        for name, value in numbers.items()
        if name != "round" and _is_number(value)
    }


def flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of a tree of options with its path: ``training.lr``."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what packages warn of, among themselves, out of the log of a run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _is_number(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)


def _before(run: RunInfo) -> list[dict[str, Any]]:
    """Return the lines of the rounds before the first one that is run now."""
    if not run.rounds_done:
        return []
    return read_metrics(RunFolder(folder_of(run)))[: run.rounds_done]
