"""Digests of own files: the bytes are read once a process, unless the files change."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable
from typing import TypeAlias

Facts: TypeAlias = tuple[str, os.stat_result]
"""A file, and what the file system knows of it."""
SETTLED = 2_000_000_000
"""Nanoseconds after its last change from which on the times of a file tell the next:
the clocks of file systems are coarse."""
_known: dict[str, str] = {}


def stamp_of(place: str, files: Iterable[Facts]) -> str:
    """Return a text that changes with the names, sizes or times of some files."""
    digest = hashlib.sha256(encoded(place))
    for name, facts in files:
        digest.update(encoded(f"{name} {facts.st_size} {facts.st_mtime_ns}\n"))
    return digest.hexdigest()[:32]


def remembered(place: str, files: Iterable[Facts], read: Callable[[], str]) -> str:
    """Return what ``read`` does, without a call if the files are as they were.

    Not only sizes and times of change are held against those of the call before: the
    time that no program sets (``st_ctime``) and the number of the file are, too.
    """
    now = time.time_ns()
    newest = 0
    digest = hashlib.sha256(encoded(place))
    for name, facts in files:
        times = f"{facts.st_mtime_ns} {facts.st_ctime_ns}"
        digest.update(encoded(f"{name} {facts.st_size} {times} {facts.st_ino}\n"))
        newest = max(newest, facts.st_mtime_ns, facts.st_ctime_ns)
    key = digest.hexdigest()
    if (known := _known.get(key)) is not None:
        return known
    content = read()
    if now - newest > SETTLED:
        _known[key] = content
    return content


def encoded(name: str) -> bytes:
    """Return the bytes of a file's name, whatever these are."""
    return name.encode("utf-8", "surrogateescape")
