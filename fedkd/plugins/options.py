"""Options of registered things: checked, completed with their defaults, shown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError

from fedkd.config import Config, build
from fedkd.data.dataset import Dataset
from fedkd.errors import ConfigError, DataError, listing, named
from fedkd.partition.base import Partitioner
from fedkd.plugins.builders import config_of
from fedkd.plugins.composing import composed
from fedkd.plugins.fields import plain
from fedkd.plugins.registry import Registry, merged
from fedkd.robust.rule import Rule
from fedkd.strategy import Preset

_READING = ("datasets", "partitioners")
"""Kinds of things that may read files which their options name."""


BESIDE: Mapping[str, Any] = {"average": Rule}
"""Types of the options that any strategy takes beside its own, and that take one value."""


@dataclass(frozen=True)
class Resolved:
    """A registered thing with every option it has, ready for JSON."""

    name: str
    options: Mapping[str, Any]
    """Every option, defaults included but for those of younger options."""
    changed: Mapping[str, Any]
    """The options that differ from their defaults."""
    content: str = ""
    """A digest of the files that it reads and that decide results; empty for most."""
    config: Config | None = field(default=None, compare=False, repr=False)
    """The options as they were checked; None for models, and in another process, where
    a plug-in's classes may not be known yet."""

    def __getstate__(self) -> dict[str, Any]:
        """Return what travels to another process: plain values only."""
        return {**vars(self), "config": None}

    def __hash__(self) -> int:
        """Return a number that is equal for equal things."""
        return hash(json.dumps(self.plain(), sort_keys=True))

    def plain(self) -> dict[str, Any]:
        """Return the form that run configurations hold."""
        plain = {"name": self.name, "options": dict(self.options)}
        return {**plain, "content": self.content} if self.content else plain

    def shown(self, leave_out: tuple[str, ...] = ()) -> str:
        """Return a short text such as ``cnn`` or ``cnn[width=0.5]``."""
        parts = [f"{k}={v}" for k, v in self.changed.items() if k not in leave_out]
        return f"{self.name}[{','.join(parts)}]" if parts else self.name


_BESIDE = {
    "strategies": ("label", "rounds", "training", "search", "calibrate", "average"),
}
"""Keys that may stand beside a name and are no options of what it names."""


def resolve(
    registry: Registry, kind: str, name: str, options: Mapping[str, Any], where: str
) -> Resolved:
    """Check ``options`` of a registered thing and fill in the rest.

    Args:
        registry: Where it is registered.
        kind: ``strategies``, ``datasets``, ``partitioners``, ``models``, ``metrics``.
        name: Its registered name, or ``NAME:VALUE``.
        options: What the user wrote.
        where: Where that was: ``"suite x.yaml: strategies.mosaic"``.

    Raises:
        ConfigError: If the name is unknown or an option cannot be used.
    """
    name, options = spelled_out(registry, kind, name, options, where)
    target = _look_up(registry, kind, name, where)
    if kind == "models":
        _check_classifier(registry, name, where)
        return _resolve_model(name, target, options, where)
    cls, preset = _parts(target)
    wanted = merged(preset, options)
    cls = composed(kind, cls, wanted)
    argument = getattr(cls, "argument", "")
    if argument and argument not in wanted and is_required(cls.Config, argument):
        raise ConfigError(
            f"{where}: found {name!r} alone, expected '{name}:{argument.upper()}'."
        )
    config = build(cls.Config, wanted, where, _BESIDE.get(kind, ("label",)))
    content = ""
    if kind in _READING:
        thing = registry.constructed(kind, name, cls, config)
        with named(f"{registry.entry(kind, name).title}: {cls.__name__}.content"):
            content = _content(thing, where)
    changed = _changed(config, preset)
    every = _kept(config, config.model_dump(mode="json"), changed)
    return Resolved(name, every, changed, content, config)


def made(registry: Registry, kind: str, thing: Resolved) -> Any:
    """Return a new strategy, data set, partitioner or metric with its options.

    Args:
        registry: Where it is registered.
        kind: ``strategies``, ``datasets``, ``partitioners`` or ``metrics``.
        thing: What :func:`resolve` returned, maybe in another process.
    """
    cls, _ = _parts(registry.resolve(kind, thing.name))
    cls = composed(kind, cls, thing.options)
    config = thing.config or build(cls.Config, thing.options, f"{kind}.{thing.name}")
    return registry.constructed(kind, thing.name, cls, config)


