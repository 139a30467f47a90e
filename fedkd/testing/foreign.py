"""Calls of somebody else's code: what it raises, and what it touches, is a finding."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import torch

from fedkd.config import Config
from fedkd.errors import FedKDError, cause, place_of, raised_in
from fedkd.plugins.fields import options_of
from fedkd.testing.prints import difference, fingerprint
from fedkd.testing.record import global_settings
from fedkd.testing.runs import NotApplicable

T = TypeVar("T")
_SEED = 0x5EED5
"""One that nobody else seeds torch with."""
_SOURCES = {
    "split": "Draw from the generator rng that it is given",
    "load": "Draw from a generator of its own with a fixed seed",
}
"""What a method draws from; torch's default generator where it is not listed."""


def called(what: str, call: Callable[[], T], remedy: str = "") -> T:
    """Return what a call of a plug-in's code gives.

    Args:
        what: How sentences call it: ``split (6 clients)``.
        call: The call.
        remedy: A sentence that says what to do if it raises.

    Raises:
        AssertionError: If it raises; says what, and in which line.
    """
    try:
        with raised_in(what):
            return call()
    except NotApplicable:
        raise
    except Exception as error:
        raise AssertionError(f"{raised(what, error)} {remedy}".rstrip()) from error


def raised(what: str, error: Exception) -> str:
    """Return a sentence that says what a call raised, and where in the plug-in."""
    text = " ".join(str(error).split())
    if isinstance(error, FedKDError):
        return f"{what}: {text}" if text else what
    return f"{place_of(error) or what} raised {cause(error).rstrip('.')}."


def refusal(
    what: str, call: Callable[[], object], kind: type[FedKDError], why: str, remedy: str
) -> str:
    """Return what a call says that must be refused.

    Args:
        what: How sentences call it.
        call: The call.
        kind: The error that it must raise.
        why: What it must refuse, as the end of a sentence.
        remedy: A sentence that says what to do.

    Raises:
        AssertionError: If it raises nothing, or something else.
    """
    expected = f"expected fedkd.{kind.__name__} for {why}. {remedy}"
    try:
        with raised_in(what):
            call()
    except kind as error:
        return str(error)
    except Exception as error:
        sentence = raised(what, error).removesuffix(".")
        raise AssertionError(f"{sentence}; {expected}") from error
    raise AssertionError(f"{what} raised nothing; {expected}")


@contextlib.contextmanager
def untouched(what: str, remedy: str, **things: Any) -> Iterator[None]:
    """Compare things before and after the block.

    Args:
        what: The call in the block, as sentences call it.
        remedy: What to do if something has changed.
        things: What the call must leave alone, by the name that sentences have.

    Raises:
        AssertionError: If a leaf of them has changed; names it.
    """
    before = fingerprint(things)
    yield
    path = difference(before, fingerprint(things))
    assert path is None, f"{what} changed {path}. {remedy}"


@contextlib.contextmanager
def no_global_touched(what: str) -> Iterator[None]:
    """Compare global generators and settings of torch before and after the block.

    Raises:
        AssertionError: If one has changed; names it.
    """
    with torch.random.fork_rng(devices=[]), _others_put_back():
        # A seed that is set anew in each call changes nothing the second time.
        torch.manual_seed(_SEED)
        np.random.seed(_SEED)
        random.seed(_SEED)
        before = global_settings()
        yield
        after = global_settings()
    changed = [name for name, value in before.items() if after[name] != value]
    source = _SOURCES.get(
        what.split(maxsplit=1)[0], "Draw from torch's default generator"
    )
    assert not changed, f"{what} changed {changed[0]}. {source}, and seed nothing."


@contextlib.contextmanager
def _others_put_back() -> Iterator[None]:
    """Put NumPy's and Python's global generators back after the block."""
    numpys, pythons = np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        np.random.set_state(numpys)
        random.setstate(pythons)


def options_have_descriptions(config: type[Config]) -> None:
    """Every option of a configuration has a description.

    Raises:
        AssertionError: If one has none; names it.
    """
    for option in options_of(config):
        assert option["description"], (
            f"option {option['name']} of {config.__name__} has no description. Write a "
            "string under the field."
        )
