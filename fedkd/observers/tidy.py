"""Runs as tidy CSV: one row a round and metric."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from typing import Any

from fedkd.hookspecs import RunInfo
from fedkd.observers.base import Observer, folder_of

FILE = "rounds.csv"
"""Its name, in the folder of a run."""


class Tidy(Observer):
    """Writes ``rounds.csv`` with the columns ``round``, ``metric`` and ``value``.

    A run that goes on begins the file anew, with the rounds of its checkpoint.
    """

    def begin(self, run: RunInfo) -> None:
        """Begin the file with its header."""
        with (folder_of(run) / FILE).open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerow(("round", "metric", "value"))

    def add(self, run: RunInfo, step: int, values: Mapping[str, float]) -> None:
        """Add a row for each number."""
        with (folder_of(run) / FILE).open("a", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows((step, *pair) for pair in values.items())

    def end(self, run: RunInfo, result: Mapping[str, Any]) -> None:
        """Do nothing: all is written."""