def is_required(config: type[BaseModel], option: str) -> bool:
    """Return whether an option has no default."""
    declared = config.model_fields.get(option)
    return declared is not None and declared.is_required()


def spelled_out(
    registry: Registry, kind: str, name: str, options: Mapping[str, Any], where: str
) -> tuple[str, Mapping[str, Any]]:
    """Return name and options of what ``NAME:VALUE`` is short for; others as they are.

    A data set or partitioner says itself which option the value is: its ``argument``.

    Raises:
        ConfigError: If the name is unknown, takes no value, or has it beside it too.
    """
    bare, colon, value = name.partition(":")
    if not colon or kind not in _READING:
        return name, options
    option = _look_up(registry, kind, bare, where).argument
    if not option:
        raise ConfigError(
            f"{where}: found {name!r}, expected {bare!r}: it takes nothing after ':'. "
            "Write options beside the name."
        )
    if not value or option in options:
        what = "nothing after it" if not value else f"{option!r} beside it too"
        raise ConfigError(
            f"{where}: found {name!r} with {what}, expected '{bare}:{option.upper()}'."
        )
    return bare, {option: value, **options}


def option_names(registry: Registry, kind: str, name: str) -> list[str]:
    """Return the names of the options of a registered thing, sorted.

    Raises:
        ConfigError: If the name is unknown.
    """
    cls, _ = _parts(registry.resolve(kind, name))
    return sorted(config_of(cls).model_fields)


def option_types(registry: Registry, kind: str, name: str) -> dict[str, Any]:
    """Return the types of the options of a registered thing; none if it has no options.

    Unknown names, and mixes of models, have none.

    Args:
        registry: Where it is registered.
        kind: As in :func:`resolve`.
        name: Its registered name, or ``NAME:VALUE``.
    """
    bare = name.partition(":")[0]
    entry = registry.entries(kind).get(bare)
    if entry is None or entry.kind == "mix":
        return {}
    cls, _ = _parts(registry.resolve(kind, bare))
    own = {k: f.annotation for k, f in config_of(cls).model_fields.items()}
    return {**BESIDE, **own} if kind == "strategies" else own


def _look_up(registry: Registry, kind: str, name: str, where: str) -> Any:
    try:
        return registry.resolve(kind, name)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def _parts(target: Any) -> tuple[Any, Mapping[str, Any]]:
    """Return the class that is registered and what a preset of it says of its options."""
    if isinstance(target, Preset):
        return target.strategy, target.options
    return target, {}


def _content(reader: Dataset | Partitioner, where: str) -> str:
    try:
        return reader.content()
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    except (DataError, OSError):
        return ""  # loading says what is wrong, and stops no run on other data


def _changed(config: BaseModel, preset: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that differ from those of the bare name."""
    cls = type(config)
    try:
        usual = cls(**preset)
    except ValidationError:  # there is no bare form: an option has no default
        usual = cls.model_construct(**preset)
    bare = usual.model_dump(mode="json", warnings=False)
    values = config.model_dump(mode="json")
    return {k: v for k, v in values.items() if k not in bare or bare[k] != v}


def _kept(
    config: Config, options: Mapping[str, Any], changed: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the options without younger ones that are left at their defaults."""
    idle = config.younger_options - changed.keys()
    return {option: v for option, v in options.items() if option not in idle}


def _check_classifier(registry: Registry, name: str, where: str) -> None:
    models = registry.entries("models")
    if models[name].kind != "classifier":
        known = [n for n, entry in models.items() if entry.kind == "classifier"]
        raise ConfigError(
            f"{where}: is a {models[name].kind}, expected a classifier: {listing(known)}."
        )


def _resolve_model(
    name: str, target: Any, options: Mapping[str, Any], where: str
) -> Resolved:
    """Return a model with its options as the user wrote them: 1 stays 1, and not 1.0.

    The hash of a run and the stream of initial weights are made of these texts.
    """
    config = build(config_of(target), options, where)
    written: dict[str, Any] = plain(options)
    changed = _changed(config, {})
    every = merged(config.model_dump(mode="json"), written)
    return Resolved(
        name,
        _kept(config, every, changed),
        {option: value for option, value in written.items() if option in changed},
    )
