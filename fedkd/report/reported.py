"""Numbers of papers beside ours: ours, reported, and why the two are not comparable."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from fedkd.errors import counted
from fedkd.plugins.registry import Registry
from fedkd.report.grouping import (
    GLOBAL,
    LOCAL,
    Setting,
    done,
    group,
    titles_of,
    without_global,
)
from fedkd.report.notes import OF_CLIENTS
from fedkd.report.parts import Entry, Grid, Part
from fedkd.report.results import Row
from fedkd.report.text import spread
from fedkd.suite.labels import meant_datasets, meant_partitions
from fedkd.suite.reported import Reported
from fedkd.suite.spread import spread_strategies
from fedkd.suite.suite import Suite

SIGN = f" {OF_CLIENTS} has no global model."
COLUMNS = {column.name: column for column in (GLOBAL, LOCAL)}


@dataclass(frozen=True)
class Meant:
    """What labels stand for, each by its suite's name and the label.

    What is not in it is called by its registered name.
    """

    strategies: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """Registered names."""
    options: Mapping[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    """Options that the suite gives strategies."""
    datasets: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """Names with their options."""
    partitions: Mapping[tuple[str, str], tuple[str, float | None]] = field(
        default_factory=dict
    )
    """Names with their options but alpha, and that."""
    suites: frozenset[str] = frozenset()
    """Names of the suites that were read."""

    def setting(self, suite: str, setting: Setting) -> Setting:
        """Return a setting of a suite as it is called without labels."""
        split = (suite, setting.partition)
        usual = (setting.partition, setting.alpha)
        partition, alpha = self.partitions.get(split, usual)
        dataset = self.datasets.get((suite, setting.dataset), setting.dataset)
        return replace(setting, dataset=dataset, partition=partition, alpha=alpha)


def meant_by(suites: Iterable[Suite], registry: Registry) -> Meant:
    """Return what the labels of suites stand for."""
    every = list(suites)
    strategies = {
        (suite.name, entry.label): entry
        for suite in every
        for entry in spread_strategies(registry, suite.strategies)
    }
    return Meant(
        {key: entry.name for key, entry in strategies.items()},
        {key: entry.options for key, entry in strategies.items()},
        {
            (suite.name, label): meant
            for suite in every
            for label, meant in meant_datasets(suite, registry).items()
        },
        {
            (suite.name, label): meant
            for suite in every
            for label, meant in meant_partitions(suite, registry).items()
        },
        frozenset(suite.name for suite in every),
    )


@dataclass(frozen=True)
class Beside:
    """One number of a paper, and our runs of the same method, data set and skew."""

    strategy: str
    """Our label."""
    setting: Setting
    ours: tuple[float, ...]
    """Percent, of every run that is done."""
    reported: float
    """Percent, as printed."""
    method: str
    """What the paper calls the strategy."""
    source: Reported
    why_not: tuple[str, ...]
    """What is other there, in a few words each; see also ``source.differs``."""
    is_of_clients: bool = False
    """Whether our strategy has no global model."""

    @property
    def difference(self) -> float:
        """Our mean above the printed number, in percentage points."""
        return statistics.fmean(self.ours) - self.reported


def beside(
    rows: Sequence[Row], sources: Sequence[Reported], names: Meant
) -> list[Beside]:
    """Return the numbers of papers that are of our strategies, data sets and skews.

    After one round a method is another one than after many: one-shot numbers stand beside
    one-shot runs, and no others.

    Args:
        rows: Our runs.
        sources: The papers' tables.
        names: What our labels stand for.
    """
    found = []
    for (label, setting), runs in group(rows).items():
        suite = runs[0].suite
        meant = names.setting(suite, setting)
        name = names.strategies.get((suite, label), label)
        options = names.options.get((suite, label), {})
        found += [
            Beside(
                label,
                setting,
                ours,
                number,
                method,
                source,
                why_not=_why_not(source, meant, runs, options),
                is_of_clients=without_global(runs),
            )
            for source in sources
            if (source.rounds == 1) == (runs[0].rounds == 1)
            and (ours := _values(runs, source))
            for method, number in _numbers(source, meant, name)
        ]
    return found


def reported_section(
    rows: Sequence[Row], sources: Sequence[Reported], names: Meant
) -> str:
    """Return the section of a page; nothing where no numbers are asked for."""
    part = reported_part(rows, sources, names)
    return part.markdown if part else ""


def reported_part(
    rows: Sequence[Row], sources: Sequence[Reported], names: Meant
) -> Part | None:
    """Return the part of a page that :func:`reported_section` writes, if there is one."""
    if not sources:
        return None
    every = beside(rows, sources, names)
    titles = titles_of(one.setting for one in every)
    body = [_line(one, titles[one.setting]) for one in every]
    header = ["strategy", "setting", "accuracy", "reported of"]
    numbers = ["ours", "reported", "why not comparable"]
    is_known = {row.suite for row in rows} <= names.suites
    labels = "." if is_known else ", by the names here; a label may stand for others."
    none = (
        "None of the papers' numbers are of these strategies and data, one-shot or "
        f"not{labels}"
    )
    sign = SIGN if any(one.is_of_clients for one in every) else ""
    notes = [
        "Nothing here was run under a paper's protocol, so no difference is a result. "
        "One-shot numbers stand beside one-shot runs only." + sign
    ]
    return Part(
        "Reported elsewhere",
        Grid.of([*header, *numbers], body, len(header), 1) if body else None,
        tuple(notes if body else [none, *notes]),
        tuple(map(_about, sources)),
    )


def _line(one: Beside, title: str) -> list[Entry | str]:
    """Return a line of the table; ``title`` is the setting's."""
    shown = f"{one.strategy} {OF_CLIENTS}" if one.is_of_clients else one.strategy
    return [
        Entry(shown, of=(one.strategy, one.setting)),
        title,
        one.source.metric.partition("_")[0],
        f"{one.method}, {one.source.title.partition(':')[0]}",
        spread(one.ours),
        f"{one.reported:.2f}",
        "; ".join(one.why_not),
    ]


