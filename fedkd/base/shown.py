"""Short texts for what people look at: one line an object, in notebooks and messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from typing import Any

LIMIT = 200
"""Most characters of such a text."""


def brief(thing: object, *facts: object) -> str:
    """Return ``Class(fact, fact)``, cut where it would be long; empty facts are left out.

    Args:
        thing: Whose class it names.
        facts: What is said of it, in the order of interest.
    """
    told = [text for text in map(str, facts) if text]
    return cut(f"{type(thing).__name__}({', '.join(told)})")


def changed_facts(thing: Any) -> list[str]:
    """Return the fields of a dataclass that differ from their defaults: ``rounds=3``."""
    values = ((one, getattr(thing, one.name)) for one in fields(thing))
    return [f"{one.name}={value!r}" for one, value in values if value != _usual(one)]


def _usual(one: Field[Any]) -> Any:
    return one.default if one.default_factory is MISSING else one.default_factory()


def accuracy_facts(line: Mapping[str, Any]) -> tuple[str, str]:
    """Return the round and the accuracy that a line of metrics.jsonl tells."""
    accuracy = line.get("global_accuracy")
    known = "" if accuracy is None else f"accuracy {accuracy:.2f} %"
    return f"round {line.get('round', 0)}", known


def cut(text: str, limit: int = LIMIT) -> str:
    """Return a text, its end replaced by ``...)`` if it is longer than ``limit``."""
    return text if len(text) <= limit else f"{text[: limit - 4]}...)"
