"""Lines of ``metrics.jsonl``, one a round, reduced to what each stage did."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fedkd.metrics.base import Line
from fedkd.report.grouping import group, titles_of, without_global
from fedkd.report.notes import OF_CLIENTS
from fedkd.report.parts import Entry, Grid, Part
from fedkd.report.results import Row
from fedkd.report.text import amount, measured_on, spread

TITLE = "What each stage did"
MEASURED = "measured "
"""Starts the name of what is an accuracy in percent, in tables."""


@dataclass(frozen=True)
class Last:
    """The last value of a number that a strategy measured or logged, in one run."""

    value: float
    round: int
    """The round it is of, from 1."""


def last_values(lines: Sequence[Line]) -> dict[str, Last]:
    """Return the last value of everything measured or logged, by name.

    Measured accuracies are called ``measured <name>``. Values that are missing or not
    finite are passed over, so that what was logged in an early stage is kept.
    """
    last: dict[str, Last] = {}
    for line in lines:
        measured = {MEASURED + k: v for k, v in (line.get("measured") or {}).items()}
        for name, value in {**measured, **(line.get("logged") or {})}.items():
            if isinstance(value, int | float) and math.isfinite(value):
                last[name] = Last(float(value), line["round"])
    last.pop("train_loss", None)
    return last


def stage_table(runs: Sequence[tuple[Row, Sequence[Line]]]) -> str:
    """Return a Markdown table of what each strategy measured and logged.

    One line for every strategy, setting and name: mean and sample standard deviation,
    over the runs that are done, of the last value in each run.

    Args:
        runs: Rows with the lines of their ``metrics.jsonl``.

    Returns:
        The table, or an empty string if there is nothing but training losses.
    """
    part = stage_part(runs)
    return part.content if part else ""


def stage_part(runs: Sequence[tuple[Row, Sequence[Line]]]) -> Part | None:
    """Return the part of a page that :func:`stage_table` has the content of, if any."""
    done = [(row, lines) for row, lines in runs if row.status == "done"]
    of_run = {row.run_id: last_values(lines) for row, lines in done}
    groups = group([row for row, _ in done])
    if not any(of_run.values()):
        return None
    titles = titles_of(setting for _, setting in groups)
    several = len(titles) > 1
    body: list[list[Entry | str]] = []
    for (label, setting), rows in groups.items():
        for name, values in _by_name([of_run[row.run_id] for row in rows]).items():
            start = [titles[setting]] if several else []
            text = f"{label} {OF_CLIENTS}" if without_global(rows) else label
            own = Entry(text, of=(label, setting))
            body.append([*start, own, name, *_fields(name, values)])
    start = ["setting"] if several else []
    header = [*start, "strategy", "what", "mean ± std", "n", "of round"]
    where = measured_on(row.dataset for row, _ in done)
    note = (
        "The last value of each run, over the runs that are done. Measured values are "
        f"percent of {where}; what clients logged is a mean over clients."
    )
    if any(without_global(rows) for rows in groups.values()):
        note += f" {OF_CLIENTS} has no global model."
    return Part(TITLE, Grid.of(header, body, 2 + several), (note,))


def _by_name(runs: Sequence[Mapping[str, Last]]) -> dict[str, list[Last]]:
    by_name: dict[str, list[Last]] = {}
    for run in runs:
        for name, last in run.items():
            by_name.setdefault(name, []).append(last)
    # Accuracies first: they say more than losses.
    names = sorted(by_name, key=lambda name: (not name.startswith(MEASURED), name))
    return {name: by_name[name] for name in names}


def _fields(name: str, values: Sequence[Last]) -> tuple[str, str, str]:
    """Return value, number of runs and round, as text."""
    numbers = [last.value for last in values]
    text = spread(numbers) if name.startswith(MEASURED) else _logged(numbers)
    rounds = {last.round for last in values}
    first, latest = min(rounds), max(rounds)
    when = str(first) if first == latest else f"{first} to {latest}"
    return text, str(len(numbers)), when


def _logged(values: Sequence[float]) -> str:
    """Return mean and deviation of numbers of any size."""
    text = amount(statistics.fmean(values))
    return f"{text} ± {amount(statistics.stdev(values))}" if len(values) > 1 else text
