"""How methods stand over several data sets: against each baseline, in one table."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from fedkd.errors import counted
from fedkd.report.grouping import GLOBAL, Setting
from fedkd.report.results import Row
from fedkd.report.stats.intervals import LEAST_EQUAL, LEAST_SEEDS
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
    "In words, of the settings in which any method has an interval, which takes "
    f"{LEAST_SEEDS} seeds in common, or {LEAST_EQUAL} where all differences are equal:"
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
    found: dict[str, dict[str, dict[Setting, Pair]]] = {}
    for base in baselines:
        for (label, setting), pair in against(rows, base, GLOBAL).items():
            competes = not table.entries[label, setting].is_of_clients
            if pair.n and competes and label not in table.references:
                found.setdefault(label, {}).setdefault(base, {})[setting] = pair
    labels = [label for label in table.strategies if label in found]
    if not labels:
        return ""
    body = [
        [label, *(_cell([*found[label].get(base, {}).values()]) for base in baselines)]
        for label in labels
    ]
    header = ["strategy", *(f"above {base}" for base in baselines)]
    lines = [
        line
        for base in baselines
        if (line := _in_words(base, {la: found[la].get(base, {}) for la in labels}))
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


def _in_words(base: str, pairs: Mapping[str, Mapping[Setting, Pair]]) -> str:
    """Return on how many settings methods are separated from a baseline.

    Args:
        base: The baseline.
        pairs: What each method has above it in each setting, by label.

    Returns:
        An item of a list; nothing if no setting has an interval.
    """
    told = {
        setting
        for every in pairs.values()
        for setting, pair in every.items()
        if pair.interval is not None
    }
    there = {
        label: [pair for setting, pair in every.items() if setting in told]
        for label, every in pairs.items()
    }
    tested = {
        label: several
        for label, every in there.items()
        if (several := [pair for pair in every if pair.interval is not None])
    }
    if not tested:
        return ""
    never = [
        f"`{label}`"
        for label, several in tested.items()
        if not any(pair.side for pair in several)
    ]
    lacking = {
        label: (len(every) - len(tested.get(label, ())), len(every))
        for label, every in there.items()
    }
    without = _counted(lacking)
    comparisons = sum(map(len, tested.values()))
    return (
        f"- separated above `{base}`: {_those(tested, 1)}; below it: "
        f"{_those(tested, -1)}; on no setting: {', '.join(never) or 'nobody'}"
        f"{f'; without an interval: {without}' if without else ''}. "
        f"{by_chance(comparisons)}"
    )


def too_few(pair: Pair) -> str:
    """Return of how few seeds a pair is that has no interval."""
    noun = "common seed" if pair.n < LEAST_SEEDS else "equal difference"
    return counted(pair.n, noun)


def by_chance(comparisons: int) -> str:
    """Return how many of some comparisons chance alone would separate, as a sentence."""
    return (
        f"Of {counted(comparisons, 'comparison')} at 95 %, {comparisons * 0.05:.2g} would "
        "leave 0 by chance alone if nothing differed."
    )


def _those(tested: Mapping[str, Sequence[Pair]], side: int) -> str:
    """Return the methods on one side of a baseline, who is there most often first."""
    counts = {
        label: (sum(pair.side == side for pair in several), len(several))
        for label, several in tested.items()
    }
    return _counted(counts) or "nobody"


def _counted(counts: Mapping[str, tuple[int, int]]) -> str:
    """Return ``b`` on 2 of 7, the most first, of who is on any."""
    ordered = sorted(counts.items(), key=lambda item: -item[1][0])
    return ", ".join(f"`{label}` on {n} of {of}" for label, (n, of) in ordered if n)
