"""Reads two results and compares them, for the command and for Python alike."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedkd.base import yamlfile
from fedkd.base.folders import ResultsFolder, RunFolder, refuse_links_out_of
from fedkd.base.sealed import changed_text
from fedkd.base.sums import changed
from fedkd.errors import ConfigError, DataError, FedKDError
from fedkd.report.results import Row, read_results
from fedkd.report.rows.merging import merge_results
from fedkd.report.stats.comparison import Comparison, compare
from fedkd.report.stats.intervals import LEVEL

THRESHOLD = 1.0
"""Percentage points that a mean may lose, unless something else is asked for."""
NAMES = frozenset({"suite", "label", "run_id", "config_hash", "seed"})
"""Keys of a run's configuration that say what it is called, and those of pairing."""


@dataclass(frozen=True)
class Side:
    """One of two results that are compared."""

    name: str
    """What messages call it."""
    rows: Sequence[Row]
    folders: Mapping[str, RunFolder] = field(default_factory=dict)
    """Where runs are, by ``run_id``, as far as they left folders."""

    def facts(self, row: Row) -> dict[str, Any] | None:
        """Return how a run was configured, by dotted key; None if that is not known."""
        folder = self.folders.get(row.run_id)
        if folder is None or not folder.config.is_file():
            return None
        try:
            config = yamlfile.read_mapping(folder.config, folder.config.name)
        except (OSError, FedKDError):
            return None  # it is damaged, which a report of the folder tells
        plain = {name: value for name, value in config.items() if name not in NAMES}
        # What a suite has at its top stands there under the protocol.
        protocol = plain.pop("protocol", None)
        plain.update(protocol if isinstance(protocol, dict) else {})
        return dict(_flat(plain))


def compared(
    before: Side,
    after: Side,
    *,
    threshold: float = THRESHOLD,
    level: float = LEVEL,
) -> Comparison:
    """Compare two results that have cells in common.

    Args:
        before: The results that are held to.
        after: Those that are judged.
        threshold: Percentage points of a mean that may be lost.
        level: Confidence of the intervals.

    Raises:
        ConfigError: If they have no cell in common.
    """
    comparison = compare(
        before.rows,
        after.rows,
        threshold=threshold,
        level=level,
        facts=(before.facts, after.facts),
    )
    if not comparison.changes and set(comparison.lost.values()) <= {"missing"}:
        raise ConfigError(
            f"{before.name} and {after.name} have no cell in common; expected results of "
            "one suite: equal strategies, data sets, partitions, models and numbers of "
            "clients."
        )
    return comparison


def read_place(place: Path) -> Side:
    """Return the rows of a results folder, or of a file of results.

    Raises:
        ConfigError: If it is neither, or holds two results of one seed.
        DataError: If the file is damaged, or holds no run.
    """
    refuse_links_out_of(place)
    path = ResultsFolder(place).results if place.is_dir() else place
    if not path.is_file():
        raise ConfigError(
            f"{place} holds no results; expected a results folder of 'fedkd bench', such "
            f"as runs/quick, or its file {ResultsFolder(place).results.name}."
        )
    for file in changed(path.parent):
        if file.name == path.name:
            warnings.warn(changed_text(file), RuntimeWarning, stacklevel=2)
    rows, home = read_results(path), ResultsFolder(path.parent)
    if not rows:
        raise DataError(
            f"{path}: found no run, expected a line a run. Run the bench, or go on with it."
        )
    rows = merge_results({str(path): rows})
    return Side(str(place), rows, {row.run_id: home.run(row.run_id) for row in rows})


def _flat(values: Mapping[Any, Any], start: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            # Options are written beside the name that they are of.
            inner = start if name == "options" else f"{start}{name}."
            yield from _flat(value, inner)
        else:
            yield f"{start}{name}", value
