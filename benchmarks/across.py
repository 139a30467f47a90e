"""How methods stand over several data sets: against each baseline, in one table."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from fedkd.errors import counted
from fedkd.report.grouping import GLOBAL
from fedkd.report.results import Row
from fedkd.report.stats.intervals import LEAST_SEEDS
from fedkd.report.stats.pairs import Pair, against
from fedkd.report.summary import Table
from fedkd.report.text import markdown_grid, signed

NOTE = (
    "On how many of the settings in which both have a result a method is above the one "
    "that its column names; then the mean over these settings of the mean difference in "
    "points of global accuracy, paired by seed, and from the least to the greatest. This "
    "is no test: the settings are few, and nobody drew them."
)

IN_WORDS = (
    f"In words, of the settings that have {LEAST_SEEDS} seeds or more, which an interval "
    "takes:"
)


def across(rows: Sequence[Row], table: Table, baselines: Sequence[str]) -> str:
    """Return how often and how far methods are above baselines: a table, and in words.

    Args:
        rows: Of all settings.
        table: Of their global accuracy.
        baselines: Labels; one is not compared with itself.

    Returns:
        Markdown; nothing of a single data set.
    """
    if len({setting.dataset for setting in table.settings}) < 2:
        return ""
    found: dict[str, dict[str, list[Pair]]] = {}
    for base in baselines:
        for (label, setting), pair in against(rows, base, GLOBAL).items():
            competes = not table.entries[label, setting].is_of_clients
            if pair.n and competes and label not in table.references:
                found.setdefault(label, {}).setdefault(base, []).append(pair)
    labels = [label for label in table.strategies if label in found]
    if not labels:
        return ""
    body = [
        [label, *(_cell(found[label].get(base, [])) for base in baselines)]
        for label in labels
    ]
    header = ["strategy", *(f"above {base}" for base in baselines)]
    lines = [
        line
        for base in baselines
        if (line := _in_words(base, {la: found[la].get(base, []) for la in labels}))
    ]
    words = [f"{IN_WORDS}\n\n" + "\n".join(lines)] if lines else []
    return "\n\n".join([markdown_grid(header, body), NOTE, *words])


def _cell(pairs: Sequence[Pair]) -> str:
    """Return ``2 of 7: -1.25 (-4.00 to +0.61)``."""
    means = [pair.mean for pair in pairs if pair.mean is not None]
    if not means:
        return "-"
    decimals = GLOBAL.decimals
    mean, least, most = (
        signed(value, decimals)
        for value in (statistics.fmean(means), min(means), max(means))
    )
    above = sum(value > 0 for value in means)
    return f"{above} of {len(means)}: {mean} ({least} to {most})"


def _in_words(base: str, pairs: Mapping[str, Sequence[Pair]]) -> str:
    """Return on how many settings methods are separated from a baseline.

    Args:
        base: The baseline.
        pairs: What each method has above it, a setting each, by label.

    Returns:
        An item of a list; nothing if no setting has an interval.
    """
    tested = {
        label: several
        for label, every in pairs.items()
        if (several := [pair for pair in every if pair.interval is not None])
    }
    if not tested:
        return ""
    never = [
        f"`{label}`"
        for label, several in tested.items()
        if not any(pair.side for pair in several)
    ]
    comparisons = sum(map(len, tested.values()))
    return (
        f"- separated above `{base}`: {_those(tested, 1)}; below it: "
        f"{_those(tested, -1)}; on no setting: {', '.join(never) or 'nobody'}. "
        f"{by_chance(comparisons)}"
    )


def by_chance(comparisons: int) -> str:
    """Return how many of some comparisons chance alone would separate, as a sentence."""
    return (
        f"Of {counted(comparisons, 'comparison')} at 95 %, {comparisons * 0.05:.2g} would "
        "leave 0 by chance alone."
    )


def _those(tested: Mapping[str, Sequence[Pair]], side: int) -> str:
    """Return the methods on one side of a baseline, who is there most often first."""
    counts = {
        label: (sum(pair.side == side for pair in several), len(several))
        for label, several in tested.items()
    }
    ordered = sorted(counts.items(), key=lambda item: -item[1][0])
    shown = [f"`{label}` on {n} of {of}" for label, (n, of) in ordered if n]
    return ", ".join(shown) or "nobody"
