"""``--set PATH=VALUE``: one value of a suite, changed before the suite is built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedkd.base import yamlfile
from fedkd.errors import ConfigError, listing, suggestion
from fedkd.plugins.options import option_names
from fedkd.plugins.registry import Registry
from fedkd.suite.axes import NESTED
from fedkd.suite.entries import (
    AMOUNTS,
    Listed,
    ListedStrategy,
    Mix,
    normalise,
    strategy_entry,
    without_amounts,
)
from fedkd.suite.suite import Suite

_SHARED = {
    "partition": ("partitions", "partitioners"),
    "dataset": ("datasets", "datasets"),
    "model": ("models", "models"),
}
"""``--set`` paths that mean every listed thing that has the option."""


@dataclass(frozen=True)
class Assignment:
    """What one ``--set`` says."""

    text: str
    """As it was written."""
    keys: tuple[str, ...]
    """The path, key by key; one at least."""
    value: Any
    """What is to stand there, as a YAML file would hold it."""

    @classmethod
    def of(cls, text: str) -> Assignment:
        """Read ``path=value``.

        Raises:
            ConfigError: If it is not of this form.
        """
        where = f"--set {text}"
        path, equals, written = text.partition("=")
        keys = tuple(path.strip().split("."))
        if not equals or not all(keys):
            raise ConfigError(
                f"{where}: expected path=value, such as partition.alpha=0.1."
            )
        return cls(text, keys, yamlfile.parse(written, where))

    @property
    def path(self) -> str:
        """The keys with points between."""
        return ".".join(self.keys)

    @property
    def where(self) -> str:
        """How messages call it."""
        return f"--set {self.text}"

    def applied(self, values: dict[str, Any], registry: Registry) -> dict[str, Any]:
        """Return the values of a suite with this one in its place.

        Args:
            values: Of a suite whose lists of registered things are entries.
            registry: Where names are looked up.

        Raises:
            ConfigError: If there is no such place.
        """
        where, keys, value = self.where, list(self.keys), self.value
        if keys[0] in _SHARED:
            return _assign_shared(values, keys, value, registry)
        if keys[0] == "strategies" and len(keys) > 1:
            return _assign_strategy(values, keys[1:], value, where)
        if keys[0] not in Suite.model_fields:
            known = [*_SHARED, *Suite.model_fields]
            raise ConfigError(
                f"{where}: unknown key {keys[0]!r}.{suggestion(keys[0], known)} "
                f"Known: {listing(known, 30)}."
            )
        if keys[0] == "search":
            # What is searched has points in its name.
            keys = [part for part in ("search", ".".join(keys[1:])) if part]
        if len(keys) > 1 and keys[0] not in (*NESTED, "search"):
            raise ConfigError(f"{where}: {keys[0]!r} has no keys below it.")
        if keys[0] == "training" and keys[-1] in AMOUNTS and value is not None:
            # One amount of work replaces the other.
            values = {**values, "training": without_amounts(values.get("training"))}
        return normalise(_put(values, keys, value, where), where)


def _assign_shared(
    values: dict[str, Any], keys: list[str], value: Any, registry: Registry
) -> dict[str, Any]:
    """Set an option of every partition, data set or model that has it."""
    where = f"--set {'.'.join(keys)}"
    if len(keys) < 2:
        raise ConfigError(f"{where}: name an option, such as partition.alpha=0.1.")
    listed, kind = _SHARED[keys[0]]
    met: set[str] = set()
    hits = 0

    def changed(entry: Listed) -> Listed:
        nonlocal hits
        if registry.entry(kind, entry.name).kind == "mix":
            return entry  # its models are as they are
        names = option_names(registry, kind, entry.name)
        met.update(names)
        if keys[1] not in names:
            return entry
        hits += 1
        return entry.model_copy(
            update={"options": _put(entry.options, keys[1:], value, where)}
        )

    old = values.get(listed, [])
    new = [x.mapped(changed) if isinstance(x, Mix) else changed(x) for x in old]
    if not hits:
        raise ConfigError(
            f"{where}: no {keys[0]} of the suite has this option."
            f"{suggestion(keys[1], met)} Known: {listing(sorted(met), 30) or 'none'}."
        )
    # Two settings that only differed here are now one.
    return {**values, listed: [x for i, x in enumerate(new) if x not in new[:i]]}


def _assign_strategy(
    values: dict[str, Any], keys: list[str], value: Any, where: str
) -> dict[str, Any]:
    """Set an option of the strategy with the label ``keys[0]``."""
    listed: list[ListedStrategy] = values.get("strategies", [])
    labels = [entry.label for entry in listed]
    if keys[0] not in labels or len(keys) < 2:
        raise ConfigError(
            f"{where}: expected strategies.LABEL.OPTION=value with a label of the "
            f"suite.{suggestion(keys[0], labels)} Known: {listing(labels, 30)}."
        )

    def changed(entry: ListedStrategy) -> ListedStrategy:
        own = {"rounds": entry.rounds, "training": entry.training, **entry.options}
        if entry.search:
            own["search"] = entry.search
        if keys[1] == "training" and keys[-1] in AMOUNTS and value is not None:
            own["training"] = without_amounts(own["training"])
        own = _put(own, keys[1:], value, where)
        return strategy_entry(
            {**own, "name": entry.name, "label": entry.label}, "--set strategies"
        )

    return {
        **values,
        "strategies": [changed(e) if e.label == keys[0] else e for e in listed],
    }


def _put(
    mapping: Mapping[str, Any], keys: Sequence[str], value: Any, where: str
) -> dict[str, Any]:
    """Return a copy of ``mapping`` with ``value`` at the path ``keys``."""
    if len(keys) == 1:
        return {**mapping, keys[0]: value}
    inner = mapping.get(keys[0]) or {}
    if not isinstance(inner, Mapping):
        raise ConfigError(f"{where}: {keys[0]!r} has no keys below it.")
    return {**mapping, keys[0]: _put(inner, keys[1:], value, where)}
