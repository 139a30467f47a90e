"""How large, how deep and where what is read may be: looked at before it is read.

Whatever lies in a file or comes in a message may be damaged, or written by somebody who
wishes harm. So no size that it claims is believed before it is held against what is
there, and nothing outside the folder that was named is read or written.
"""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import IO, Any

from fedkd.base.machine import memory
from fedkd.errors import BoundsError, readable

TEXT = 64 << 20
"""Most bytes of a file of text, if who reads it says nothing else."""
HEADER = 100_000_000
"""Most bytes of the header of safetensors; their own library's limit, too."""
VALUES = 4_000_000
"""Most values in a JSON text: each takes some 100 bytes of memory."""
DIGITS = 300
"""Most digits of a whole number: with a few more it is none that a float holds."""
MOST = 10**DIGITS
"""The greatest number that results have: sums of larger ones would be infinite."""
_CHUNK = 1 << 20
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BETWEEN = b",[{"
"""One of these stands before each value of a JSON text but the first, or its key."""


def opened(path: Path) -> IO[bytes]:
    """Open a file for reading; a pipe or a device is refused, which might never end.

    Raises:
        BoundsError: If it is neither a file nor a folder.
        OSError: If it cannot be opened, or is a folder.
    """
    # Without it, opening a pipe waits until somebody writes there.
    now = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    handle = os.open(path, os.O_RDONLY | now)
    try:
        kind = os.fstat(handle).st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
            raise BoundsError(
                f"{path}: found a pipe or a device, expected a file; copy what it gives "
                "into one."
            )
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_bytes(path: Path, most: int = TEXT) -> bytes:
    """Return what is in a file.

    Raises:
        BoundsError: If it holds more than ``most`` bytes, or is no file.
        OSError: If it cannot be read.
    """
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        content = b"" if size > most else file.read(size)
        # It may have grown meanwhile, and files of the system say that they are empty.
        while max(size, len(content)) <= most and (chunk := file.read(_CHUNK)):
            content += chunk
    if max(size, len(content)) > most:
        raise BoundsError(
            f"{path}: found more than {_amount(most)}, expected less; it is none that "
            "fedkd wrote, or no file of its kind."
        )
    return content


def read_text(path: Path, most: int = TEXT) -> str:
    """Return the UTF-8 text in a file, its line ends as they are.

    Raises:
        BoundsError: As :func:`read_bytes`.
        OSError: If it cannot be read.
        UnicodeDecodeError: If it is no such text.
    """
    return read_bytes(path, most).decode("utf-8")


def read_tree_bytes(path: Path) -> bytes:
    """Return what is in a file of tensors, which has to fit into memory twice.

    Raises:
        BoundsError: If it does not, or is no file.
        OSError: If it cannot be read.
    """
    return read_bytes(path, memory() // 2)


def parse_json(text: bytes | str, most: int = TEXT) -> Any:
    """Return the value of a JSON text.

    Raises:
        BoundsError: If it is longer than ``most`` bytes, has more than :data:`VALUES`
            values or a whole number of more than :data:`DIGITS` digits, or is nested too
            deep.
        ValueError: If it is no JSON.
    """
    content = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if len(content) > most:
        raise BoundsError(
            f"found {_amount(len(content))} of JSON, expected at most {_amount(most)}."
        )
    if _values(content) > VALUES and _values(_STRING.sub(b"", content)) > VALUES:
        raise BoundsError(f"found JSON of more than {VALUES:,} values; expected fewer.")
    try:
        plain = text if isinstance(text, str) else text.decode("utf-8")
        return json.loads(plain, parse_int=_whole)
    except RecursionError:
        raise BoundsError(
            "found JSON nested too deep; expected a few levels."
        ) from None


def _whole(digits: str) -> int:
    """Return a whole number, which every sum and mean can take."""
    if len(digits) > DIGITS:
        raise BoundsError(
            f"found a whole number of {len(digits):,} digits in JSON, expected at most "
            f"{DIGITS}."
        )
    return int(digits)


def _values(content: bytes) -> int:
    """Return at least how many values a JSON text has; strings may add to it."""
    return sum(content.count(bytes([one])) for one in _BETWEEN)


def inside(root: Path, path: Path) -> Path:
    """Return ``path`` if it is ``root`` or below, wherever links lead.

    Raises:
        BoundsError: If it is elsewhere.
    """
    place = Path(os.path.realpath(path))
    if not place.is_relative_to(os.path.realpath(root)):
        raise BoundsError(
            f"{readable(str(path))} leads to {readable(str(place))}, outside of {root}; "
            "expected what lies in there. Remove the link, or put a copy in its place."
        )
    return path


def refuse_links_outside(root: Path, *parts: str, closed_by: str = "") -> None:
    """Refuse a folder in which a link leads out of it; the folder may be one itself.

    Args:
        root: The folder.
        parts: What in it is looked at, files or folders; all of it if none are given.
        closed_by: The file that a folder has whose own folders are somebody else's, and
            not looked into.

    Raises:
        BoundsError: Naming the first such link.
    """
    waiting = [inside(root, root / part) for part in parts] or [root]
    while waiting:
        place = waiting.pop()
        if not place.is_dir():
            continue
        with os.scandir(place) as entries:
            there = list(entries)
        for link in (entry for entry in there if entry.is_symlink()):
            inside(root, Path(link.path))
        if closed_by not in {entry.name for entry in there}:
            folders = (entry for entry in there if entry.is_dir(follow_symlinks=False))
            waiting += [Path(folder.path) for folder in folders]


def require_room(size: int, what: str) -> None:
    """Refuse to make room for more than the machine has memory.

    Args:
        size: Bytes that are asked for.
        what: Starts the message: ``"x.npz: x_train"``.

    Raises:
        BoundsError: If there is less than that.
    """
    most = memory()
    if size > most:
        raise BoundsError(
            f"{what}: found {_amount(size)}, expected what fits into the memory of this "
            f"machine, {_amount(most)}; make it smaller, or take another machine."
        )


def _amount(size: int) -> str:
    """Return a number of bytes for people."""
    for unit, factor in (("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if size >= 1 << factor:
            return (
                f"{size / (1 << factor):.4g} {unit}" if size < 1 << 60 else "too much"
            )
    return f"{size} bytes"