def reported_plain(
    rows: Sequence[Row], sources: Sequence[Reported], names: Meant
) -> list[dict[str, Any]]:
    """Return the numbers of papers beside ours as plain values."""
    return [
        {
            "strategy": one.strategy,
            **asdict(one.setting),
            "metric": one.source.metric,
            "ours": list(one.ours),
            "reported": one.reported,
            "method": one.method,
            "paper": one.source.title,
            "source": one.source.source,
            "why_not_comparable": [*one.why_not, *one.source.differs],
        }
        for one in beside(rows, sources, names)
    ]


def _values(runs: Sequence[Row], source: Reported) -> tuple[float, ...]:
    column = COLUMNS[source.metric]
    return tuple(row.value(column.name) for row in done(runs, column))


def _numbers(
    source: Reported, setting: Setting, name: str
) -> Iterator[tuple[str, float]]:
    """Yield the numbers that a paper has of a strategy on a setting's data and skew."""
    for table in source.numbers:
        if (table.dataset, table.partition) != (
            _plain(setting.dataset),
            _plain(setting.partition),
        ):
            continue
        for method in table.accuracy:
            number = table.by_alpha(method).get(setting.alpha)
            if name in source.ours.get(method, ()) and number is not None:
                yield method, number


def _plain(shown: str) -> str:
    """Return the name of a thing without its options: ``digits[fraction=0.5]``."""
    return re.split(r"[\[ ]", shown, maxsplit=1)[0]


def _why_not(
    source: Reported, setting: Setting, runs: Sequence[Row], options: Mapping[str, Any]
) -> tuple[str, ...]:
    """Return what is other there, as far as a row of ours and its suite say."""
    rounds, models = runs[0].rounds, ", ".join(source.models)
    facts = [
        f"{counted(source.clients, 'client')}, here {setting.clients}"
        if source.clients != setting.clients
        else "",
        f"{counted(source.rounds, 'round')}, here {rounds}"
        if source.rounds != rounds
        else "",
        f"models: {models}; here {setting.models}" if models != setting.models else "",
        *(
            "" if shown == _plain(shown) else f"here {shown}"
            for shown in (setting.dataset, setting.partition)
        ),
        *(f"here {key} {value}" for key, value in options.items()),
        f"measured: {source.measured}",
    ]
    return tuple(filter(None, facts))


def _about(source: Reported) -> str:
    """Return an item of a list: what the source is, and what differs there."""
    link = f", {source.link}" if source.link else ""
    more = " ".join(source.differs)
    return f"{source.title} ({source.source}{link}). {source.seen.strip()} {more}"
