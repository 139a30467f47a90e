"""What a search chooses of a suite: those values of the suite are not what runs had."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fedkd.errors import FedKDError
from fedkd.plugins.registry import Registry
from fedkd.suite.axes import axis_text
from fedkd.suite.entries import AMOUNTS, ListedStrategy
from fedkd.suite.search import SearchConfig, space_of
from fedkd.suite.suite import Suite


@dataclass(frozen=True)
class Searched:
    """The paths that are searched, and what a suite itself says there."""

    paths: Mapping[str, Collection[str]] = field(default_factory=dict)
    """Of each strategy, by label."""
    usual: Mapping[str, Any] = field(default_factory=dict)
    """The suite's local training."""
    written: Sequence[tuple[str, str]] = ()
    """Labels and what the suite writes beside the strategies themselves."""

    @property
    def shared(self) -> list[str]:
        """The paths that are searched for every strategy."""
        first, *rest = self.paths.values() or [()]
        return [path for path in first if all(path in one for one in rest)]

    @property
    def training(self) -> frozenset[str]:
        """The keys of local training that are searched for every strategy."""
        pairs = (path.split(".", 1) for path in self.shared)
        return frozenset(key for root, key in pairs if root == "training")

    def fixed(
        self, entry: ListedStrategy
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        """Return the options and the local training of a strategy that stay as written."""
        values: Any = {"strategy": entry.options, "training": entry.training}
        for path in _with_amounts(self.paths.get(entry.label, ())):
            values = _without(values, path.split("."))
        return values.get("strategy", {}), values.get("training", {})

    def lines(self) -> list[str]:
        """Return which values stand under Tuning, and what they are else."""
        if not any(self.paths.values()):
            return []
        shared = self.shared
        labels: dict[str, list[str]] = {}
        for label, paths in self.paths.items():
            for path in (one for one in paths if one not in shared):
                labels.setdefault(path, []).append(label)
        own = [f"{path} of {', '.join(names)}" for path, names in labels.items()]
        usual = [
            f"{path} {axis_text(self.usual[key])}"
            for path in _with_amounts(shared)
            if (key := path.removeprefix("training.")) in self.usual
            and (key not in AMOUNTS or self.usual[key] is not None)
        ]
        usual += [f"{what} of {label}" for label, what in self.written]
        where = f', where "as it was" is {", ".join(usual)}' if usual else ""
        return [
            f"Searched: {'; '.join([*shared, *own])}. The values are those under "
            f"Tuning{where}."
        ]


def searched_by(suite: Suite, registry: Registry) -> Searched:
    """Return what the search of a suite chooses; nothing without one."""
    if suite.search is None:
        return Searched()
    search = suite.search
    paths = {one.label: _paths(one, search, registry) for one in suite.strategies}
    written = []
    for entry in suite.strategies:
        values = {"strategy": entry.options, "training": entry.training}
        for path in _with_amounts(paths[entry.label]):
            if (value := _at(values, path.split("."))) is not None:
                written.append((entry.label, f"{path} {axis_text(value)}"))
    return Searched(paths, suite.training.model_dump(mode="json"), written)


def _paths(
    entry: ListedStrategy, search: SearchConfig, registry: Registry
) -> Sequence[str]:
    """Return what is searched of a strategy; of one that is not loaded, what is sure."""
    try:
        return list(space_of(registry, search, entry.name, entry.search))
    except FedKDError:
        shared = [path for path in search.space if path.startswith("training.")]
        return list(dict.fromkeys([*shared, *entry.search]))


def _with_amounts(paths: Collection[str]) -> Collection[str]:
    """Return paths, with both amounts of training if one is there: it replaces both."""
    amounts = [f"training.{key}" for key in AMOUNTS]
    if not any(path in paths for path in amounts):
        return paths
    return dict.fromkeys([*paths, *amounts])


def _at(values: Any, keys: Sequence[str]) -> Any:
    """Return the value below keys; None if there is none."""
    for key in keys:
        values = values.get(key) if isinstance(values, Mapping) else None
    return values


def _without(values: Mapping[str, Any], keys: Sequence[str]) -> Mapping[str, Any]:
    """Return values without that below keys, and without what is empty then."""
    first, *rest = keys
    if first not in values:
        return values
    inner = values[first]
    others = {key: value for key, value in values.items() if key != first}
    if not rest or not isinstance(inner, Mapping):
        return values if rest else others
    left = _without(inner, rest)
    return {**values, first: left} if left or left == inner else others
