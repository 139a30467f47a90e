"""Strict configuration objects: unknown keys and bad values are one clear sentence.

Each configurable thing (a strategy, a data set, a partitioner, a suite) has one frozen
:class:`Config`. Its fields are the only home of their defaults; the string under a field
is its documentation and is what ``fedkd show`` prints.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
)
from pydantic.fields import FieldInfo

from fedkd.base.forms import plain_numbers
from fedkd.base.shown import cut
from fedkd.errors import ConfigError, listing, suggestion


class Config(BaseModel):
    """Base of every configuration: frozen, strict about keys, documented by field."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        allow_inf_nan=False,
        validate_default=True,
    )

    younger_options: ClassVar[frozenset[str]] = frozenset()
    """Options that were added when there were results already: left at their defaults,
    they are no part of a run's configuration, so that its hash stays what it was."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Write the options into the docstring, where ``help`` and notebooks look."""
        super().__pydantic_init_subclass__(**kwargs)
        own = inspect.cleandoc(cls.__doc__ or "").partition(f"\n\n{_OPTIONS}")[0]
        lines = [_option_line(name, info) for name, info in cls.model_fields.items()]
        if lines:
            cls.__doc__ = "\n".join([f"{own}\n\n{_OPTIONS}", *lines]).lstrip()

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Yield the options that differ from their defaults."""
        for name, info in type(self).model_fields.items():
            value = getattr(self, name)
            usual = info.get_default(call_default_factory=True, validated_data={})
            if info.is_required() or value != usual:
                yield name, value

    def __repr__(self) -> str:
        """Return what differs from the defaults, cut where it is long."""
        return cut(f"{type(self).__name__}({options_text(self)})")

    __str__ = __repr__

    @field_validator("*", mode="wrap")
    @classmethod
    def _as_written(cls, value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        """Refuse a number that was made of something else: of text, of true, of 2.0."""
        value = plain_numbers(value)
        result = handler(value)
        for given, taken in _numbers(value, result):
            wanted = _wanted(given, taken)
            if wanted:
                inside = "" if given is value else f", found {given!r}"
                raise ValueError(f"Expected {wanted}{inside}")
        return result


def refuse_idle(config: Config, why: str, *names: str) -> None:
    """Refuse options that other options leave without effect, for a model validator.

    Left at their defaults they pass, so that a preset may be changed by one option.

    Args:
        config: What was built.
        why: What leaves them so: ``"alpha does not move with adapts: never"``.
        names: The options that then do nothing.

    Raises:
        ValueError: Naming the first that is not at its default, what was found and what
            to do; :func:`build` makes it a :class:`~fedkd.errors.ConfigError`.
    """
    for name in names:
        value = getattr(config, name)
        usual = type(config).model_fields[name].default
        if value != usual:
            raise ValueError(
                f"{name}: found {value}, which has no effect, as {why}; leave it out, "
                f"or set it to its default, {usual}"
            )


def _option_line(name: str, info: FieldInfo) -> str:
    """Return a paragraph on an option, as docstrings have them."""
    value = info.get_default(call_default_factory=True, validated_data={})
    usual = "required" if info.is_required() else f"default {cut(repr(value), 60)}"
    said = " ".join((info.description or "").split())
    text = f"{name} ({usual}): {said}"
    return textwrap.fill(text, 88, initial_indent=" " * 4, subsequent_indent=" " * 8)


_OPTIONS = "Options:"
_KINDS = {bool: "true or false", int: "a whole number", float: "a number"}


def _numbers(given: Any, taken: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each number and truth value of an option with what it was made of."""
    if isinstance(taken, bool | int | float):
        yield given, taken
    elif isinstance(taken, Mapping) and isinstance(given, Mapping):
        for key in taken.keys() & given.keys():
            yield from _numbers(given[key], taken[key])
    elif isinstance(taken, list | tuple) and isinstance(given, list | tuple):
        for one, other in zip(given, taken, strict=False):
            yield from _numbers(one, other)


def _wanted(given: Any, taken: Any) -> str:
    """Return what was expected in place of ``given``; nothing if it is what was taken."""
    kind = bool if isinstance(taken, bool) else type(taken)
    fits = (int, float) if kind is float else kind
    if isinstance(given, fits) and isinstance(given, bool) == (kind is bool):
        return ""
    return _KINDS.get(kind, "")


def options_text(config: Any) -> str:
    """Return the options of a configuration that differ from their defaults."""
    if not isinstance(config, Config):
        return ""
    return ", ".join(f"{name}={value!r}" for name, value in config.__repr_args__())


C = TypeVar("C", bound=BaseModel)


def build(
    cls: type[C], options: Mapping[str, Any], where: str, beside: Sequence[str] = ()
) -> C:
    """Build ``cls`` from plain ``options``.

    Args:
        cls: The configuration class.
        options: What the user wrote.
        where: Where it was written, for messages: ``"suite x.yaml: training"``.
        beside: Keys that may stand there too and are not for ``cls``, for messages.

    Raises:
        ConfigError: Naming the path of the first offending key, what was found there
            and what is accepted.
    """
    try:
        return cls.model_validate(dict(options))
    except ValidationError as error:
        raise ConfigError(_explained(error, cls, options, where, beside)) from None


