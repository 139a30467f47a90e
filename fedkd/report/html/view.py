"""What a page says: its parts, charts, images, runs and commands, before any HTML."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fedkd.errors import counted
from fedkd.metrics.columns import Column
from fedkd.report.grouping import GLOBAL, LOCAL, Setting, group, titles_of
from fedkd.report.html.charts import CHARTS, charts_of
from fedkd.report.html.images import Gallery, galleries_of
from fedkd.report.html.origin import Origin, origins_of
from fedkd.report.notes import mixed_data
from fedkd.report.parts import Entry, Grid, Part
from fedkd.report.reading import Remark, Report, lines_of, measured_of, told_of
from fedkd.report.results import STATUSES, Row
from fedkd.report.table import COSTS
from fedkd.report.text import MISSING, amount, distinct, spread

Cell = tuple[str, Setting]
RUN_COSTS = ("MB up", "MB down", "client examples", "seconds")
"""Those of :data:`fedkd.report.table.COSTS` that are shown of each run."""

OWN = frozenset({
    "again", "bands", "charts", "clients", "costs", "curves", "data", "environment",
    "images", "log", "main", "metric", "partition", "runs", "setting", "strategies",
    "theme", "which",
})  # fmt: skip
"""What the page calls its own sections and controls, and its script finds them by."""


@dataclass(frozen=True)
class Page:
    """Everything on a page, in the order in which it stands there."""

    title: str
    about: tuple[str, ...]
    """What the suites say of themselves."""
    summary: str
    """How many runs there are, and what became of them."""
    warnings: tuple[str, ...] = ()
    """What makes the numbers doubtful."""
    parts: tuple[Part, ...] = ()
    """What follows from the rows; the first is of global accuracy."""
    charts: Mapping[str, Any] = field(default_factory=dict)
    """See :func:`fedkd.report.html.charts.charts_of`."""
    galleries: tuple[Gallery, ...] = ()
    runs: Grid | None = None
    """A line a run; its first entry says whose."""
    cells: Mapping[Cell, str] = field(default_factory=dict)
    """What links call the runs of a strategy in a setting."""
    names: Mapping[str, str] = field(default_factory=dict)
    """The same runs, as people call them."""
    lists: tuple[Part, ...] = ()
    """What suites, logs and environments say."""
    origins: tuple[Origin, ...] = ()
    again: str = ""
    """The command that makes the page; empty if none did."""

    def target(self, entry: Entry) -> str:
        """Return what a link calls the runs that an entry is of; empty if of none."""
        return self.cells.get(entry.of, "") if entry.of else ""

    def has(self, chart: str) -> bool:
        """Say whether some setting has anything to draw in a chart."""
        return any(setting[chart] for setting in self.charts.get("settings", ()))

    @property
    def axes(self) -> list[tuple[str, str]]:
        """What curves can be drawn against, by its key, and what that is called."""
        known = [("rounds", "rounds"), ("bytes", "bytes")]
        known += [("examples", "client images"), ("seconds", "seconds")]
        metrics = [m for one in self.charts["settings"] for m in one["metrics"]]
        curves = [curve for metric in metrics for curve in metric["curves"]]
        timed = any(curve["simulated"] is not None for curve in curves)
        return [*known, ("simulated", "simulated time")] if timed else known

    @property
    def is_drawn(self) -> bool:
        """Whether there is any chart."""
        return any(map(self.has, CHARTS))


def page_view(report: Report, remark: Remark, again: str = "") -> Page:
    """Return what a page says of a report.

    Args:
        report: What was read.
        remark: Is given a sentence on what cannot be shown.
        again: The command that makes the page; empty if none did.

    Raises:
        DataError: If ``chosen.json`` of a folder is damaged.
    """
    about = tuple(one.description for one in report.suites.values() if one.description)
    if not report.rows:
        return Page(report.title, about, "There are no results yet.")
    cells = {cell: f"cell-{place}" for place, cell in enumerate(group(report.rows))}
    titles = titles_of(setting for _, setting in cells)
    runs = lines_of(report)
    return Page(
        title=report.title,
        about=tuple(dict.fromkeys(about)),
        summary=_summary(report.rows),
        warnings=tuple(mixed_data(report.rows)),
        parts=tuple(measured_of(report, runs)),
        charts=charts_of(report, runs, remark),
        galleries=tuple(galleries_of(report, remark)),
        runs=_runs(report.rows, titles),
        cells=cells,
        names={key: f"{cell[0]}, {titles[cell[1]]}" for cell, key in cells.items()},
        lists=tuple(told_of(report)),
        origins=tuple(origins_of(report)),
        again=again,
    )


def slug(title: str) -> str:
    """Return what links call a part: ``costs-of-a-run``; none of the page's own names."""
    name = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "part"
    # A metric may be called as its plug-in, or a label, likes.
    return f"{name}-part" if name in OWN or name.startswith("cell-") else name


def anchors_of(parts: Iterable[Part]) -> dict[Part, str]:
    """Return what links call each part; no two are equal, be their titles so."""
    every = [*parts]
    return dict(zip(every, distinct(slug(part.title) for part in every), strict=True))


def _summary(rows: Sequence[Row]) -> str:
    """Return ``12 runs: 10 done, 2 skipped; 6 strategies, 1 setting, 2 seeds``."""
    groups = group(rows)
    of_status = [(sum(row.status == s for row in rows), s) for s in STATUSES]
    became = ", ".join(f"{number} {status}" for number, status in of_status if number)
    strategies = len({label for label, _ in groups})
    parts = [
        "1 strategy" if strategies == 1 else f"{strategies} strategies",
        counted(len({setting for _, setting in groups}), "setting"),
        counted(len({row.seed for row in rows}), "seed"),
    ]
    return f"{counted(len(rows), 'run')}: {became}; {', '.join(parts)}"


def _runs(rows: Sequence[Row], titles: Mapping[Setting, str]) -> Grid:
    """Return a line for every run, those of one strategy and setting together."""
    costs = [(name, read) for name, read in COSTS if name in RUN_COSTS]
    several = len(titles) > 1
    body: list[list[Entry | str]] = [
        [
            Entry(label, of=(label, setting)),
            *([titles[setting]] if several else []),
            str(row.seed),
            *(_value(row, column) for column in (GLOBAL, LOCAL)),
            *(amount(read(row)) for _, read in costs),
            row.status,
            row.reason,
            row.config_hash,
            row.run_id,
        ]
        for (label, setting), own in group(rows).items()
        for row in own
    ]
    accuracies = [one.title.lower() for one in (GLOBAL, LOCAL)]
    numbers = ["seed", *accuracies, *(name for name, _ in costs)]
    remarks = ["status", "reason", "config hash", "folder in runs/"]
    start = ["strategy", "setting"] if several else ["strategy"]
    return Grid.of([*start, *numbers, *remarks], body, len(start), len(remarks))


def _value(row: Row, column: Column) -> str:
    value = row.value(column.name)
    return MISSING if value is None else spread([value], decimals=column.decimals)
