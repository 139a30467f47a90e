"""Signs in tables, and the sentences under them that say what they mean."""

from __future__ import annotations

from collections.abc import Sequence

from fedkd.errors import counted, listing
from fedkd.metrics.columns import Column
from fedkd.report.grouping import (
    GLOBAL,
    LOCAL,
    UNDEFINED,
    changed_parts,
    column_titles,
    group,
    is_of_global,
    split_conflicts,
    titles_of,
)
from fedkd.report.results import Row
from fedkd.report.stats.intervals import (
    LEAST_EQUAL,
    LEAST_SEEDS,
    LEVEL,
    MOST_SEEDS,
    Interval,
)
from fedkd.report.stats.pairs import Pair
from fedkd.report.stats.standings import Standing
from fedkd.report.summary import Table
from fedkd.report.text import MISSING, measured_on, signed

REFERENCE = "†"
"""Beside a strategy that is a reference."""
OF_CLIENTS = "‡"
"""Beside a strategy that has no global model; beside its number in a setting where it has
none, if it has one in another."""
LEADING = "≈"
"""Beside the best mean where it is not separated from all that come after."""
UNKNOWN = (
    "Results of an earlier version do not say who has no global model, so nobody of them "
    "is marked for it."
)
PERCENT = f"{100 * LEVEL:g} %"


def labelled(label: str, table: Table) -> str:
    """Return what tables call a strategy: its label with the signs that it has."""
    return with_signs(label, label in table.references, label in table.without_global)


def with_signs(label: str, is_reference: bool, is_of_clients: bool) -> str:
    """Return a label with its signs, in the order in which all pages and figures have them.

    Args:
        label: Of a strategy.
        is_reference: Whether it does not compete.
        is_of_clients: Whether its value is of the clients' own models, there being no
            global one.
    """
    signs = [REFERENCE] * is_reference + [OF_CLIENTS] * is_of_clients
    return " ".join([label, *signs])


def notes(
    rows: Sequence[Row],
    table: Table,
    shared: str,
    which_n: str = "n, the number of seeds in a mean, is in brackets",
) -> list[str]:
    """Return the sentences that a reader needs to read a table rightly.

    Args:
        rows: What the table is made of.
        table: Of one column.
        shared: What all settings share, in words; see ``column_titles``.
        which_n: What is said of the numbers of seeds if they differ.
    """
    lines = meaning(rows, table)
    deviation = "± is the sample standard deviation over seeds"
    if table.common_n == 1:
        lines.append("n = 1 seed: no spread is known.")
    elif table.common_n:
        lines.append(f"{deviation}; n = {table.common_n}.")
    elif any(entry.n for entry in table.entries.values()):
        lines.append(f"{deviation}; {which_n}.")
    lines += verdicts(table) + signs(table, table.column)
    lines += [UNKNOWN] if is_of_global(table.column) and _is_unknown(rows) else []
    rounds = {row.rounds for row in rows}
    every = counted(rounds.pop(), "round") if len(rounds) == 1 else ""
    if shared or every:
        lines.append(f"All: {', '.join(filter(None, [shared, every]))}.")
    return lines


def _is_unknown(rows: Sequence[Row]) -> bool:
    """Say whether runs of a strategy are done, and none says if it has a global model."""
    finished = group([row for row in rows if row.status == "done"])
    return any(not any(row.global_of for row in runs) for runs in finished.values())


def meaning(rows: Sequence[Row], table: Table) -> list[str]:
    """Return what the values of a table are."""
    column = table.column
    if column.half:
        return [f"{column.about} On the {column.half} images, after the last round."]
    where = {
        "global": f"on {measured_on(row.dataset for row in rows)}, ",
        "local": "mean over the clients, each on its own test shard: of the "
        "client's own model where the strategy has one, else of the global model, ",
    }.get(column.scope, "")
    has_lost = any(UNDEFINED in entry.counts for entry in table.entries.values())
    lost = [f"A run that is {UNDEFINED} has no such value."] * has_lost
    if column in (GLOBAL, LOCAL):
        return [f"Percent, {where}after the last round.", *lost]
    place = f"{where}after the last round."
    # What is read from the rounds of a run is of none of them alone.
    places = [] if column.reads else [f"{place[0].upper()}{place[1:]}"]
    lines = [column.about, *places]
    lines.append(f"{'Higher' if column.higher_is_better else 'Lower'} is better.")
    return lines + lost


def signs(table: Table, column: Column | None = None) -> list[str]:
    """Return what the signs of strategies mean, as far as there are any.

    Args:
        table: Has the strategies.
        column: What is shown of them; None for costs.
    """
    lines = []
    if table.references:
        lines.append(f"{REFERENCE} is a reference and no competitor.")
    out = ""
    if column is not None and is_of_global(column):
        # What is read from rounds, such as when a target was reached, is no mean itself.
        of = "that of the mean" if column.scope == "rounds" else "the mean"
        out = f": its value here is {of} over the clients' own models, and does not compete"
    if table.without_global:
        lines.append(f"{OF_CLIENTS} has no global model{out}.")
    if any(entry.is_signed for entry in table.entries.values()):
        lines.append(
            f"{OF_CLIENTS} in some settings only has no global model there{out}."
        )
    return lines


