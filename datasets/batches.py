"""Batches of CIFAR, which are published as pickles: taken apart here, and nothing is run.

A pickle is a list of orders to a stack machine. Of these, those that make numbers, texts,
lists and mappings are followed; a call is followed if it makes an array of bytes as NumPy
pickles it, which is done here, and is refused else.
"""

from __future__ import annotations

import hashlib
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fedkd.base.bounds import read_bytes

LARGEST = 1 << 28
"""Most bytes of a batch; those of CIFAR-100 are the largest, 155 MB."""
UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, IndexError)
"""What files that are no batches raise."""
_MARK = object()
_EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "NONE": lambda: None,
    "NEWTRUE": lambda: True, "NEWFALSE": lambda: False, "MARK": lambda: _MARK,
}  # fmt: skip
_VALUES = {
    "INT", "LONG", "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "BINUNICODE8",
    "SHORT_BINUNICODE", "BINBYTES", "BINBYTES8", "SHORT_BINBYTES", "BYTEARRAY8", "GLOBAL",
}  # fmt: skip
_PUT = {"PUT", "BINPUT", "LONG_BINPUT"}
_GET = {"GET", "BINGET", "LONG_BINGET"}
_IDLE = {"PROTO", "FRAME", "STOP"}


def read_batch(path: Path, checksum: str) -> dict[str, Any]:
    """Return what is in a batch whose MD5 is known: of the bytes that are read, no others.

    Raises:
        ValueError: If the bytes are others, or no batch; or another error of
            :data:`UNREADABLE`.
        OSError: If it cannot be read.
    """
    content = read_bytes(path, LARGEST)
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != checksum:
        raise ValueError(f"MD5 {found}, expected {checksum}")
    stack = _Stack()
    for order, argument, _ in pickletools.genops(content):
        stack.follow(order.name, argument)
    return {
        key: value.array if isinstance(value, _Bytes) else value
        for key, value in stack.pop().items()
    }


class _Bytes:
    """An array of bytes that is being made."""

    array: Any = None

    def fill(self, shape: Any, raw: Any) -> _Bytes:
        """Take the bytes, which a Python 2 has written as a text."""
        content = raw.encode("latin-1") if isinstance(raw, str) else raw
        self.array = np.frombuffer(content, np.uint8).reshape(shape)
        return self


class _Stack:
    """Follows the orders of a pickle."""

    def __init__(self) -> None:
        self._values: list[Any] = []
        self._memo: dict[int, Any] = {}

    def pop(self) -> Any:
        """Take what is on top."""
        return self._values.pop()

    def follow(self, order: str, argument: Any) -> None:
        """Follow one order.

        Raises:
            ValueError: If it is none that a batch needs; or another of ``UNREADABLE``.
        """
        if order in _VALUES:
            self._values.append(argument)
        elif order in _EMPTY:
            self._values.append(_EMPTY[order]())
        elif order == "MEMOIZE" or order in _PUT:
            place = len(self._memo) if argument is None else argument
            self._memo[place] = self._values[-1]
        elif order in _GET:
            self._values.append(self._memo[argument])
        elif order not in _IDLE:
            self._join(order)

    def _join(self, order: str) -> None:
        """Make one value of those on top."""
        if order in ("TUPLE", "LIST", "DICT", "APPENDS", "SETITEMS"):
            several = self._above_mark()
        else:
            number = {"TUPLE1": 1, "TUPLE3": 3, "APPEND": 1}.get(order, 2)
            several = [self.pop() for _ in range(number)][::-1]
        if order.startswith("TUPLE"):
            self._values.append(tuple(several))
        elif order == "LIST":
            self._values.append(several)
        elif order == "DICT":
            self._values.append(dict(zip(several[::2], several[1::2], strict=True)))
        elif order in ("APPEND", "APPENDS"):
            self._values[-1].extend(several)
        elif order in ("SETITEM", "SETITEMS"):
            self._values[-1].update(zip(several[::2], several[1::2], strict=True))
        elif order == "STACK_GLOBAL":
            self._values.append(" ".join(several))
        elif order in ("REDUCE", "BUILD"):
            self._values.append(_CALLS[order](*several))
        else:
            raise ValueError(f"it has the order {order}, which makes no array")

    def _above_mark(self) -> list[Any]:
        start = len(self._values) - 1 - self._values[::-1].index(_MARK)
        several = self._values[start + 1 :]
        del self._values[start:]
        return several


def _called(name: str, given: tuple[Any, ...]) -> Any:
    """Return what a call makes, if it makes an array, or a part of one."""
    module, _, function = str(name).partition(" ")
    top = module.partition(".")[0]
    if (module, function) == ("_codecs", "encode") and given[1] == "latin1":
        return given[0].encode("latin-1")
    if top == "numpy" and function == "dtype" and given[0] == "u1":
        return "u1"
    if top == "numpy" and function == "_reconstruct":
        return _Bytes()
    if top == "numpy" and function == "_frombuffer" and given[1] == "u1":
        return _Bytes().fill(given[2], bytes(given[0]))
    raise ValueError(f"it names {module}.{function}, which makes no array of bytes")


def _built(thing: Any, state: Any) -> Any:
    """Return an array with its bytes; what is told of a type is its byte order only."""
    if thing == "u1":
        return thing
    _, shape, kind, is_fortran, raw = state
    if kind != "u1" or is_fortran:
        raise ValueError(f"it has an array of {kind}, expected bytes, row by row")
    return thing.fill(shape, raw)


_CALLS: dict[str, Callable[..., Any]] = {"REDUCE": _called, "BUILD": _built}
