"""The errors a user can meet, by whose fault they are.

Every message is one or two sentences: what was found, what was expected, what to do.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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


class ContractError(FedKDError):
    """A plug-in broke a promise of the contract; names the plug-in and the verb."""


class DivergedError(FedKDError):
    """Training produced a value that is not finite; the run cannot go on."""


class PluginError(FedKDError):
    """A plug-in could not be loaded, or two of them claim one name."""


PLUGIN_HINT = " One of your own comes with --plugin FILE (docs/plugins.md)."
"""Ends messages about names that nobody registered."""


def listing(names: Iterable[str], limit: int = 10) -> str:
    """Join names for a message, cut after ``limit``: ``a, b, c, … (12 more)``."""
    every = list(names)
    shown = ", ".join(every[:limit])
    rest = len(every) - limit
    return f"{shown}, … ({rest} more)" if rest > 0 else shown


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the nearest known name, or an empty string."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""
