"""Describes fields: of configurations and of payloads."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

_SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<", "multiple_of": "multiple of"}
_LENGTHS = {"min_length": "at least {} long", "max_length": "at most {} long"}


def options_of(cls: type[BaseModel], prefix: str = "") -> list[dict[str, Any]]:
    """Return one record for each option of a configuration, nested ones by path.

    Keys: ``name`` (``"generator.lr"``), ``type``, ``default`` (a JSON value),
    ``required``, ``constraints`` and ``description``.
    """
    records: list[dict[str, Any]] = []
    for name, info in cls.model_fields.items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            records += options_of(inner, f"{prefix}{name}.")
            continue
        records.append(
            {
                "name": prefix + name,
                "type": type_text(inner),
                "default": None if info.is_required() else default_of(info),
                "required": info.is_required(),
                "constraints": constraints_of(info),
                "description": one_line(info.description or ""),
            }
        )
    return records


def default_of(info: FieldInfo) -> Any:
    """Return the default of a field as a JSON value."""
    return plain(info.get_default(call_default_factory=True, validated_data={}))


def plain(value: Any) -> Any:
    """Return a value as JSON has it; what JSON lacks becomes text."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, tuple | list | set | frozenset):
        return [plain(inner) for inner in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def constraints_of(info: FieldInfo) -> list[str]:
    """Return what a value must satisfy: ``["> 0", "<= 1"]``."""
    limits = []
    for item in info.metadata:
        for name, sign in _SIGNS.items():
            if getattr(item, name, None) is not None:
                limits.append(f"{sign} {getattr(item, name)}")
        for name, words in _LENGTHS.items():
            if getattr(item, name, None) is not None:
                limits.append(words.format(getattr(item, name)))
        if getattr(item, "pattern", None) is not None:
            limits.append(f"matches {item.pattern}")
    return limits


def type_text(annotation: Any) -> str:
    """Return a type as one would write it: ``int | None``, ``'a' | 'b'``."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return type_text(inner[0])
    if origin is typing.Literal:
        return " | ".join(repr(value) for value in inner)
    if origin in (typing.Union, types.UnionType):
        return " | ".join(type_text(part) for part in inner)
    if origin is not None:
        name = getattr(origin, "__name__", str(origin))
        shown = ("..." if part is Ellipsis else type_text(part) for part in inner)
        return f"{name}[{', '.join(shown)}]"
    return _type_name(annotation)


def _type_name(annotation: Any) -> str:
    if annotation in (None, type(None)):
        return "None"
    return str(getattr(annotation, "__name__", annotation))


def dataclass_fields(cls: type) -> list[dict[str, str]]:
    """Return name, type and description of the fields of a dataclass."""
    written = attribute_docs(cls)
    return [
        {
            "name": field.name,
            "type": type_text(field.type),
            "description": written.get(field.name, ""),
        }
        for field in dataclasses.fields(cls)
    ]


def attribute_docs(cls: type) -> dict[str, str]:
    """Return the strings under the attributes of a class; none if it has no source."""
    texts: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(base)))
        except (OSError, TypeError, SyntaxError):
            continue
        texts.update(_documented(tree.body[0]))
    return texts


def _documented(node: ast.stmt) -> Iterator[tuple[str, str]]:
    """Yield ``(attribute, text)`` for each attribute with a string right under it."""
    body = node.body if isinstance(node, ast.ClassDef) else []
    for statement, after in itertools.pairwise(body):
        match statement, after:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                yield name, one_line(text)


def one_line(text: str) -> str:
    """Return a text with its line breaks and indents as single spaces."""
    return " ".join(text.split())
