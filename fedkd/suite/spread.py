"""Lists where an option of a listed thing takes one value: an entry for each of them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_origin

from fedkd.plugins.options import option_types
from fedkd.plugins.registry import Registry
from fedkd.suite.axes import axis_text, require_few
from fedkd.suite.entries import Listed, ListedStrategy, Mix

MOST = 10_000
"""Things that the lists of one entry may make."""


def spread(registry: Registry, kind: str, entries: Sequence[Listed]) -> list[Listed]:
    """Return data sets or partitions, one for each value of an option that is a list."""
    several = []
    for entry in entries:
        for told, options in _each(_lists(registry, kind, entry), entry.options):
            label = entry.label and " ".join([entry.label, *map("=".join, told)])
            several.append(
                entry.model_copy(update={"options": options, "label": label})
            )
    return several


def spread_mixes(registry: Registry, mixes: Sequence[Mix]) -> list[Mix]:
    """Return mixes, one for each value of a model's option that is a list."""
    several = []
    for mix in mixes:
        models = [spread(registry, "models", [entry]) for entry in mix.clients]
        require_few(map(len, models), "models", MOST)
        points = list(itertools.product(*models))
        for number, one in enumerate(points, start=1):
            label = mix.label
            if label and len(points) > 1:
                label = f"{label} {number}"
            several.append(mix.model_copy(update={"clients": one, "label": label}))
    return several


def spread_strategies(
    registry: Registry, entries: Sequence[ListedStrategy]
) -> list[ListedStrategy]:
    """Return strategies, one for each value of an option that is a list.

    Its label has the option and the value, ``fedprox-mu-0_01``; so it is with local
    training of its own.
    """
    several = []
    for entry in entries:
        lists = _lists(registry, "strategies", entry)
        rates = {k: v for k, v in entry.training.items() if isinstance(v, list)}
        for of_it, options in _each(lists, entry.options):
            for of_training, training in _each(rates, entry.training):
                told = [*of_it, *of_training]
                words = [entry.label, *(f"{key}-{value}" for key, value in told)]
                label = re.sub(r"[^A-Za-z0-9_+-]", "_", "-".join(words))
                changed = {"label": label, "options": options, "training": training}
                several.append(entry.model_copy(update=changed))
    return several


def _lists(registry: Registry, kind: str, entry: Listed) -> dict[str, list[Any]]:
    """Return the options of an entry that have a list where they take one value."""
    lists = {k: v for k, v in entry.options.items() if isinstance(v, list) and v}
    types = option_types(registry, kind, entry.name) if lists else {}
    return {k: v for k, v in lists.items() if k in types and not _takes_list(types[k])}


def _each(
    axes: Mapping[str, list[Any]], options: Mapping[str, Any]
) -> list[tuple[list[tuple[str, str]], dict[str, Any]]]:
    """Return each point of the axes, in words, and the options there."""
    require_few(map(len, axes.values()), " and ".join(axes), MOST)
    points = []
    for point in itertools.product(*axes.values()):
        told = list(zip(axes, map(axis_text, point), strict=True))
        points.append((told, {**options, **dict(zip(axes, point, strict=True))}))
    return points


def _takes_list(annotation: Any) -> bool:
    """Say whether a type has a place for a list, at whatever depth."""
    kind = get_origin(annotation) or annotation
    if kind in (list, tuple, set, frozenset, Sequence, Any):
        return True
    return any(_takes_list(part) for part in get_args(annotation))
