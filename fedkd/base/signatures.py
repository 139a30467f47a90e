"""Holds the verbs of a strategy against the calls that the engine will make."""

from __future__ import annotations

import inspect
from typing import Any

from fedkd.errors import ContractError


def check_verbs(cls: type, base: type, owner: str) -> None:
    """Refuse a class whose methods cannot be called as those of ``base`` are.

    A name of its own for an argument is no fault: the engine gives them by position.

    Args:
        cls: The class to check.
        base: The class whose public methods are the contract.
        owner: How the message calls ``cls``.

    Raises:
        ContractError: Naming the method, what it takes and what it must take.
    """
    for verb, model in vars(base).items():
        if verb.startswith("_") or not inspect.isfunction(model):
            continue
        wanted = list(inspect.signature(model).parameters)
        signature = _signature(cls, verb)
        if signature is None:
            continue
        try:
            signature.bind(*wanted[1:])
        except TypeError as error:
            raise ContractError(
                f"{owner}: {cls.__name__}.{verb}{_names(signature)} cannot be called "
                f"with ({', '.join(wanted[1:])}): {error}. Write it as "
                f"{verb}({', '.join(wanted)})."
            ) from None


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
