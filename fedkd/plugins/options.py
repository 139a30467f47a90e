"""Options of registered things: checked, completed with their defaults, shown."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError

from fedkd.config import Config, build
from fedkd.data.dataset import Dataset
from fedkd.errors import ConfigError, DataError, listing, suggestion
from fedkd.partition.base import Partitioner
from fedkd.plugins.registry import Registry, merged
from fedkd.strategy import Preset

_READING = ("datasets", "partitioners")
"""Kinds of things that may read files which their options name."""


@dataclass(frozen=True)
class Resolved:
    """A registered thing with every option it has, ready for JSON."""

    name: str
    options: Mapping[str, Any]
    """Every option, defaults included."""
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


def resolve(
    registry: Registry, kind: str, name: str, options: Mapping[str, Any], where: str
) -> Resolved:
    """Check ``options`` of a registered thing and fill in the rest.

    Args:
        registry: Where it is registered.
        kind: ``strategies``, ``datasets``, ``partitioners`` or ``models``.
        name: Its registered name, or ``NAME:VALUE``.
        options: What the user wrote.
        where: Where that was: ``"suite x.yaml: strategies.mosaic"``.

    Raises:
        ConfigError: If the name is unknown or an option cannot be used.
    """
    name, options = spelled_out(registry, kind, name, options, where)
    found = _look_up(registry, kind, name, where)
    if kind == "models":
        return _resolve_model(registry, name, found, options, where)
    wanted: dict[str, Any] = dict(options)
    cls = found
    if isinstance(found, Preset):
        cls = found.strategy
        wanted = merged(found.options, options)
    argument = getattr(cls, "argument", "")
    if argument and argument not in wanted and is_required(cls.Config, argument):
        raise ConfigError(
            f"{where}: found {name!r} alone, expected '{name}:{argument.upper()}'."
        )
    config = build(cls.Config, wanted, where)
    content = _content(cls(config), where) if kind in _READING else ""
    every = config.model_dump(mode="json")
    return Resolved(name, every, _changed(config, cls, found), content, config)


def made(registry: Registry, kind: str, thing: Resolved) -> Any:
    """Return a new strategy, data set or partitioner with its options.

    Args:
        registry: Where it is registered.
        kind: ``strategies``, ``datasets`` or ``partitioners``.
        thing: What :func:`resolve` returned, maybe in another process.
    """
    cls = registry.resolve(kind, thing.name)
    cls = cls.strategy if isinstance(cls, Preset) else cls
    config = thing.config or build(cls.Config, thing.options, f"{kind}.{thing.name}")
    return cls(config)


def is_required(config: type[BaseModel], option: str) -> bool:
    """Return whether an option has no default."""
    field = config.model_fields.get(option)
    return field is not None and field.is_required()


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
        found = "nothing after it" if not value else f"{option!r} beside it too"
        raise ConfigError(
            f"{where}: found {name!r} with {found}, expected '{bare}:{option.upper()}'."
        )
    return bare, {option: value, **options}


def option_names(registry: Registry, kind: str, name: str) -> list[str]:
    """Return the names of the options of a registered thing, sorted.

    Raises:
        ConfigError: If the name is unknown.
    """
    found = registry.resolve(kind, name)
    if kind == "models":
        return sorted(_parameters(found))
    cls = found.strategy if isinstance(found, Preset) else found
    return sorted(cls.Config.model_fields)


def _look_up(registry: Registry, kind: str, name: str, where: str) -> Any:
    try:
        return registry.resolve(kind, name)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def _content(found: Dataset | Partitioner, where: str) -> str:
    try:
        return found.content()
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    except (DataError, OSError):
        return ""  # loading says what is wrong, and stops no run on other data


def _changed(config: BaseModel, cls: Any, found: Any) -> dict[str, Any]:
    """Return the options that differ from those of the bare name."""
    values = config.model_dump(mode="json")
    preset = found.options if isinstance(found, Preset) else {}
    try:
        usual = cls.Config(**preset)
    except ValidationError:  # there is no bare form: an option has no default
        usual = cls.Config.model_construct(**preset)
    bare = usual.model_dump(mode="json", warnings=False)
    return {k: v for k, v in values.items() if k not in bare or bare[k] != v}


def _resolve_model(
    registry: Registry, name: str, builder: Any, options: Mapping[str, Any], where: str
) -> Resolved:
    entry = registry.entries("models")[name]
    if entry.kind not in ("", "classifier"):
        known = [
            n for n, e in registry.entries("models").items() if e.kind == "classifier"
        ]
        raise ConfigError(
            f"{where}: is a {entry.kind}, expected a classifier: {listing(known)}."
        )
    defaults = _parameters(builder)
    takes_any = any(
        p.kind is p.VAR_KEYWORD for p in inspect.signature(builder).parameters.values()
    )
    for key, value in options.items():
        if key not in defaults and not takes_any:
            raise ConfigError(
                f"{where}.{key}: unknown key.{suggestion(str(key), defaults)} "
                f"Known keys: {listing(defaults) or 'none'}."
            )
        _check_plain(value, f"{where}.{key}")
    full = {k: v for k, v in defaults.items() if v is not inspect.Parameter.empty}
    full.update(options)
    missing = [k for k in defaults if k not in full]
    if missing:
        raise ConfigError(f"{where}.{missing[0]}: this key is missing; add it.")
    changed = {k: v for k, v in options.items() if defaults.get(k, ...) != v}
    return Resolved(name, full, changed)


def _parameters(builder: Any) -> dict[str, Any]:
    """Return the options of a model builder with their defaults.

    A builder is ``build(image_shape, num_classes, **options)``; a class counts by its
    constructor.
    """
    named = list(inspect.signature(builder).parameters.values())[2:]
    return {
        p.name: p.default
        for p in named
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }


def _check_plain(value: Any, where: str) -> None:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        raise ConfigError(
            f"{where}: found {value!r}, expected a number, a text, true, false or a list."
        ) from None
