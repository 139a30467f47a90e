"""The section of mean ranks over many blocks, or the sentence that says why it is none."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from fedkd.errors import counted, listing
from fedkd.metrics.columns import Column
from fedkd.report.grouping import done, group
from fedkd.report.parts import Grid, Part
from fedkd.report.results import Row
from fedkd.report.stats.intervals import LEVEL
from fedkd.report.stats.ranks import Ranking, rank

HEADER = ("strategy", "mean rank", "not separated from")


def ranks_part(
    rows: Sequence[Row], references: Collection[str], column: Column
) -> list[Part]:
    """Return the part of a page; nothing where nobody competes."""
    if len({row.strategy for row in rows if row.status == "done"}) < 2:
        return []
    ranking = rank(rows, references, column)
    if isinstance(ranking, str):
        return [Part("Mean ranks", notes=(ranking,))]
    body = [
        [label, f"{mean:.2f}", _not_separated(ranking, label)]
        for label, mean in ranking.mean_ranks.items()
    ]
    grid = Grid.of(HEADER, body, 1, 1)
    groups = group(rows).items()
    every = {setting for (_, setting), runs in groups if done(runs, column)}
    return [Part("Mean ranks", grid, (" ".join(_notes(ranking, column, len(every))),))]


def _notes(ranking: Ranking, column: Column, every: int) -> list[str]:
    """Return what is to be said of a ranking, of results in so many settings."""
    k = len(ranking.mean_ranks)
    settings = counted(every, "setting")
    if ranking.settings < every:
        settings = f"{ranking.settings} of {settings}"
    lines = [
        f"By {column.title.lower()}, 1 is best, over {ranking.blocks} blocks (setting x "
        f"seed, of {settings}) in which all have a result. "
        f"Friedman's test: chi-square {ranking.chi_square:.2f} with {k - 1} degrees of "
        f"freedom, p = {ranking.p_value:.2g}.",
    ]
    if ranking.is_significant:
        lines.append(
            "Mean ranks that differ by less than Nemenyi's critical difference, "
            f"{ranking.critical_difference:.2f} at level {1 - LEVEL:.2g}, are not "
            "separated."
        )
    else:
        lines.append("No difference was found, so none of them are separated.")
    if ranking.settings < ranking.blocks:
        lines.append(
            "Blocks of one setting differ in the seed only, and are less than so many "
            "data sets."
        )
    if ranking.left_out:
        lines.append(
            "Left out, for want of results that compete in those blocks: "
            f"{listing(ranking.left_out)}."
        )
    return lines


def _not_separated(ranking: Ranking, label: str) -> str:
    """Return with whom a strategy shares a group."""
    near = [one for group in ranking.groups if label in group for one in group]
    others = [one for one in dict.fromkeys(near) if one != label]
    return ", ".join(others) or "-"
