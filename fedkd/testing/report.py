"""All checks of a strategy at once, and their count."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from fedkd.testing.checks import STRATEGY_CHECKS
from fedkd.testing.runs import Factory, NotApplicable


@dataclass(frozen=True)
class Report:
    """What became of every check."""

    kept: tuple[str, ...]
    """Names of the checks that passed."""
    broken: dict[str, str]
    """By name: which promise was broken, and where."""
    not_applicable: dict[str, str]
    """By name: why the check does not apply."""

    def __str__(self) -> str:
        """Return a line for each check that did not pass, and the count."""
        lines = [f"BROKEN {name}: {why}" for name, why in self.broken.items()]
        for name, why in self.not_applicable.items():
            lines.append(f"does not apply: {name}: {why}")
        count = (
            f"{len(self.kept)} promises kept, {len(self.broken)} broken, "
            f"{len(self.not_applicable)} that do not apply"
        )
        return "\n".join([*lines, count])


def report(make: Factory) -> Report:
    """Hold a strategy against every check.

    Args:
        make: Makes the strategy: its class, or a function.
    """
    kept: list[str] = []
    broken: dict[str, str] = {}
    not_applicable: dict[str, str] = {}
    for check in STRATEGY_CHECKS:
        name = check.__name__
        with tempfile.TemporaryDirectory() as folder:
            try:
                check(make, Path(folder))
                kept.append(name)
            except NotApplicable as reason:
                not_applicable[name] = str(reason)
            except AssertionError as fault:
                broken[name] = str(fault)
    return Report(tuple(kept), broken, not_applicable)
