"""Figures of whole benches: accuracy beside costs, and mean ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedkd.errors import ConfigError
from fedkd.report.figures import drawable, figure_in, short
from fedkd.report.looks import Look
from fedkd.report.stats.front import Point, front
from fedkd.report.stats.ranks import Ranking

AXES = {
    "bytes": ("MB sent, up and down", 1e-6),
    "examples": ("images trained on by clients", 1.0),
    "seconds": ("seconds", 1.0),
}
"""What an axis is called, and by what its costs are multiplied."""


def draw_pareto(
    panels: Mapping[str, Sequence[Point]],
    shown: Mapping[str, Look],
    path: Path,
    title: str,
) -> None:
    """Draw global accuracy against each cost, and the Pareto front of the competitors.

    Who does not compete is hollow and in no front.

    Args:
        panels: Points by cost: keys of :data:`AXES`.
        shown: What each strategy is drawn with, by label.
        path: The file to write.
        title: Heading.
    """
    columns = 4
    labels = {point.label for points in panels.values() for point in points}
    lines = -(-len(labels) // columns)
    with figure_in(4 * len(panels), 4.3 + 0.24 * lines, path) as figure:
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        for axis, (cost, points) in zip(axes, panels.items(), strict=True):
            name, unit = AXES[cost]
            for point in points:
                _draw_point(axis, point, shown[point.label], unit)
            best = front(points)
            x, y = [p.cost * unit for p in best], [p.quality for p in best]
            axis.plot(
                x, y, color="#999999", linewidth=1.2, drawstyle="steps-post", zorder=1
            )
            _scale(axis, [point.cost * unit for point in points])
            axis.set_xlabel(name)
        axes[0].set_ylabel("global accuracy (%)")
        # A strategy may be in some panels only: not all results know all costs.
        pairs = (zip(*axis.get_legend_handles_labels(), strict=True) for axis in axes)
        known = {text: one for some in pairs for one, text in some}
        figure.legend(
            [*known.values()], [*known], loc="outside lower center", ncols=columns
        )
        note = " — line: nobody is better at no more cost; hollow: no competitor"
        figure.suptitle(drawable(title) + note, fontsize=12)


def draw_ranks(ranking: Ranking, path: Path, title: str) -> None:
    """Draw a critical-difference diagram: bars join strategies that are not separated.

    Args:
        ranking: Mean ranks.
        path: The file to write.
        title: Heading.

    Raises:
        ConfigError: If scikit-posthocs is not installed.
    """
    try:
        # Half a second to import, with pandas.
        import pandas as pd  # noqa: PLC0415
        import scikit_posthocs as posthocs  # noqa: PLC0415
    except ImportError:
        raise ConfigError(
            "the diagram of mean ranks needs scikit-posthocs; install it with "
            "pip install 'fedkd[report]'"
        ) from None
    names = [drawable(label) for label in ranking.mean_ranks]
    ranks = pd.Series(list(ranking.mean_ranks.values()), index=names)
    near = [[float(_are_near(ranking, a, b)) for b in names] for a in names]
    with figure_in(8, 1.6 + 0.16 * len(names), path) as figure:
        axis = figure.subplots()
        axis.grid(visible=False)
        posthocs.critical_difference_diagram(
            ranks, pd.DataFrame(near, index=names, columns=names), ax=axis
        )
        note = (
            f"mean rank over {ranking.blocks} blocks, 1 is best; bars join who is not "
            f"separated (Nemenyi, CD {ranking.critical_difference:.2f})"
        )
        axis.set_title(f"{drawable(title)}\n{note}", fontsize=10, pad=14)


def _are_near(ranking: Ranking, one: str, other: str) -> bool:
    """Say whether no test separates two strategies, by the names that are drawn."""
    groups = [{drawable(label) for label in group} for group in ranking.groups]
    return one == other or any({one, other} <= group for group in groups)


def _draw_point(axis: Any, point: Point, look: Look, unit: float) -> None:
    axis.scatter(
        [point.cost * unit],
        [point.quality],
        marker=look.marker,
        s=46,
        facecolor=look.colour if point.competes else "none",
        edgecolor=look.colour,
        label=drawable(point.label),
        zorder=2,
        clip_on=False,
    )


def _scale(axis: Any, values: Sequence[float]) -> None:
    """Choose a scale of x: logarithmic where costs differ by an order or more."""
    positive = [value for value in values if value > 0]
    if positive and max(positive) > 10 * min(positive):
        # Who sends nothing stands at 0, which a logarithm has not.
        axis.set_xscale("symlog", linthresh=min(positive), linscale=0.4)
        axis.set_xlim(left=0 if min(values) == 0 else min(positive) / 1.5)
        axis.xaxis.set_minor_formatter(lambda *_: "")
    else:
        axis.locator_params(axis="x", nbins=6)
        axis.set_xlim(left=0)
    axis.xaxis.set_major_formatter(short)
