"""Figures of a paper: chosen strategies against rounds or a cost, as large as printed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from fedkd.errors import ConfigError, listing, suggestion
from fedkd.metrics.columns import Column
from fedkd.report.curves import (
    PANELS,
    Curve,
    fill_panel,
    finish_y,
    handle,
    in_order,
    seeds_note,
    span_of,
)
from fedkd.report.figures import drawable, figure_in
from fedkd.report.grouping import GLOBAL, LOCAL, Setting, group, setting_titles
from fedkd.report.looks import looks
from fedkd.report.notes import OF_CLIENTS, REFERENCE, with_signs
from fedkd.report.plots import Drawn, curves_of, slugs_of
from fedkd.report.reading import Report
from fedkd.simulation.metrics import metrics_or_none

INCHES = {"column": 3.3, "page": 7.0}
"""Widths of a column and of a page of two columns, as most conferences have them."""
POINTS = 8.0
"""Size of all letters."""
ABREAST = {"column": 1, "page": 4}
"""Panels that stand side by side at most."""
HEIGHTS = {"column": 1.9, "page": 1.6}
"""Inches of a panel; one alone is as high as in a column."""
SIZE = 0.62
"""Of lines and markers, beside those of pictures on their own."""
LETTER = 0.55 * POINTS / 72
"""Inches of a letter, about."""
HANDLE = 0.41
"""Inches of the line beside a name in the legend, with the space around it."""


@dataclass(frozen=True)
class PaperFigure:
    """What a figure shows, and how large it is."""

    methods: tuple[str, ...] = ()
    """Labels of strategies, in tables; all if empty."""
    metric: str = GLOBAL.name
    """A column that is measured by round."""
    panel: str = "rounds"
    """One of :data:`fedkd.report.curves.PANELS`."""
    width: str = "column"
    """``column``, a file a setting; or ``page``, with partitions side by side."""
    title: str | None = ""
    """Heading; what is shown if empty, none if None."""
    kind: str = "pdf"
    """``pdf``, ``svg`` or ``png``."""


def draw_paper(report: Report, wanted: PaperFigure, folder: Path) -> Drawn:
    """Draw a metric of chosen strategies into a folder, a file for every figure.

    Colours and markers are those of all strategies of the results, whichever are drawn.

    Args:
        report: What was run.
        wanted: What is drawn of it.
        folder: Where the files go.

    Returns:
        The files, and in ``captions`` what a caption has to say of each.

    Raises:
        ConfigError: If a method or the metric is unknown, or no run has rounds of it.
    """
    labels = list(dict.fromkeys(row.strategy for row in report.rows))
    shown = looks(labels, report.references)
    column = _column(report, wanted.metric)
    chosen = _chosen(labels, wanted.methods)
    rows = [row for row in report.rows if row.status == "done"]
    curves: dict[Setting, list[Curve]] = {}
    for setting in dict.fromkeys(setting for _, setting in group(rows)):
        runs = {
            label: some
            for (label, own), some in group(rows).items()
            if own == setting and label in chosen
        }
        lines = {
            label: [metrics_or_none(report.folders[row.run_id]) for row in some]
            for label, some in runs.items()
        }
        every = curves_of(runs, lines, column, shown)
        known = [one for one in every if one.against(wanted.panel) is not None]
        if known:
            curves[setting] = known
    if not curves:
        raise ConfigError(
            f"--figures: found no run of {listing(chosen)} that measured "
            f"{column.name} against {wanted.panel}; expected one that is done and left "
            "its metrics.jsonl."
        )
    drawn = _draw(curves, column, wanted, folder)
    drawn.failed += _absent(curves, column, wanted)
    return drawn


def _absent(
    curves: Mapping[Setting, Sequence[Curve]], column: Column, wanted: PaperFigure
) -> list[str]:
    """Return a sentence on each strategy that was asked for by name and is in no figure."""
    there = {one.label for some in curves.values() for one in some}
    return [
        f"--methods: {name} is in no figure, for no run of it is done and measured "
        f"{column.name} against {wanted.panel}."
        for name in wanted.methods
        if name not in there
    ]


def draw_panels(
    panels: Mapping[str, Sequence[Curve]],
    column: Column,
    path: Path,
    wanted: PaperFigure,
    title: str = "",
) -> None:
    """Draw panels side by side, with one y axis and one legend.

    Args:
        panels: Curves by what stands above their panel.
        column: What is drawn.
        path: The file to write.
        wanted: How large it is, and against what curves are drawn.
        title: Heading; none if empty.
    """
    curves = [curve for some in panels.values() for curve in some]
    if len(panels) == 1:
        curves = in_order(curves, column)
    legend = {_named(curve): curve for curve in curves}
    width = INCHES[wanted.width]
    abreast = min(ABREAST[wanted.width], len(panels))
    rows = -(-len(panels) // abreast)
    columns, lines, longest = _legend_in(width, [*legend])
    heading = _wrapped(drawable(title), int(width / LETTER)) if title else ""
    top = 0.2 * bool(title) + 0.155 * heading.count("\n")
    panel = HEIGHTS["column" if len(panels) == 1 else wanted.width]
    height = rows * (panel + 0.35) + 0.155 * lines + top + 0.1
    with figure_in(width, height, path, POINTS) as figure:
        axes = figure.subplots(rows, abreast, sharey=True, squeeze=False)
        for axis, (name, some) in zip(axes.flat, panels.items(), strict=False):
            ordered = [one for own in legend for one in some if _named(one) == own]
            fill_panel(axis, ordered, wanted.panel, span_of(curves), size=SIZE)
            if len(panels) > 1:
                axis.set_title(_wrapped(drawable(name), int(width / abreast / LETTER)))
        for spare in [*axes.flat][len(panels) :]:
            spare.set_visible(False)
        for line in axes:
            finish_y(line[0], column)
        _add_legend(figure, [*legend.values()], columns, longest)
        if title:
            figure.suptitle(heading)


def _add_legend(
    figure: Any, curves: Sequence[Curve], columns: int, letters: int
) -> None:
    """Name the curves below the panels, in lines of so many letters."""
    figure.legend(
        [handle(one, SIZE) for one in curves],
        [_wrapped(_named(one), letters) for one in curves],
        loc="outside lower center",
        ncols=columns,
        handlelength=2.2,
        columnspacing=1.0,
        handletextpad=0.5,
        labelspacing=0.25,
        borderpad=0.1,
    )


def _named(curve: Curve) -> str:
    """Return what a legend calls a curve: as tables do."""
    is_reference = curve.look.reference
    return drawable(with_signs(curve.label, is_reference, curve.of_clients))


def _legend_in(width: float, names: Sequence[str]) -> tuple[int, int, int]:
    """Return the columns and lines of a legend, and the letters that a line of it has."""
    longest = max(map(len, names), default=1)
    room = width - 0.15
    columns = max(1, min(len(names), int(room / (longest * LETTER + HANDLE))))
    letters = int((room / columns - HANDLE) / LETTER)
    deepest = [-(-len(name) // letters) for name in names]
    return columns, math.ceil(sum(deepest) / columns), letters


def _wrapped(text: str, letters: int) -> str:
    """Return lines of so many letters at most, broken after what joins words if may be."""
    lines = [""]
    for letter in text:
        if len(lines[-1]) >= letters:
            cut = max(lines[-1].rfind(sign) for sign in " -_,/") + 1
            cut = cut if cut > letters // 3 else len(lines[-1])
            lines[-1:] = [lines[-1][:cut].rstrip(), lines[-1][cut:]]
        lines[-1] += letter
    return "\n".join(lines)


def _draw(
    curves: Mapping[Setting, list[Curve]],
    column: Column,
    wanted: PaperFigure,
    folder: Path,
) -> Drawn:
    """Draw the figures of all settings."""
    drawn = Drawn()
    together = wanted.width == "page"
    figures: dict[Setting, list[Setting]] = {}
    for setting in curves:
        whole = replace(setting, partition="", alpha=None) if together else setting
        figures.setdefault(whole, []).append(setting)
    slugs = slugs_of([*figures])
    for whole, settings in figures.items():
        titles, shared = setting_titles(settings)
        start = f"{settings[0].dataset}, " if len(settings) > 1 else ""
        names = [title.removeprefix(start) for title in titles]
        panels = dict(zip(names, (curves[one] for one in settings), strict=True))
        own = (
            f"{column.title}: {settings[0].dataset if len(settings) > 1 else titles[0]}"
        )
        title = (own if wanted.title == "" else wanted.title) or ""
        name = f"{column.name}-{wanted.panel}-{slugs[whole]}".replace("_", "-")
        path = folder / f"{name}.{wanted.kind}"
        how = partial(draw_panels, panels, column, wanted=wanted, title=title)
        drawn.draw(path, how)
        if path in drawn.files:
            drawn.captions[path] = _caption(own, shared, panels)
    return drawn


def _caption(title: str, shared: str, panels: Mapping[str, Sequence[Curve]]) -> str:
    """Return what a caption has to say of a figure."""
    curves = max(panels.values(), key=len)
    sizes = {len(curve.values) for some in panels.values() for curve in some}
    seeds = f"n = {sizes.pop()}" if len(sizes) == 1 else "seeds differ in number"
    every = [curve for some in panels.values() for curve in some]
    signed = any(curve.of_clients for curve in every)
    grey = any(curve.look.reference for curve in every)
    signs = [f"{OF_CLIENTS} no global model"] * signed + [
        f"{REFERENCE} reference"
    ] * grey
    parts = [title, shared, seeds_note(curves), seeds, *signs]
    return "; ".join(filter(None, parts)) + "."


def _column(report: Report, metric: str) -> Column:
    """Return what a metric is called.

    Raises:
        ConfigError: If it is unknown, or of no round.
    """
    known = {column.name: column for column in (GLOBAL, LOCAL, *report.columns)}
    by_round = [name for name, column in known.items() if column.by_round]
    if metric not in by_round:
        why = "is of whole runs" if metric in known else "is not measured"
        raise ConfigError(
            f"--metric: found {metric!r}, which {why}; expected one of "
            f"{listing(by_round)}.{suggestion(metric, by_round)}"
        )
    return known[metric]


def _chosen(labels: Sequence[str], methods: Sequence[str]) -> Sequence[str]:
    """Return the labels to draw.

    Raises:
        ConfigError: If one is not in the results.
    """
    for name in methods:
        if name not in labels:
            raise ConfigError(
                f"--methods: found {name!r}, expected labels of the table: "
                f"{listing(labels, 60)}.{suggestion(name, labels)}"
            )
    return methods or labels


__all__ = ["INCHES", "PANELS", "PaperFigure", "draw_panels", "draw_paper"]
