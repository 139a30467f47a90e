"""The errors a user can meet, by whose fault they are.

Every message is one or two sentences: what was found, what was expected, what to do.
"""

from __future__ import annotations

import contextlib
import difflib
import inspect
import re
import sys
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path


class FedKDError(Exception):
    """Root of all errors that fedkd raises on purpose. Exit code 1."""

    exit_code = 1


class ConfigError(FedKDError):
    """What the user wrote cannot be used: a name, a key, a value. Exit code 2."""

    exit_code = 2


class NotApplicableError(ConfigError):
    """A strategy needs what a run does not have: there is nothing to compare there.

    A bench skips such a run. Exit code 2.
    """

    def __init__(self, strategy: str, reason: str) -> None:
        """Say what ``strategy`` is called, and why as the end of a sentence."""
        super().__init__(strategy, reason)
        self.reason = reason

    def __str__(self) -> str:
        """Return the whole sentence."""
        return " ".join(self.args)


class DataError(FedKDError):
    """Data files are missing, damaged or not what they claim to be. Exit code 1."""


class BoundsError(DataError, ValueError):
    """What is read is larger, deeper or elsewhere than anything that fedkd reads.

    A ``ValueError``, too, so that a reader of files takes it for what any damage is.
    """


class ContractError(FedKDError):
    """A plug-in broke a promise of the contract; names the plug-in and the verb."""


class DivergedError(FedKDError):
    """Training produced a value that is not finite; the run cannot go on."""


class PluginError(FedKDError):
    """A plug-in could not be loaded, or two of them claim one name."""


_NOTE = "in "
"""Starts the note on an error that says where it was raised."""
_LIBRARIES = {"fedkd", "torch", "numpy", "pluggy", "pydantic", *sys.stdlib_module_names}
"""Packages whose lines are no news to the author of a plug-in."""


@contextlib.contextmanager
def raised_in(where: str) -> Iterator[None]:
    """Note on whatever is raised in the block where that was, with the line.

    Args:
        where: What messages call it: ``"fedprox.local (client 3, round 1)"``.

    Raises:
        ContractError: If the block asks Python to end the process.
    """
    try:
        yield
    except SystemExit as request:
        raise ContractError(
            f"{_place(where, request)} called sys.exit({request.code!r}), which would "
            "end everything that runs. Raise an error, or return, instead."
        ) from request
    except Exception as error:
        if not place_of(error):
            error.add_note(_NOTE + _place(where, error))
        raise


def place_of(error: BaseException) -> str:
    """Return where an error was raised, as :func:`raised_in` noted it; "" if unknown."""
    notes = getattr(error, "__notes__", ())
    return next((n.removeprefix(_NOTE) for n in notes if n.startswith(_NOTE)), "")


@contextlib.contextmanager
def named(where: str) -> Iterator[None]:
    """Turn whatever somebody's code raises in the block into an error that says where.

    Args:
        where: What messages call it, its owner too.

    Raises:
        ContractError: Naming that, the line, and the error.
    """
    try:
        with raised_in(where):
            yield
    except ContractError as error:
        raise ContractError(told(error)) from error
    except FedKDError:
        raise
    except Exception as error:
        raise ContractError(f"{told(error).rstrip('.')}.") from error


def told(error: BaseException) -> str:
    """Return what an error says, after where it was raised unless it says that too."""
    text = str(error) if isinstance(error, FedKDError) else cause(error)
    place = place_of(error)
    verb, _, _ = place.partition(", line ")
    return text if not place or verb in text else f"{place}: {text}"


def cause(error: BaseException) -> str:
    """Return an exception on one line: ``ImportError: No module named 'x'``."""
    text = readable(" ".join(str(error).split()))
    kind = type(error).__name__
    if isinstance(error, PluginError):
        return text
    return f"{kind}: {text}{_keywords(error)}" if text else kind


_KEYWORD = re.compile(
    r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'"
    r"|validation errors? for (\w+)\n(\w+)\n  Extra inputs"
)
"""How Python, and pydantic, say that a class has no such keyword."""


def _keywords(error: BaseException) -> str:
    """Return which keywords there are, if an error is that there is no such one."""
    hit = _KEYWORD.search(str(error))
    if hit is None:
        return ""
    name, key = hit[1] or hit[3], hit[2] or hit[4]
    for frame, _ in traceback.walk_tb(error.__traceback__):
        cls = {**frame.f_globals, **frame.f_locals}.get(name)
        if isinstance(cls, type):
            known = [k for k in inspect.signature(cls).parameters if k != "self"]
            return f".{suggestion(key, known)} {name} has {listing(known, 30)}"
    return ""


def line_of(error: BaseException) -> str:
    """Return ``" (line 3 of bad.py)"`` for the last line that ran of a plug-in, or ""."""
    line = _place("", error).removeprefix(", ")
    return f" ({line})" if line else ""


def _place(where: str, error: BaseException) -> str:
    """Return ``where`` with the last line that ran of the plug-in called there, if any."""
    theirs = [
        (str(frame.f_globals.get("__name__")).partition(".")[0], frame, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    theirs = [one for one in theirs if one[0] not in _LIBRARIES]
    own = [one for one in theirs if one[0] == theirs[0][0]]
    if not own:
        return where
    _, frame, line = own[-1]
    return f"{where}, line {line} of {Path(frame.f_code.co_filename).name}"


PLUGIN_HINT = " One of your own comes with --plugin FILE (docs/plugins.md)."
"""Ends messages about names that nobody registered."""


def listing(names: Iterable[str], limit: int = 10) -> str:
    """Join names for a message, cut after ``limit``: ``a, b, c, … (12 more)``."""
    every = list(names)
    shown = ", ".join(every[:limit])
    rest = len(every) - limit
    return f"{shown}, … ({rest} more)" if rest > 0 else shown


def counted(number: int, noun: str) -> str:
    """Return ``1 run`` or ``2 runs``, ``1 class`` or ``2 classes``."""
    ending = "es" if noun.endswith("s") else "s"
    return f"{number} {noun}{'' if number == 1 else ending}"


def readable(text: str) -> str:
    """Return a text of somebody else's on one line: what steers a terminal is escaped."""
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode("ascii")
        for one in text
    )


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the nearest known name, or an empty string."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""
