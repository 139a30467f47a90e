"""What the command line changes in a suite before it is built."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedkd.errors import PLUGIN_HINT, ConfigError, listing, suggestion
from fedkd.plugins.options import spelled_out
from fedkd.plugins.registry import Registry
from fedkd.suite.assignments import Assignment
from fedkd.suite.entries import Listed, ListedStrategy, Mix, normalise, strategy_entry
from fedkd.suite.suite import Suite, build_suite, read_suite

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
    assignments = [Assignment.of(text) for text in wishes.assignments]
    _refuse_twice(wishes, assignments)
    told = list(wishes.assignments)
    named = {key: text for key in _KINDS if (text := getattr(wishes, key)) is not None}
    for key, text in named.items():
        values[key] = _with_named(values, key, text, registry)
    # Assignments first: a selection may leave out what they address.
    for one in assignments:
        values = one.applied(values, registry)
        values = _spelled_out(values, registry, one.where)
    before = {key: values.get(key, []) for key in PICKED}
    if wishes.strategies is not None:
        values["strategies"] = _pick_strategies(values, wishes.strategies, registry)
    for key, text in named.items():
        values[key] = _pick(values, key, text, registry)
    for key in PICKED:
        if any(entry not in before[key] for entry in values.get(key, [])):
            _refuse_replaced(wishes, assignments, key)
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


def _refuse_twice(wishes: Overrides, assignments: Sequence[Assignment]) -> None:
    """Refuse an option and a ``--set`` of the same thing, of which one would be ignored.

    Raises:
        ConfigError: Naming both.
    """
    for one in assignments:
        # A number of rounds takes the place of those of single strategies, too.
        is_own = one.keys[0] == "strategies" and one.keys[2:] == ("rounds",)
        name = "rounds" if is_own else one.path
        given = name in ("seeds", "rounds", "clients")
        value = getattr(wishes, name) if given else None
        if value is not None:
            _refuse_both(f"--{name} {value}", one)


def _refuse_replaced(
    wishes: Overrides, assignments: Sequence[Assignment], key: str
) -> None:
    """Refuse a ``--set`` of a whole list that has not in it what an option picks.

    Raises:
        ConfigError: Naming both.
    """
    for one in assignments:
        if one.path == key:
            _refuse_both(f"--{key} {getattr(wishes, key)}", one)


def _refuse_both(option: str, other: Assignment) -> None:
    raise ConfigError(
        f"found {option} and {other.where}, of which one would be ignored; give one of "
        "them."
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
