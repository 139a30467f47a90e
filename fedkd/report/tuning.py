"""What a search chose, and what it cost: ``chosen.json``, and its sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from fedkd.base.bounds import parse_json, read_bytes
from fedkd.base.files import json_text
from fedkd.base.folders import ResultsFolder
from fedkd.base.sums import write_summed
from fedkd.errors import DataError, counted, listing
from fedkd.report.text import amount, numbered


@dataclass(frozen=True)
class Chosen:
    """What was chosen for a strategy in a setting."""

    strategy: str
    """Its label."""
    setting: str
    """Data set, split, models, axes."""
    values: Mapping[str, Any]
    """The best trial's, by path; empty if no trial has a score."""
    score: float | None
    """Mean over the search's seeds of the metric on validation images."""
    trials: int
    """How many values were tried, the pruned ones too."""
    pruned: int
    """How many of them were ended early."""
    dataset: str = ""
    """Registered name of the setting's data set."""
    ends: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """The least and the greatest number tried, by path, where several were tried."""


@dataclass(frozen=True)
class Tuning:
    """A search that is done."""

    metric: str
    """The column that was best, ``validation_global_accuracy``."""
    method: str
    """``grid``, ``random`` or ``tpe``."""
    seeds: tuple[int, ...]
    """Of every trial."""
    chosen: tuple[Chosen, ...]
    """For each setting and strategy with something to search."""
    runs: int
    """Different runs that the trials were, without those that were skipped."""
    client_examples: int
    """Images through training steps on clients, in all of them."""
    server_examples: int
    """Images through training steps on the server, in all of them."""
    bytes: int
    """Sent in all of them, both ways."""
    seconds: float
    """That all of them took together."""
    families: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Settings whose values count for others too, and the data sets of those."""
    taken: bool = False
    """Whether the search was that of another bench, which gave its values to this one."""


def write_tuning(tuning: Tuning, folder: ResultsFolder) -> None:
    """Write ``chosen.json``."""
    write_summed(folder.chosen, json_text(asdict(tuning)))


def read_tuning(folder: ResultsFolder) -> Tuning | None:
    """Read ``chosen.json``; None if there is none.

    Raises:
        DataError: If it is damaged.
    """
    again = "Run the bench again: finished trials are not run twice."
    try:
        raw = parse_json(read_bytes(folder.chosen))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DataError(f"{folder.chosen}: is damaged: {error}. {again}") from None
    return tuning_of(raw, str(folder.chosen), again)


def tuning_of(raw: Any, where: str, remedy: str) -> Tuning:
    """Return the search of which ``chosen.json`` tells.

    Args:
        raw: What the file holds.
        where: How messages call it.
        remedy: What messages say is to be done.

    Raises:
        DataError: If it is not of the form that :func:`write_tuning` gives it.
    """
    try:
        chosen = tuple(Chosen(**one) for one in raw["chosen"])
        values = [one.values for one in chosen]
        if not all(isinstance(one, Mapping) for one in values):
            raise TypeError(f"values {values} are no mappings")
        ends = [pair for one in chosen for pair in one.ends.values()]
        if not all(isinstance(pair, list) and len(pair) == 2 for pair in ends):
            raise TypeError(f"ends {ends} are no pairs")
        seeds = tuple(raw["seeds"])
        if not all(isinstance(seed, int) for seed in seeds):
            raise TypeError(f"seeds {seeds} are no whole numbers")
        given = {**raw, "seeds": seeds, "chosen": chosen}
        return Tuning(**given)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{where}: is damaged: {error}. {remedy}") from None


def tuning_lines(folder: ResultsFolder) -> list[str]:
    """Return what was chosen, and what the search cost; nothing before it is done.

    Raises:
        DataError: If ``chosen.json`` is damaged.
    """
    tuning = read_tuning(folder)
    if tuning is None:
        return []
    lines = (_line(one, tuning) for one in tuning.chosen)
    shared = (
        f"What was chosen on {setting} counts for every other setting of {listing(names)}."
        for setting, names in tuning.families.items()
    )
    taken = ["The search was that of another bench; this one took its values."]
    return [*lines, *shared, _cost(tuning), *(taken if tuning.taken else ())]


def _line(one: Chosen, tuning: Tuning) -> str:
    early = f", {one.pruned} ended early" if one.pruned else ""
    of = f"{counted(one.trials, 'trial')}{early}"
    if one.score is None:
        return f"{one.strategy}, {one.setting}: as it was; none of {of} was done."
    values = ", ".join(_value(one, path) for path in one.values)
    # Two decimals say nothing of a small loss.
    score = f"{one.score:.2f}" if abs(one.score) >= 1 else amount(one.score)
    return (
        f"{one.strategy}, {one.setting}: {values} ({tuning.metric} {score}, the best of "
        f"{of})."
    )


def _value(one: Chosen, path: str) -> str:
    """Return a value that was chosen, and at which end it is of those tried, if at one."""
    value = one.values[path]
    # Beyond an end there may be a better one.
    for word, end in zip(("least", "greatest"), one.ends.get(path, ()), strict=False):
        if value == end:
            return f"{path} {value}, the {word} of those tried"
    return f"{path} {value}"


def _cost(tuning: Tuning) -> str:
    return (
        f"Chosen by {tuning.method} search on the validation images after the last round, "
        f"with {numbered('seed', tuning.seeds)} and none of the table's; nothing was "
        "measured on the test set. "
        f"It took {counted(tuning.runs, 'run')}: {tuning.client_examples:,} images through "
        f"training steps on clients and {tuning.server_examples:,} on the server, "
        f"{amount(tuning.bytes / 1e6)} MB sent, {amount(tuning.seconds)} seconds."
    )
