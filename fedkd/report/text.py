"""Small pieces of text that tables are made of."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Sequence
from itertools import chain, count

DECIMALS = 2
"""Decimals of an accuracy in tables. What looks equal in a table is a tie."""

MISSING = "-"
"""Stands where there is no value."""


def markdown_grid(
    header: Sequence[str],
    body: Iterable[Sequence[str]],
    names: int = 1,
    remarks: int = 0,
) -> str:
    """Return a Markdown table: names, then numbers to the right, then remarks.

    Args:
        header: Titles of the columns, as Markdown.
        body: The lines, as Markdown.
        names: Columns at the start that are set to the left.
        remarks: Columns at the end that are.
    """
    lines = [header, *body]
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    numbers = range(names, len(header) - remarks)
    rule = [
        "-" * (width - 1) + ":" if column in numbers else "-" * width
        for column, width in enumerate(widths)
    ]
    padded = [
        [
            text.rjust(width) if column in numbers else text.ljust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        for line in lines
    ]
    return "\n".join(
        f"| {' | '.join(line)} |" for line in [padded[0], rule, *padded[1:]]
    )


def spread(values: Sequence[float], sign: str = "", decimals: int = DECIMALS) -> str:
    """Return ``82.00 ± 2.00``: mean and, for two values or more, sample deviation.

    Args:
        values: At least one number.
        sign: ``"+"`` to show the sign of the mean, as differences do.
        decimals: Of both.
    """
    text = signed(statistics.fmean(values), decimals, sign)
    if len(values) > 1:
        text += f" ± {statistics.stdev(values):,.{decimals}f}"
    return text


def signed(value: float, decimals: int = DECIMALS, sign: str = "+") -> str:
    """Return a number with its sign; what rounds to zero has no minus."""
    # Adding zero turns -0.0, which would print a sign, into 0.0.
    return f"{round(value, decimals) + 0.0:{sign},.{decimals}f}"


def amount(value: float | None) -> str:
    """Return a cost in about three digits: ``0.0123``, ``3.46``, ``1,234``."""
    if value is None:
        return MISSING
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"


def measured_on(datasets: Iterable[str]) -> str:
    """Return which test images an accuracy is of, for data sets as results call them."""
    if any(re.search(r"[\[,]test_fraction=", name) for name in datasets):
        return "the test set, or the part of it that test_fraction says"
    return "the whole test set"


def distinct(names: Iterable[str]) -> list[str]:
    """Return names of which no two are equal: one that is taken has -2 after it, or -3."""
    free: list[str] = []
    for name in names:
        tries = chain([name], (f"{name}-{i}" for i in count(2)))
        free.append(next(one for one in tries if one not in free))
    return free


def numbered(noun: str, values: Sequence[int]) -> str:
    """Return ``seed 0`` or ``seeds 0, 1, 2``."""
    numbers = ", ".join(map(str, values))
    return f"{noun} {numbers}" if len(values) == 1 else f"{noun}s {numbers}"
