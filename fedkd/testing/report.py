"""All checks of a plug-in at once, and their count."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from fedkd.errors import place_of
from fedkd.testing.checks import STRATEGY_CHECKS
from fedkd.testing.foreign import raised
from fedkd.testing.runs import NotApplicable

Check: TypeAlias = Callable[[Any, Path], None]
"""``check(make, folder)``: a promise."""


@dataclass(frozen=True)
class Report:
    """What became of every check."""

    kept: tuple[str, ...]
    """Names of the checks that passed."""
    broken: dict[str, str]
    """By name: which promise was broken, and where."""
    not_applicable: dict[str, str]
    """By name: why the check does not apply."""

    @property
    def findings(self) -> dict[str, list[str]]:
        """What is wrong, a sentence each, with the names of the checks that say it."""
        found: dict[str, list[str]] = {}
        for name, why in self.broken.items():
            found.setdefault(why, []).append(name)
        return found

    @property
    def count(self) -> str:
        """How many promises are kept, are broken and do not apply."""
        return (
            f"{len(self.kept)} promises kept, {len(self.broken)} broken, "
            f"{len(self.not_applicable)} that do not apply"
        )

    def __str__(self) -> str:
        """Return a line for each fault and each check that does not apply, and the count.

        A run that cannot go on breaks many promises at once, which is said once.
        """
        lines = [f"BROKEN {', '.join(n)}: {why}" for why, n in self.findings.items()]
        for name, why in self.not_applicable.items():
            lines.append(f"does not apply: {name}: {why}")
        return "\n".join([*lines, self.count])


def report(
    make: Callable[..., Any],
    checks: Sequence[Check] = STRATEGY_CHECKS,
    folder: Path | None = None,
) -> Report:
    """Hold a strategy, or with its checks another thing, against every promise.

    Args:
        make: Makes it: its class, or a function.
        checks: The promises of its kind.
        folder: Where the files of a data set are; an empty folder for each check if
            None.
    """
    kept: list[str] = []
    broken: dict[str, str] = {}
    not_applicable: dict[str, str] = {}
    for check in checks:
        name = check.__name__
        with tempfile.TemporaryDirectory() as empty:
            try:
                check(make, folder or Path(empty))
                kept.append(name)
            except NotApplicable as reason:
                not_applicable[name] = str(reason)
            except AssertionError as fault:
                # An assertion of the plug-in's own says where it was raised.
                broken[name] = raised(name, fault) if place_of(fault) else str(fault)
            except Exception as error:
                broken[name] = raised(name, error)
    return Report(tuple(kept), broken, not_applicable)
