"""The forms of what a caller gives: told in words where they are others, NumPy's taken."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import Any

from fedkd.base.shown import cut
from fedkd.errors import ConfigError


def require(value: Any, kinds: tuple[type, ...], where: str, how: str) -> None:
    """Refuse a value that is of none of some types; True and False are no numbers.

    Args:
        value: What was given.
        kinds: The types.
        where: What messages begin with.
        how: What was expected, in words.

    Raises:
        ConfigError: If it is of none of them.
    """
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise ConfigError(f"{where}: found {cut(repr(value))}, expected {how}.")


def whole_number(value: Any, where: str, least: int = 1) -> int:
    """Return a whole number as Python's.

    Args:
        value: Python's or NumPy's; True and False are none.
        where: What messages begin with.
        least: The smallest that is accepted.

    Raises:
        ConfigError: If it is something else, or less than ``least``.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ConfigError(
            f"{where}: found {cut(repr(value))}, expected a whole number from {least} on."
        )
    return int(value)


def plain_numbers(value: Any) -> Any:
    """Return a value with Python's own numbers, texts and lists in the place of NumPy's.

    Mappings, lists and tuples are followed to any depth; all else stays as it is.

    Args:
        value: Anything; an array becomes lists in lists.
    """
    if isinstance(value, Mapping):
        return {plain_numbers(k): plain_numbers(v) for k, v in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(plain_numbers, value))
    # By name: most who come here have no need of NumPy, which takes a while to import.
    if type(value).__module__ == "numpy" and hasattr(value, "tolist"):
        found = value.tolist()
        # A long double has no number of Python's; arrays of objects may hold any of these.
        return value if type(found) is type(value) else plain_numbers(found)
    return value
