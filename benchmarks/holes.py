"""Which runs recorded commands ask for that are not among the recorded ones."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Sequence
from dataclasses import fields

from fedkd.base.runname import RunName
from fedkd.commands.bench import command as bench
from fedkd.errors import listing
from fedkd.plugins.registry import Registry
from fedkd.report.grouping import Setting, titles_of
from fedkd.report.results import Row
from fedkd.report.text import numbered
from fedkd.suite.grid import grid
from fedkd.suite.overrides import Overrides, load_overridden
from fedkd.suite.suite import Suite

Place = tuple[str, Setting, int]
"""Label of a strategy, setting, seed."""


def suites_of(commands: str, registry: Registry) -> list[Suite]:
    """Return the suites that ``fedkd bench`` commands run.

    Args:
        commands: One a line, as they are typed; further ones ask for other data sets,
            models or strategies than the first.
        registry: Where names are looked up.
    """
    suites = []
    for command in commands.splitlines():
        params = bench.make_context("bench", shlex.split(command)[2:]).params
        wishes = Overrides(
            **{wish.name: params[wish.name] for wish in fields(Overrides)}
        )
        suites.append(load_overridden(params["suite"], wishes, registry))
    return suites


def asked_for(suites: Iterable[Suite], registry: Registry) -> list[RunName]:
    """Return what the runs of commands are called, in the order of their grids.

    Args:
        suites: What :func:`suites_of` returns.
        registry: Where names are looked up.
    """
    return [cell.run for suite in suites for cell in grid(suite, registry)]


def axes_of(runs: Iterable[RunName]) -> set[str]:
    """Return the names of a grid's own axes.

    Args:
        runs: Of the grid.
    """
    return {name for run in runs for name, _ in run.axes}


def holes(rows: Sequence[Row], asked: Sequence[RunName]) -> list[str]:
    """Return a line for every setting and what is missing of it.

    Args:
        rows: What is recorded.
        asked: What there should be.
    """
    axes = axes_of(asked)
    there = {place_of(row, axes) for row in rows}
    titles = titles_of(_setting(run, axes) for run in asked)
    wanted: dict[tuple[Setting, int], list[str]] = {}
    for run in asked:
        wanted.setdefault((_setting(run, axes), run.seed), []).append(run.strategy)
    # Seeds that lack the same rows share a line.
    lacking: dict[tuple[Setting, tuple[str, ...]], list[int]] = {}
    for (setting, seed), labels in wanted.items():
        lost = tuple(la for la in labels if (la, setting, seed) not in there)
        if lost:
            which = () if len(lost) == len(labels) else lost
            lacking.setdefault((setting, which), []).append(seed)
    return [
        f"{titles[setting]}, {numbered('seed', seeds)}: "
        + (listing((f"`{label}`" for label in which), 30) if which else "all rows")
        for (setting, which), seeds in lacking.items()
    ]


def place_of(run: RunName, axes: Collection[str]) -> Place:
    """Return where a run stands in a grid: label, setting and seed.

    Args:
        run: One of the grid, or a row.
        axes: What :func:`axes_of` returns.
    """
    return run.strategy, _setting(run, axes), run.seed


def _setting(run: RunName, axes: Collection[str]) -> Setting:
    """Return the setting of a run, whatever a search has chosen beside some axes."""
    own = tuple((name, str(value)) for name, value in run.axes if name in axes)
    place = (run.dataset, run.partition, run.alpha, run.models, run.clients)
    return Setting(*place, axes=own)
