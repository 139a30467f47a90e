"""Curves over rounds and costs: one line a strategy, told apart where lines meet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedkd.metrics.columns import Column
from fedkd.report.figures import drawable, figure_in, short
from fedkd.report.looks import Look, look
from fedkd.report.notes import with_signs

PANELS = {
    "rounds": "round",
    "examples": "images trained on by clients",
    "bytes": "MB sent, up and down",
    "seconds": "seconds",
    "simulated": "simulated seconds",
}
"""What curves are drawn against, and what an axis of it is called."""
LEAST_SPAN = 5.0
"""Percentage points that a y axis spans at least, so that noise does not look grave."""
MOST_BANDS = 3
"""Curves whose bands are drawn; of more, bands would be one. They have bars at the end."""
MARKS = 6
"""Markers on a curve, about; each strategy has them at rounds of its own."""
NEAR = 0.012
"""Share of the height of a panel by which two curves that look equal differ at most."""


@dataclass(frozen=True)
class Curve:
    """Values of one strategy over its rounds, of several seeds."""

    label: str
    values: NDArray[np.float64]
    """``[S, T]``: seeds, measured rounds."""
    rounds: NDArray[np.float64]
    """``[T]``, from 1."""
    examples: NDArray[np.float64]
    """``[T]``: images trained on by clients so far, mean over seeds."""
    megabytes: NDArray[np.float64]
    """``[T]``: up and down so far, mean over seeds."""
    seconds: NDArray[np.float64] | None = None
    """``[T]``: wall time so far, mean over seeds; None where a run does not say."""
    simulated: NDArray[np.float64] | None = None
    """``[T]``: simulated time so far, mean over seeds; None where a run has no clock."""
    look: Look = field(default_factory=lambda: look(0))
    """Equal in all pictures of a bench."""
    of_clients: bool = False
    """Whether, for want of a global model, its values are of the clients' own models."""

    @property
    def final(self) -> float:
        """Mean value of the last measured round."""
        return float(self.values[:, -1].mean())

    @property
    def mean(self) -> NDArray[np.float64]:
        """``[T]``: mean over the seeds."""
        mean: NDArray[np.float64] = self.values.mean(0)
        return mean

    def against(self, panel: str) -> NDArray[np.float64] | None:
        """Return where its values stand in a panel, ``[T]``; None if that is unknown."""
        name = "megabytes" if panel == "bytes" else panel
        place: NDArray[np.float64] | None = getattr(self, name)
        return place


