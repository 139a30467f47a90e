"""What is asked from Python, put as a suite and as the command line's wishes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from fedkd.api.given import each
from fedkd.base.forms import plain_numbers, whole_number
from fedkd.base.yamlfile import EXPECTED, by_name
from fedkd.errors import ConfigError, listing, suggestion
from fedkd.harness.request import Request
from fedkd.ops.training import TrainingConfig
from fedkd.plugins.options import option_names, option_types
from fedkd.plugins.registry import Registry
from fedkd.suite.entries import not_an_entry
from fedkd.suite.overrides import PICKED, Overrides

Named: TypeAlias = str | Mapping[str, Any]
"""A registered thing: its name, or a mapping with ``name`` and options beside it."""
Models: TypeAlias = Named | Iterable[Named]
"""The models of a federation: one, or several of which client i has entry i mod n; or a
mapping with ``clients`` and ``server``."""
Seeds: TypeAlias = int | str | Iterable[int]
"""One seed, several, or a text such as ``0-4``."""
Names: TypeAlias = str | Iterable[Named]
"""Names, or a text of them with commas between."""

_HOMES = {"dataset": "datasets", "partition": "partitioners"}
"""Things whose options may be keywords, and their kinds."""


def wishes_of(
    changes: Mapping[str, Any], assignments: Mapping[str, Any] | None = None
) -> Overrides:
    """Return what the command line would be told.

    Args:
        changes: ``strategies``, ``datasets``, ``partitions``, ``models``, ``seeds``,
            ``rounds`` and ``clients`` as the options of these names, any other key of a
            suite as ``--set`` does.
        assignments: Values by dotted path, as ``--set`` takes them.

    Raises:
        ConfigError: If a value cannot be written as the command line has it.
    """
    known: dict[str, Any] = {}
    left: dict[str, Any] = {}
    for key, value in plain_numbers(changes).items():
        names = _names(key, value) if key in PICKED else None
        if names is not None:
            known[key] = names
        elif key == "seeds":
            known[key] = _seeds(value)
        elif key in ("rounds", "clients"):
            known[key] = value
        else:
            left[key] = value
    paths = {**left, **plain_numbers(assignments or {})}
    texts = [_assignment(*one) for one in paths.items()]
    return Overrides(**known, assignments=texts)


def words_of(wishes: Overrides) -> tuple[str, ...]:
    """Return the words of a command line that says the same."""
    words: list[str] = []
    for name, value in vars(wishes).items():
        if name != "assignments" and value is not None:
            words += [f"--{name}", str(value)]
    for text in wishes.assignments:
        words += ["--set", text]
    return tuple(words)


def command_of(suite: str, request: Request) -> tuple[str, ...]:
    """Return the words of a command that asks for the same, for the record.

    Args:
        suite: What the command calls the suite.
        request: What is asked for.
    """
    words = ["fedkd", "bench", suite, *words_of(request.wishes)]
    alone = (
        "out", "data_root", "chosen", "device", "executor", "jobs", "workers",
        "ray_address",
    )  # fmt: skip
    usual = Request(request.suite)
    for name in alone:
        if (value := getattr(request, name)) != getattr(usual, name):
            words += [f"--{name.replace('_', '-')}", str(value)]
    for option, values in (
        ("--plugin", request.plugin_files),
        ("--observer", request.observers),
    ):
        words += [word for value in values for word in (option, str(value))]
    flags = ("profile", "fresh")
    return (*words, *(f"--{flag}" for flag in flags if getattr(request, flag)))


@dataclass(frozen=True)
class Setting:
    """Where one run happens."""

    dataset: Named
    partition: Named
    models: Models
    seed: int
    strategy: Named | None = None
    """What runs there, if anything does; its options stand beside its name."""


def lone_suite(
    registry: Registry,
    where: str,
    setting: Setting,
    given: Mapping[str, Any],
    keys: Iterable[str],
) -> dict[str, Any]:
    """Return the suite of one setting and one seed, without its strategies.

    Args:
        registry: Where names are looked up.
        where: How messages call what was called: ``fedkd.run``.
        setting: Data set, partition, models and seed.
        given: Keys of a suite, and options of the data set or of the partition.
        keys: The keys of a suite that mean something here.

    Raises:
        ConfigError: If a keyword is none of these, or one of both things.
    """
    known = set(keys)
    suite: dict[str, Any] = {k: v for k, v in given.items() if k in known}
    homes = {
        "dataset": _mapping(setting.dataset, where),
        "partition": _mapping(setting.partition, where),
    }
    for name, value in given.items():
        if name not in known:
            key = _home(registry, name, homes, known, where, setting)
            homes[key] = {**homes[key], name: value}
    one = each(setting.models, f"{where}: models")
    return {
        **suite,
        "name": where.rpartition(".")[2],
        "datasets": [homes["dataset"]],
        "partitions": [homes["partition"]],
        "models": [one[0] if len(one) == 1 else one],
        "seeds": [whole_number(setting.seed, f"{where}: seed", least=0)],
    }


def _home(
    registry: Registry,
    option: str,
    homes: Mapping[str, Mapping[str, Any]],
    known: Iterable[str],
    where: str,
    setting: Setting,
) -> str:
    """Return which of the things has an option."""
    names: dict[str, list[str]] = {}
    for key, thing in homes.items():
        bare = str(thing["name"]).partition(":")[0]
        registry.entry(_HOMES[key], bare)  # says which name is unknown
        names[key] = option_names(registry, _HOMES[key], bare)
    having = [key for key, own in names.items() if option in own]
    if len(having) == 1:
        return having[0]
    if having:
        raise ConfigError(
            f"{where}: {option!r} is an option of the data set and of the partition; "
            f"write it beside the name: {having[0]}={{'name': "
            f"{homes[having[0]]['name']!r}, {option!r}: ...}}."
        )
    elsewhere = _beside(registry, option, known, setting)
    if elsewhere:
        raise ConfigError(f"{where}: {elsewhere}")
    every = sorted({*known, *(name for own in names.values() for name in own)})
    raise ConfigError(
        f"{where}: unknown option {option!r}.{suggestion(option, every)} Known: "
        f"{listing(every, 40)}."
    )


def _beside(
    registry: Registry, option: str, known: Iterable[str], setting: Setting
) -> str:
    """Return where an option belongs that is no keyword; "" if nothing has it."""
    if "training" in known and option in TrainingConfig.model_fields:
        return f"{option!r} is a part of training: training={{..., {option!r}: ...}}."
    for key, kind, thing in (
        ("strategy", "strategies", setting.strategy),
        ("models", "models", setting.models),
    ):
        name = thing.get("name") if isinstance(thing, Mapping) else thing
        bare = name.partition(":")[0] if isinstance(name, str) else ""
        if bare in registry.entries(kind) and option in option_types(
            registry, kind, bare
        ):
            return (
                f"{option!r} is an option of {bare}; write it beside the name: {key}="
                f"{{'name': {name!r}, {option!r}: ...}}."
            )
    return ""


def _mapping(thing: Named, where: str) -> dict[str, Any]:
    if isinstance(thing, str):
        return {"name": thing}
    if not isinstance(thing, Mapping) or not isinstance(thing.get("name"), str):
        raise ConfigError(f"{where}: {not_an_entry(thing)}")
    return dict(thing)


def _names(key: str, value: Names | Models) -> str | None:
    """Return names as one text; None if there are options beside one of them."""
    if isinstance(value, str):
        return value
    if key in ("partitions", "models") and isinstance(value, Mapping):
        return None
    names = each(value, key)
    return ",".join(map(str, names)) if all(isinstance(n, str) for n in names) else None


def _seeds(value: Seeds) -> str:
    if isinstance(value, int | str):
        return str(value)
    return ",".join(map(str, each(value, "seeds")))


def _assignment(path: str, value: Any) -> str:
    """Return the text of ``--set``; JSON is YAML."""

    def refuse(odd: Any) -> None:
        raise ConfigError(f"{path}: found {odd!r}, {EXPECTED}.{by_name(odd)}")

    return f"{path}={json.dumps(value, ensure_ascii=False, default=refuse)}"
