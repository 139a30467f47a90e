"""Holds what others wrote against the calls that will be made of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from fedkd.errors import ContractError

T = TypeVar("T")


def faults_of_verbs(cls: type, base: type) -> Iterator[str]:
    """Yield a sentence for each method that cannot be called as it will be.

    A name of its own for an argument is no fault: the engine gives them by position.

    Args:
        cls: The class to check.
        base: The class whose public methods are the contract; so is what any other base
            of ``cls`` leaves abstract.
    """
    models = {**_open(cls), **vars(base)}
    for verb, model in models.items():
        if verb.startswith("_") or not inspect.isfunction(model):
            continue
        wanted = list(inspect.signature(model).parameters)
        signature = _signature(cls, verb)
        if signature is None:
            continue
        try:
            signature.bind(*wanted[1:])
        except TypeError as error:
            yield (
                f"{cls.__name__}.{verb}{_names(signature)} cannot be called with "
                f"({', '.join(wanted[1:])}): {error}. Write it as "
                f"{verb}({', '.join(wanted)}){_line(getattr(cls, verb))}."
            )


def check_verbs(cls: type, base: type, owner: str) -> None:
    """Refuse a class with methods that cannot be called as they will be.

    Args:
        cls: The class to check.
        base: The class whose public methods are the contract.
        owner: How the message calls ``cls``.

    Raises:
        ContractError: Naming each such method, what it takes and what it must take.
    """
    faults = list(faults_of_verbs(cls, base))
    if faults:
        raise ContractError(f"{owner}: {' Also: '.join(faults)}")


def check_call(function: Callable[..., Any], what: str, wanted: Sequence[str]) -> None:
    """Refuse a function that cannot be called with so many arguments.

    Args:
        function: What was given.
        what: What it was given as, for the message: ``moved``.
        wanted: The names of the arguments.

    Raises:
        ContractError: Saying what it takes, what it must take, and its line.
    """
    call = f"{what}({', '.join(wanted)})"
    if not callable(function):
        raise ContractError(
            f"{what} is of type {type(function).__name__}, expected a function {call}."
        )
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a builtin: nobody can tell
        return
    try:
        signature.bind(*wanted)
    except TypeError as error:
        name = getattr(function, "__name__", what)
        raise ContractError(
            f"{name}{_names(signature)} cannot be called as {call}: {error}"
            f"{_line(function)}."
        ) from None


def returned(
    value: T,
    kinds: tuple[type, ...],
    function: Callable[..., Any],
    what: str,
    wanted: str,
) -> T:
    """Return what a function gave, if it is of the right kind.

    Args:
        value: What it gave.
        kinds: What it must be an instance of one of.
        function: What gave it.
        what: What the message calls it: ``moved``.
        wanted: What the message says is expected.

    Raises:
        ContractError: If it is something else; names the line of the function.
    """
    if not isinstance(value, kinds):
        raise ContractError(
            f"{what} returned {type(value).__name__}, expected {wanted}{_line(function)}."
        )
    return value


def _open(cls: type) -> dict[str, Any]:
    """Return what the bases of a class leave abstract, by name."""
    return {
        name: value
        for base in reversed(cls.__mro__[1:])
        for name, value in vars(base).items()
        if getattr(value, "__isabstractmethod__", False)
    }


def _line(function: Any) -> str:
    """Return ``" (line 3 of bad.py)"``, where a function is; "" if nobody can tell."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return ""
    return f" (line {code.co_firstlineno} of {Path(code.co_filename).name})"


def _signature(cls: type, verb: str) -> inspect.Signature | None:
    """Return what a method takes beside its instance; None where nobody can tell."""
    attribute: Any = inspect.getattr_static(cls, verb)
    try:
        # Bound to anything, so that plain, static and class methods are alike.
        return inspect.signature(attribute.__get__(object(), cls))
    except (AttributeError, TypeError, ValueError):
        return None


def _names(signature: inspect.Signature) -> str:
    """Return a signature without its types."""
    plain = [
        p.replace(annotation=p.empty, default=p.empty)
        if p.default is p.empty
        else p.replace(annotation=p.empty)
        for p in signature.parameters.values()
    ]
    return str(inspect.Signature(plain))
