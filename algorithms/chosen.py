"""Holds the functions of a method's ``Choices`` against how they are called."""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from torch import Tensor, nn

from fedkd.base.signatures import check_call, returned

ARGUMENTS = {
    "first": ("server",),
    "stays": ("party",),
    "starts": ("state",),
    "sent": ("state", "client_id", "round"),
    "own": ("state", "client"),
    "shares": ("ups",),
    "speaks": ("up",),
    "moved": ("state", "mean", "ups", "server", "round"),
}
"""What each function is given, in this order."""
_NONE = type(None)
_RETURNS: dict[str, tuple[tuple[type, ...], str]] = {
    "stays": ((Set,), "a frozenset of names of entries"),
    "starts": ((Mapping,), "a mapping of weights by name"),
    "own": ((nn.Module, _NONE), "a model or None"),
    "shares": ((Mapping,), "a mapping of numbers by client"),
    "speaks": ((Tensor, _NONE), "a tensor [C] or None"),
}
_STATE = "Global(weights, besides=...)"


def check_choices(choices: Any) -> None:
    """Refuse choices with a function that cannot be called as it will be.

    Raises:
        ContractError: Naming it, what it must take, and its line.
    """
    for name, wanted in ARGUMENTS.items():
        function = getattr(choices, name)
        if function is not None:
            check_call(function, name, wanted)


def chosen(choices: Any, name: str, *given: Any, state: type | None = None) -> Any:
    """Call a function of choices, and return what it gives.

    Args:
        choices: Has it.
        name: Which one.
        given: What it is given.
        state: The class of the state, where it must return one.

    Raises:
        ContractError: If it gives something else; names it, and its line.
    """
    function = getattr(choices, name)
    kinds, wanted = _RETURNS[name] if state is None else ((state,), _STATE)
    return returned(function(*given), kinds, function, name, wanted)