def _explained(
    error: ValidationError,
    cls: type[BaseModel],
    options: Mapping[str, Any],
    where: str,
    beside: Sequence[str],
) -> str:
    """Turn the first problem of a pydantic error into one sentence."""
    every = error.errors(include_url=False)
    # A misspelt key is also a missing one; the misspelling is what to mend.
    first = next((e for e in every if e["type"] == "extra_forbidden"), every[0])
    place = _place(first["loc"], options)
    keys = ".".join(map(str, place))
    # "suite x.yaml" is a place and "training" a key: a key goes on with a point.
    is_key = ": " in where or " " not in where
    path = f"{where}{'.' if is_key else ': '}{keys}" if keys else where
    if first["type"] == "extra_forbidden":
        return f"{path}: {_unknown(cls, first['loc'], beside)}"
    if first["type"] == "missing":
        return f"{path}: this key is missing and has no default; add it."
    message = _message([e for e in every if _place(e["loc"], options) == place])
    value = first.get("input")
    hint = ""
    if first["type"] == "literal_error":
        hint = suggestion(str(value), re.findall("'(.+?)'", first["ctx"]["expected"]))
    shown = repr(value)
    if len(shown) > 60:
        shown = shown[:57] + "..."
    # A message of a validator goes on in the sentence, or is one of its own.
    joint = ". " if message[:1].isupper() else "; "
    return f"{path}: found {shown}{joint}{message}.{hint}"


def _place(loc: Sequence[int | str], given: Any) -> list[int | str]:
    """Return the keys that lead to a value, without what pydantic calls alternatives."""
    keys: list[int | str] = []
    for part in loc:
        # A number or a text holds nothing: the part names one of several types for it.
        if given is None or isinstance(given, str | bool | int | float):
            break
        keys.append(part)
        try:
            given = given[part]
        except (KeyError, IndexError, TypeError):
            given = {}
    return keys


def _message(errors: Sequence[Any]) -> str:
    """Return what is said of one value, by each of the types that it could have had."""
    wanted: dict[str, None] = {}
    for error in errors:
        kind = _EXPECTED.get(error["type"])
        if kind is None:
            return str(error["msg"]).removeprefix("Value error, ").rstrip(".")
        bounds = error.get("ctx", {}).items()
        wanted[kind.format_map({name: _plain(bound) for name, bound in bounds})] = None
    if "a number" in wanted:
        wanted.pop("a whole number", None)
    return f"Expected {' or '.join(wanted)}"


def _plain(bound: Any) -> Any:
    return int(bound) if isinstance(bound, float) and bound.is_integer() else bound


_EXPECTED = {
    "greater_than": "more than {gt}",
    "greater_than_equal": "{ge} or more",
    "less_than": "less than {lt}",
    "less_than_equal": "{le} or less",
    "finite_number": "a finite number",
    "multiple_of": "a multiple of {multiple_of}",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    "string_type": "a text",
    "string_too_short": "a text of {min_length} or more characters",
    "string_too_long": "a text of {max_length} or fewer characters",
    "literal_error": "{expected}",
    **dict.fromkeys(
        ("list_type", "tuple_type", "set_type", "frozen_set_type"), "a list"
    ),
    "too_short": "{min_length} or more entries, not {actual_length}",
    "too_long": "{max_length} or fewer entries, not {actual_length}",
    **dict.fromkeys(("dict_type", "mapping_type", "model_type"), "a mapping of keys"),
    "path_type": "a path",
}
"""What was expected, by pydantic's name of an error; others are told in its words."""


def _unknown(cls: type[BaseModel], loc: tuple[Any, ...], beside: Sequence[str]) -> str:
    """Return that there is no such key, and which there are."""
    known = _fields_at(cls, loc[:-1])
    also = [] if loc[:-1] else [key for key in beside if key not in known]
    hint = suggestion(str(loc[-1]), [*known, *also])
    rest = f" Beside them: {listing(also)}." if also else ""
    return f"unknown key.{hint} Known keys: {listing(known, 30) or 'none'}.{rest}"


def _fields_at(cls: Any, loc: tuple[Any, ...]) -> list[str]:
    """Return the field names of the model reached by following ``loc`` from ``cls``."""
    for part in loc:
        if not isinstance(part, str) or not hasattr(cls, "model_fields"):
            continue
        field = cls.model_fields.get(part)
        if field is None:
            continue
        cls = next(
            (c for c in _models_in(field.annotation) if issubclass(c, BaseModel)), cls
        )
    return sorted(cls.model_fields)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """Return every model class inside a type annotation such as ``list[X] | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    models: list[type[BaseModel]] = []
    for argument in getattr(annotation, "__args__", ()):
        models += _models_in(argument)
    return models
