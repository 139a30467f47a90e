"""What a caller from Python gives, as types say it; what is none of that is told in words.

The command line gives texts only. From Python anything may come, and a list where a folder
is meant is no reason for an error that names a line in here.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fedkd.api.said import in_python
from fedkd.base.forms import plain_numbers, require, whole_number
from fedkd.errors import ConfigError, counted
from fedkd.suite.grid import Cell


def path_given(value: Any, where: str) -> Path:
    """Return a path.

    Args:
        value: A text or a path, not empty and without a null character.
        where: What messages begin with.

    Raises:
        ConfigError: If it is something else.
    """
    if not isinstance(value, str | Path) or value == "" or "\0" in str(value):
        raise ConfigError(
            f"{where}: found {value!r}, expected one path, as a text or a pathlib.Path."
        )
    return Path(value)


def maybe_path(value: Any, where: str) -> str | None:
    """Return a path as a text, or None as it is.

    Raises:
        ConfigError: If it is something else.
    """
    return None if value is None else str(path_given(value, where))


def files_given(value: Any, where: str) -> list[str]:
    """Return the paths of several files, of which a text or a path alone is one.

    Raises:
        ConfigError: If one of them is none.
    """
    return [str(path_given(one, where)) for one in each(value, where)]


def each(value: Any, where: str) -> list[Any]:
    """Return things as a list; a text, a path or a mapping alone is one thing.

    Raises:
        ConfigError: If it is neither.
    """
    if isinstance(value, str | Path | Mapping):
        return [value]
    if not isinstance(value, Iterable):
        raise ConfigError(f"{where}: found {value!r}, expected a list, or one of them.")
    return list(value)


def name_given(value: Any, where: str) -> str:
    """Return a name; of a device of torch, its own.

    Raises:
        ConfigError: If it is no text, or an empty one.
    """
    if isinstance(value, torch.device):
        return str(value)
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{where}: found {value!r}, expected a name, as a text.")
    return str(value)


def names_given(value: Any, where: str) -> tuple[str, ...]:
    """Return names, each once, of which a text alone is one.

    Raises:
        ConfigError: If one of them is none.
    """
    return tuple(dict.fromkeys(name_given(one, where) for one in each(value, where)))


def maybe_number(value: Any, where: str) -> int | None:
    """Return a number of things, 1 or more, or None as it is.

    Raises:
        ConfigError: If it is something else.
    """
    return None if value is None else whole_number(value, where)


def model_given(title: Any, client: Any) -> tuple[str, int | None]:
    """Return which model is wanted: its title, and the client whose it is, or None.

    Raises:
        ConfigError: If one of them is of no form that it has.
    """
    require(title, (str,), "model", "the name of a model")
    own = None if client is None else whole_number(client, "model: client", least=0)
    return str(title), own


def truth_given(value: Any, where: str) -> bool:
    """Return True or False, NumPy's too.

    Raises:
        ConfigError: If it is neither.
    """
    value = plain_numbers(value)
    if not isinstance(value, bool):
        raise ConfigError(f"{where}: found {value!r}, expected True or False.")
    return value


_FORMS: dict[str, Callable[[Any, str], Any]] = {
    "out": maybe_path,
    "data_root": maybe_path,
    "chosen": maybe_path,
    "device": name_given,
    "executor": name_given,
    "ray_address": name_given,
    "jobs": maybe_number,
    "workers": maybe_number,
    "fresh": truth_given,
    "profile": truth_given,
    "progress": truth_given,
    "plugins": lambda value, where: tuple(files_given(value, where)),
    "observers": names_given,
}


def options_given(where: str, **options: Any) -> dict[str, Any]:
    """Return options that say how something is run or read, each in its form.

    Args:
        where: What messages begin with: ``fedkd.bench``.
        options: By the names of the parameters.

    Raises:
        ConfigError: If one of them is of no form that it has.
    """
    return {k: _FORMS[k](v, f"{where}: {k}") for k, v in options.items()}


def only(cells: Sequence[Cell], where: str) -> Cell:
    """Return the one cell that was asked for.

    Raises:
        ConfigError: If a value is a list, which is an axis of a grid.
    """
    if len(cells) != 1:
        axes = ", ".join(name for name, _ in cells[0].run.axes) or "a value"
        raise ConfigError(
            f"{where}: found lists ({axes}), which make {counted(len(cells), 'run')}, "
            "expected one value of each. fedkd.bench runs all of them."
        )
    return cells[0]


def warn(sentence: str) -> None:
    """Tell a user of the door, in its words, what the command writes to standard error.

    The line that it names is the caller's, outside of this package.
    """
    level, frame = 1, sys._getframe()
    while frame.f_back and str(frame.f_globals.get("__name__")).startswith("fedkd."):
        level, frame = level + 1, frame.f_back
    warnings.warn(in_python(sentence), RuntimeWarning, stacklevel=level)
