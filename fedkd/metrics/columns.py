"""Columns: where the numbers of a metric stand, and how they are written and compared."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeAlias

Scope: TypeAlias = Literal["global", "local", "clients", "rounds"]
"""Of the whole test set; mean over the clients' shards of it; over the clients' values;
or over the rounds of a run."""

VALIDATION: Final = "validation"
"""What the names of columns begin with that are of validation images: of training images
which no client trains on."""


@dataclass(frozen=True)
class Column:
    """One column of ``results.csv``; its values are under the same key in metrics.jsonl."""

    name: str
    """``global_macro_f1``, ``local_macro_f1``, ``worst_client``."""
    title: str
    """What a page calls it: ``Global macro f1``."""
    about: str
    """What is measured, in a sentence."""
    unit: str
    """Of its values: ``%``, ``nats``, ``rounds``."""
    decimals: int
    """In tables."""
    higher_is_better: bool
    shown: bool
    """Whether it is in ``results.csv``, and so in tables; metrics.jsonl has it anyway."""
    scope: Scope
    reads: tuple[str, ...] = ()
    """The columns that it is made from, if it is of the rounds of a run."""

    half: Literal["", "validation"] = ""
    """What it is measured on: ``""`` for the test set."""

    def on_validation(self) -> Column:
        """Return the column of the same metric on validation images."""
        title = f"{VALIDATION.capitalize()} {self.title[0].lower()}{self.title[1:]}"
        return replace(
            self,
            name=f"{VALIDATION}_{self.name}",
            title=title,
            about=self.about.replace("test image", f"{VALIDATION} image"),
            half=VALIDATION,
        )

    @property
    def by_round(self) -> bool:
        """Whether it says how good a round is, so that a curve means something."""
        return self.scope != "rounds"

    def value(self, line: Mapping[str, Any]) -> float | None:
        """Return the number of a line of metrics.jsonl; of several, by class, their mean.

        Classes without a number are left out; None if there is no number at all.
        """
        value = line.get(self.name)
        if not isinstance(value, list):
            return value
        numbers = [number for number in value if number is not None]
        return statistics.fmean(numbers) if numbers else None

    def reaches(self, value: float, target: float) -> bool:
        """Say whether a value is as good as a target, or better."""
        return value >= target if self.higher_is_better else value <= target