def verdicts(table: Table) -> list[str]:
    """Return what bold, underlined and :data:`LEADING` mean, and what they rest on."""
    marks = {entry.mark for entry in table.entries.values()}
    lines = []
    if "best" in marks:
        underlined = " and underlined second" if "second" in marks else ""
        each = "each " if underlined else ""
        lines.append(
            f"Bold is best{underlined}, {each}separated from all that come after: the "
            f"{PERCENT} interval of every mean paired difference leaves 0."
        )
    if "leading" in marks:
        lines.append(
            f"{LEADING} has the best mean, but at least one other is not separated from it."
        )
        lines += _unseparated(table)
    return lines


def _unseparated(table: Table) -> list[str]:
    """Return why the best is not separated in each setting, and how many seeds would do."""
    titles, _ = column_titles(table.settings)
    places = [table.standings.get(one, Standing()) for one in table.settings]
    told = [
        (title, place)
        for title, place in zip(titles, places, strict=True)
        if "leading" in place.marks.values()
    ]
    few = [title for title, place in told if _lacks_seeds(place)]
    lines = []
    # Of many settings with too few seeds, one sentence says it.
    if len(few) > 1:
        told = [(title, place) for title, place in told if title not in few]
        where = "everywhere" if len(few) == len(titles) else f"on {'; '.join(few)}"
        lines = [
            f"The best and one after it have fewer than {LEAST_SEEDS} seeds in common "
            f"{where}, and an interval takes {LEAST_SEEDS} or more."
        ]
    several = len(titles) > 1
    whys = (f"{title}: {_why(one)}" if several else _why(one) for title, one in told)
    return [*whys, *lines]


def _lacks_seeds(place: Standing) -> bool:
    """Say whether too few seeds in common for an interval are all there is to say."""
    pair = place.pair
    if pair is None or pair.looks_equal or place.is_worse_in_pair:
        return False
    return pair.n < LEAST_SEEDS


def _why(place: Standing) -> str:
    pair = place.pair
    if pair is None:
        return "Runs of one seed saw different splits, so nothing is paired."
    if pair.looks_equal:
        # The means beside each other may look different: each is rounded by itself.
        who = f"{pair.first} and {pair.second}"
        return f"{who}: {difference(pair)}, a difference of 0 at these decimals."
    who = f"{pair.first} above {pair.second}"
    if place.is_worse_in_pair:
        return (
            f"{who}: {difference(pair)}, so {pair.first} is worse on the "
            f"{counted(pair.n, 'common seed')} and leads by other ones."
        )
    if pair.interval is None:
        few = pair.n < LEAST_SEEDS
        takes = LEAST_SEEDS if few else LEAST_EQUAL
        equal = "" if few else " with equal differences"
        seeds = counted(pair.n, "common seed")
        return f"{who}: {seeds}{equal}; an interval takes {takes} or more."
    if pair.side:
        return f"{who}: {difference(pair)}, but their means look equal here."
    return f"{who}: {difference(pair)}, {_needed(pair)}."


def _needed(pair: Pair) -> str:
    seeds = pair.seeds_needed
    number = f"more than {MOST_SEEDS:,}" if seeds is None else f"about {seeds:,}"
    return f"{number} seeds would separate them if mean and spread stay"


def difference(pair: Pair) -> str:
    """Return ``+2.50 ± 0.71 [-3.85, +8.85]``: mean, sample deviation, interval."""
    if pair.mean is None:
        return MISSING
    text = signed(pair.mean, pair.decimals)
    if pair.std is not None:
        text += f" ± {pair.std:,.{pair.decimals}f}"
    return f"{text} {bounds(pair.interval, pair.decimals)}".rstrip()


def bounds(interval: Interval | None, decimals: int, sign: str = "+") -> str:
    """Return ``[-3.85, +8.85]``; nothing without an interval.

    An end that rounds to 0 keeps its sign, ``-0.00``: it says whether 0 is outside.
    """
    if interval is None:
        return ""
    # Adding zero turns -0.0, which is not below 0, into 0.0.
    ends = (interval.low + 0.0, interval.high + 0.0)
    low, high = (f"{end:{sign},.{decimals}f}" for end in ends)
    return f"[{low}, {high}]"


def mixed_data(rows: Sequence[Row]) -> list[str]:
    """Return warnings where runs that stand side by side saw different data."""
    warnings = []
    if conflicts := split_conflicts(rows):
        titles = titles_of(setting for setting, _ in conflicts)
        text = "; ".join(
            f"{titles[setting]}, seed {seed}" for setting, seed in conflicts
        )
        warnings.append(
            f"WARNING: runs of one seed saw different data splits: {text}. Their "
            "differences are not paired, and they and their ranks are left out. A "
            "partitioner that draws from anything but its own stream does this, and so do "
            "files that were changed."
        )
    for dataset, parts in changed_parts(rows).items():
        warnings.append(
            f"WARNING: {dataset}: runs saw different files: {listing(parts)}. Their mean "
            "is of nothing. Put the files back and run the cells with --fresh."
        )
    return warnings
