"""How methods stand over several data sets: against each baseline, in one table."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from fedkd.report.grouping import GLOBAL
from fedkd.report.results import Row
from fedkd.report.stats.pairs import against
from fedkd.report.summary import Table
from fedkd.report.text import markdown_grid, signed

NOTE = (
    "On how many of the settings in which both have a result a method is above the one "
    "that its column names; then the mean over these settings of the mean difference in "
    "points of global accuracy, paired by seed, and from the least to the greatest. This "
    "is no test: the settings are few, and nobody drew them."
)


def across(rows: Sequence[Row], table: Table, baselines: Sequence[str]) -> str:
    """Return a table of how often and how far methods are above baselines.

    Args:
        rows: Of all settings.
        table: Of their global accuracy.
        baselines: Labels; one is not compared with itself.

    Returns:
        Markdown; nothing of a single data set.
    """
    if len({setting.dataset for setting in table.settings}) < 2:
        return ""
    found: dict[str, dict[str, list[float]]] = {}
    for base in baselines:
        for (label, setting), pair in against(rows, base, GLOBAL).items():
            competes = not table.entries[label, setting].is_of_clients
            if pair.mean is not None and competes and label not in table.references:
                found.setdefault(label, {}).setdefault(base, []).append(pair.mean)
    body = [
        [label, *(_cell(found[label].get(base, [])) for base in baselines)]
        for label in table.strategies
        if label in found
    ]
    header = ["strategy", *(f"above {base}" for base in baselines)]
    return f"{markdown_grid(header, body)}\n\n{NOTE}" if body else ""


def _cell(means: Sequence[float]) -> str:
    """Return ``2 of 7: -1.25 (-4.00 to +0.61)``."""
    if not means:
        return "-"
    decimals = GLOBAL.decimals
    mean, least, most = (
        signed(value, decimals)
        for value in (statistics.fmean(means), min(means), max(means))
    )
    above = sum(value > 0 for value in means)
    return f"{above} of {len(means)}: {mean} ({least} to {most})"
