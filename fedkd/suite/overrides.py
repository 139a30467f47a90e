"""What the command line changes in a suite before it is built."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedkd.base import yamlfile
from fedkd.errors import PLUGIN_HINT, ConfigError, listing, suggestion
from fedkd.plugins.options import option_names, spelled_out
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
from fedkd.suite.suite import Suite, build_suite, read_suite

_SHARED = {
    "partition": ("partitions", "partitioners"),
    "dataset": ("datasets", "datasets"),
    "model": ("models", "models"),
}
"""``--set`` paths that mean every listed thing that has the option."""

_KINDS = {"datasets": "datasets", "partitions": "partitioners", "models": "models"}
"""What is picked beside strategies: keys of a suite, which are options of the command
line, and the kinds they are of."""
PICKED = ("strategies", *_KINDS)
"""Options that name things of a suite, and leave others out."""


@dataclass(frozen=True)
class Overrides:
    """The command line's wishes, each an option of ``fedkd bench`` of its name.

    None or empty leaves the suite as it is. ``assignments`` are those of ``--set``.
    """

    strategies: str | None = None
    datasets: str | None = None
    partitions: str | None = None
    models: str | None = None
    seeds: str | None = None
    rounds: int | None = None
    clients: int | None = None
    assignments: Sequence[str] = ()
    """``path=value`` texts."""


def load_overridden(
    suite: str | Path | Mapping[str, Any], wishes: Overrides, registry: Registry
) -> Suite:
    """Read a suite, or take the content of one, and apply the command line to it.

    Raises:
        ConfigError: Naming the suite or the option, and what cannot be used.
    """
    values, where = read_suite(suite)
    values = _spelled_out(values, registry, where)
    _refuse_twice(wishes)
    told = list(wishes.assignments)
    named = {key: text for key in _KINDS if (text := getattr(wishes, key)) is not None}
    for key, text in named.items():
        values[key] = _with_named(values, key, text, registry)
    # Assignments first: a selection may leave out what they address.
    for text in wishes.assignments:
        values = _assign(values, text, registry)
        values = _spelled_out(values, registry, f"--set {text}")
    before = {key: values.get(key, []) for key in PICKED}
    if wishes.strategies is not None:
        values["strategies"] = _pick_strategies(values, wishes.strategies, registry)
    for key, text in named.items():
        values[key] = _pick(values, key, text, registry)
    for key in PICKED:
        _refuse_replaced(wishes, key, before[key], values.get(key, []))
    if wishes.seeds is not None:
        values["seeds"] = wishes.seeds
        told.append(f"--seeds {wishes.seeds}")
    if wishes.clients is not None:
        values["clients"] = wishes.clients
        told.append(f"--clients {wishes.clients}")
    if wishes.rounds is not None:
        values["rounds"] = wishes.rounds
        told.append(f"--rounds {wishes.rounds}")
        values["strategies"] = [
            entry.model_copy(update={"rounds": None})
            for entry in values.get("strategies", [])
        ]
    return build_suite(values, f"{where} with {', '.join(told)}" if told else where)


def _refuse_twice(wishes: Overrides) -> None:
    """Refuse an option and a ``--set`` of the same thing, of which one would be ignored.

    Raises:
        ConfigError: Naming both.
    """
    for text in wishes.assignments:
        path = text.partition("=")[0].strip()
        # A number of rounds takes the place of those of single strategies, too.
        own = path.startswith("strategies.") and path.count(".") == 2
        name = "rounds" if own and path.endswith(".rounds") else path
        value = (
            getattr(wishes, name) if name in ("seeds", "rounds", "clients") else None
        )
        if value is not None:
            _refuse_both(f"--{name} {value}", text)


def _refuse_replaced(
    wishes: Overrides, key: str, before: Sequence[Any], picked: Sequence[Any]
) -> None:
    """Refuse to pick what a ``--set`` of the whole list has not in it.

    Raises:
        ConfigError: Naming both.
    """
    for text in wishes.assignments:
        if text.partition("=")[0].strip() == key and any(
            e not in before for e in picked
        ):
            _refuse_both(f"--{key} {getattr(wishes, key)}", text)


def _refuse_both(option: str, text: str) -> None:
    raise ConfigError(
        f"found {option} and --set {text}, of which one would be ignored; give one of them."
    )


def _pick_strategies(
    values: Mapping[str, Any], text: str, registry: Registry
) -> list[ListedStrategy]:
    listed: list[ListedStrategy] = values.get("strategies", [])
    picked: list[ListedStrategy] = []
    for name in names_in(text, "--strategies"):
        matching = [entry for entry in listed if entry.label == name]
        matching = matching or [entry for entry in listed if entry.name == name]
        if not matching:
            labels = [entry.label for entry in listed]
            _known(name, labels, "strategies", registry, "--strategies")
            matching = [strategy_entry(name, "--strategies")]
        picked += [entry for entry in matching if entry not in picked]
    return picked


def _pick(
    values: Mapping[str, Any], key: str, text: str, registry: Registry
) -> list[Any]:
    """Return the data sets, partitions or models that a text names."""
    listed: list[Any] = values.get(key, [])
    picked: list[Any] = []
    for written in names_in(text, f"--{key}"):
        matching = [entry for entry in listed if entry.label == written]
        if not matching:
            with _hint_at_commas(text):
                _check_named(listed, key, written, registry)
            matching = _named(listed, key, written, registry)
        picked += [entry for entry in matching if entry not in picked]
    return picked


def _check_named(
    listed: Sequence[Any], key: str, written: str, registry: Registry
) -> None:
    """Refuse a name, before its value, that is neither in the suite nor registered."""
    bare = written.partition(":")[0]
    names = [name for entry in listed for name in _names_of(entry)]
    if bare not in names:
        labels = [entry.label for entry in listed if entry.label]
        _known(bare, [*labels, *names], _KINDS[key], registry, f"--{key}")


def _named(
    listed: Sequence[Any], key: str, written: str, registry: Registry
) -> list[Any]:
    """Return what is listed under a name, and with a value has it too; else a new one."""
    option, kind = f"--{key}", _KINDS[key]
    if key == "models":
        # Of a federation whose models differ, one name is not its name.
        matching = [mix for mix in listed if _names_of(mix) == [written]]
        return matching or normalise({key: [written]}, option)[key]
    name, options = spelled_out(registry, kind, written, {}, option)
    matching = [e for e in listed if e.name == name and _has(e, options)]
    return matching or [Listed(name=name, options=dict(options))]


def _names_of(entry: Listed | Mix) -> list[str]:
    """Return the name of a thing, or the names of a mix of models, each once."""
    if isinstance(entry, Listed):
        return [entry.name]
    server = [] if entry.server is None else [entry.server]
    return list(dict.fromkeys(one.name for one in (*entry.clients, *server)))


@contextlib.contextmanager
def _hint_at_commas(text: str) -> Iterator[None]:
    """Say of an unknown name beside a path that it may be the rest of the path."""
    try:
        yield
    except ConfigError as error:
        if ":" not in text:
            raise
        hint = "A path that holds a comma goes into a suite file."
        raise ConfigError(f"{error} {hint}") from None


def _with_named(
    values: Mapping[str, Any], key: str, text: str, registry: Registry
) -> list[Any]:
    """Return what the suite lists and what is named beside, which --set means too."""
    listed: list[Any] = values.get(key, [])
    picked = _pick(values, key, text, registry)
    return [*listed, *(entry for entry in picked if entry not in listed)]


def _has(entry: Listed, options: Mapping[str, Any]) -> bool:
    return all(entry.options.get(key) == value for key, value in options.items())


def _spelled_out(
    values: Mapping[str, Any], registry: Registry, where: str
) -> dict[str, Any]:
    """Return the values with ``NAME:VALUE`` as a name with options."""
    spelled = dict(values)
    kinds = {"datasets": "datasets", "partitions": "partitioners"}
    for key in kinds.keys() & values.keys():
        spelled[key] = [
            _spelled_entry(entry, registry, kinds[key], f"{where}: {key}")
            for entry in values[key]
        ]
    return spelled


def _spelled_entry(entry: Listed, registry: Registry, kind: str, where: str) -> Listed:
    name, options = spelled_out(registry, kind, entry.name, entry.options, where)
    return entry.model_copy(update={"name": name, "options": dict(options)})


def names_in(text: str, option: str) -> list[str]:
    """Return the names of a text with commas between.

    Raises:
        ConfigError: If there is none, or one comes twice; begins with ``option``.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise ConfigError(f"{option}: found {text!r}, expected names, such as a,b.")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"{option}: found {twice!r} twice; name it once.")
    return names


def _known(
    name: str, listed: Sequence[str], kind: str, registry: Registry, option: str
) -> None:
    """Refuse a name that is neither in the suite nor registered."""
    registered = registry.entries(kind)
    if name not in registered:
        known = list(dict.fromkeys([*listed, *registered]))
        raise ConfigError(
            f"{option}: unknown name {name!r}.{suggestion(name, known)} "
            f"Known: {listing(known)} (run 'fedkd list {kind}').{PLUGIN_HINT}"
        )


def _assign(values: dict[str, Any], text: str, registry: Registry) -> dict[str, Any]:
    """Return ``values`` after ``--set text``."""
    where = f"--set {text}"
    path, equals, written = text.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(f"{where}: expected path=value, such as partition.alpha=0.1.")
    value = yamlfile.parse(written, where)
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
