"""Reads two results and compares them, for the command and for Python alike."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

from fedkd.base.bounds import refuse_links_outside
from fedkd.base.folders import ResultsFolder
from fedkd.base.sealed import changed_text
from fedkd.base.sums import changed
from fedkd.errors import ConfigError
from fedkd.report.results import Row, read_results
from fedkd.report.stats.comparison import Comparison, compare
from fedkd.report.stats.intervals import LEVEL

THRESHOLD = 1.0
"""Percentage points that a mean may lose, unless something else is asked for."""


def compared(
    before: tuple[str, Sequence[Row]],
    after: tuple[str, Sequence[Row]],
    *,
    threshold: float = THRESHOLD,
    level: float = LEVEL,
) -> Comparison:
    """Compare two results that have cells in common.

    Args:
        before: What messages call the results that are held to, and their rows.
        after: The same of those that are judged.
        threshold: Percentage points of a mean that may be lost.
        level: Confidence of the intervals.

    Raises:
        ConfigError: If they have no cell in common.
    """
    (old, held_to), (new, judged) = before, after
    comparison = compare(held_to, judged, threshold=threshold, level=level)
    if not comparison.changes and set(comparison.lost.values()) <= {"missing"}:
        raise ConfigError(
            f"{old} and {new} have no cell in common; expected results of one suite: "
            "equal strategies, data sets, partitions, models and numbers of clients."
        )
    return comparison


def read_place(place: Path) -> list[Row]:
    """Return the rows of a results folder, or of a file of results.

    Raises:
        ConfigError: If it is neither.
        DataError: If the file is damaged.
    """
    refuse_links_outside(place)
    path = ResultsFolder(place).results if place.is_dir() else place
    if not path.is_file():
        raise ConfigError(
            f"{place} holds no results; expected a results folder of 'fedkd bench', such "
            f"as runs/quick, or its file {ResultsFolder(place).results.name}."
        )
    for file in changed(path.parent):
        if file.name == path.name:
            warnings.warn(changed_text(file), RuntimeWarning, stacklevel=2)
    return read_results(path)