def draw_curves(
    curves: Sequence[Curve], column: Column, path: Path, title: str
) -> None:
    """Draw a metric against rounds, examples and bytes, with what seeds differ by.

    Against simulated time, too, where there is a clock.
    """
    ordered = in_order(curves, column)
    columns = 4 if len(ordered) > 3 else max(len(ordered), 1)
    lines = -(-len(ordered) // columns)
    panels = ["rounds", "examples", "bytes"]
    if any(curve.simulated is not None for curve in ordered):
        panels.append("simulated")
    with figure_in(4 * len(panels), 4.3 + 0.24 * lines, path) as figure:
        axes = figure.subplots(1, len(panels), sharey=True)
        for axis, panel in zip(axes, panels, strict=True):
            fill_panel(axis, ordered, panel, span=span_of(ordered))
        finish_y(axes[0], column)
        handles = [handle(curve) for curve in ordered]
        # A picture needs no second decimal of a percentage; of a loss it needs all.
        digits = 1 if column.unit == "%" else column.decimals
        names = [f"{named(curve)}  {curve.final:.{digits}f}" for curve in ordered]
        figure.legend(
            handles, names, loc="outside lower center", ncols=columns, handlelength=2.6
        )
        note = seeds_note(ordered)
        figure.suptitle(drawable(title) + (f" — {note}" if note else ""), fontsize=12)


def in_order(curves: Sequence[Curve], column: Column) -> list[Curve]:
    """Return curves, the best at the end first."""
    sign = -1 if column.higher_is_better else 1
    return sorted(curves, key=lambda curve: sign * curve.final)


def seeds_note(curves: Sequence[Curve]) -> str:
    """Return what a line and what is around it mean; nothing with one seed each."""
    if max((len(curve.values) for curve in curves), default=1) < 2:
        return ""
    what = "band" if len(curves) <= MOST_BANDS else "bar at the end"
    return f"mean, {what}: smallest to largest over seeds"


def fill_panel(
    axis: Any, curves: Sequence[Curve], panel: str, span: float, size: float = 1.0
) -> None:
    """Draw curves into a panel; those that look equal are dashes of all their colours.

    Args:
        axis: Of matplotlib.
        curves: In the order of the legend, whose panel is known.
        panel: One of :data:`PANELS`.
        span: What all values span, of all panels that share their y.
        size: Of lines and markers, 1 for pictures on their own.
    """
    every = [(curve, curve.against(panel)) for curve in curves]
    placed = [(curve, x) for curve, x in every if x is not None]
    shares = _shares(placed, NEAR * span)
    for place, (curve, x) in enumerate(placed):
        _draw_curve(axis, x, curve, _Part(place, len(placed), *shares[place], size))
    if len(placed) > MOST_BANDS:
        _draw_ends(axis, [curve for curve, _ in placed], size)
    axis.set_xlabel(PANELS[panel])
    if placed:
        _scale(axis, [x for _, x in placed], panel)


def handle(curve: Curve, size: float = 1.0) -> Any:
    """Return the line of a curve in a legend: as it is where it meets no other."""
    from matplotlib.lines import Line2D  # noqa: PLC0415 - half a second

    own = curve.look
    return Line2D(
        [],
        [],
        color=own.colour,
        linestyle=own.dash,
        linewidth=1.8 * size,
        marker=own.marker,
        markersize=5.0 * size**0.5,
        markerfacecolor="white" if own.reference else own.colour,
    )


def finish_y(axis: Any, column: Column, label: bool = True) -> None:
    """Name the y axis, and let it span so much that noise does not look grave."""
    if label:
        name = f"{column.title[0].lower()}{column.title[1:]}"
        axis.set_ylabel(f"{name} ({column.unit})")
    if column.unit == "%":
        low, high = axis.get_ylim()
        slack = max(LEAST_SPAN - (high - low), 0) / 2
        axis.set_ylim(low - slack, high + slack)


@dataclass(frozen=True)
class _Part:
    """What a curve has of the places that curves share."""

    place: int
    """Among all curves of the panel."""
    all: int
    own: int
    """Among those that look equal to it."""
    equal: int
    size: float


def _shares(
    placed: Sequence[tuple[Curve, NDArray[np.float64]]], near: float
) -> list[tuple[int, int]]:
    """Return of every curve its place among those that look equal, and their number."""
    groups: list[list[int]] = []
    for place, (curve, x) in enumerate(placed):
        for group in groups:
            first, other = placed[group[0]]
            alike = len(x) == len(other) and np.allclose(x, other, rtol=0.01)
            if alike and float(np.abs(curve.mean - first.mean).max()) <= near:
                group.append(place)
                break
        else:
            groups.append([place])
    of = {p: (i, len(group)) for group in groups for i, p in enumerate(group)}
    return [of[place] for place in range(len(placed))]


def _draw_curve(axis: Any, x: NDArray[np.float64], curve: Curve, part: _Part) -> None:
    own = curve.look
    dash = own.dash
    if part.equal > 1 and len(x) > 1:
        # Each shows in the gaps of the others: one line of all their colours.
        length = 3.5
        dash = (part.own * length, (length, (part.equal - 1) * length))
    few = len(x) < max(part.equal, 2)
    # Points that lie on each other are rings around each other.
    ring = (part.equal - 1 - part.own) * 2.4 if few else 0
    axis.plot(
        x,
        curve.mean,
        color=own.colour,
        linestyle=dash,
        dash_capstyle="butt",
        linewidth=1.8 * part.size,
        marker=own.marker,
        markersize=(6.0 if few else 5.0) * (part.size**0.5) + ring,
        markerfacecolor="white" if own.reference or ring else own.colour,
        markeredgecolor=own.colour,
        markeredgewidth=1.0 * part.size,
        markevery=_marked(len(x), part),
        zorder=2 + (part.own if few else 0) * 0.01,
    )
    several = len(curve.values) > 1 and len(x) > 1 and part.all <= MOST_BANDS
    if several:
        low, high = curve.values.min(0), curve.values.max(0)
        axis.fill_between(x, low, high, color=own.colour, alpha=0.1, linewidth=0)
        for edge in (low, high):
            axis.plot(x, edge, color=own.colour, alpha=0.6, linewidth=0.5)


def _marked(number: int, part: _Part) -> slice:
    """Return the points with a marker: spread over a curve, others than its neighbours'."""
    step = max(math.ceil(number / MARKS), min(part.equal, number), 1)
    turn = part.own if part.equal > 1 else part.place * step // max(part.all, 1)
    return slice(turn % step, None, step)


def _draw_ends(axis: Any, curves: Sequence[Curve], size: float) -> None:
    """Draw what seeds differ by at the end, right of the panel: a bar a curve."""
    if max(len(curve.values) for curve in curves) < 2:
        return
    place = axis.get_yaxis_transform()
    width = axis.get_window_extent().width / axis.figure.dpi
    # In shares of the panel, of which all of them take a third at most.
    gap = min(0.052 * size / max(width, 0.5), 0.35 / len(curves))
    for number, curve in enumerate(curves):
        x = 1.02 + gap * (number + 0.5)
        last = curve.values[:, -1]
        axis.plot(
            [x, x],
            [last.min(), last.max()],
            color=curve.look.colour,
            linewidth=1.4 * size,
            transform=place,
            clip_on=False,
        )
        axis.plot(
            [x],
            [last.mean()],
            color=curve.look.colour,
            marker=curve.look.marker,
            markersize=3.2 * size**0.5,
            markerfacecolor="white" if curve.look.reference else curve.look.colour,
            transform=place,
            clip_on=False,
        )


def span_of(curves: Sequence[Curve]) -> float:
    """Return what the means of curves span, which is above 0."""
    values = np.concatenate([curve.mean for curve in curves]) if curves else np.zeros(1)
    return max(float(values.max() - values.min()), 1e-9)


def named(curve: Curve) -> str:
    """Return what a legend calls a curve."""
    name = drawable(with_signs(curve.label, False, curve.of_clients))
    return f"{name} (reference)" if curve.look.reference else name


def _scale(axis: Any, values: Sequence[NDArray[np.float64]], name: str) -> None:
    """Choose a scale of x: logarithmic where costs differ by an order or more."""
    starts = [float(x[0]) for x in values]
    ends = [float(x[-1]) for x in values]
    if name != "rounds" and min(starts) > 0 and max(ends) > 20 * min(ends):
        axis.set_xscale("log")
        decades = np.log10(max(ends) / min(starts))
        subs = (1, 2, 5) if decades < 2.2 else (1,)
        axis.xaxis.get_major_locator().set_params(subs=subs)
        axis.xaxis.set_minor_formatter(lambda *_: "")
    else:
        axis.locator_params(axis="x", nbins=6, integer=name == "rounds")
    axis.xaxis.set_major_formatter(short)
