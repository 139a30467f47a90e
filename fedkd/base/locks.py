"""A lock between processes, held on a file; it goes with the process that holds it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

PAUSE = 0.1
"""Seconds between attempts to get a lock that another process holds."""


@contextmanager
def locked(path: Path, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock on ``path`` in the block; wait while another process has it.

    The file stays. Who removes it after all does so in the block: whoever waited for it
    then takes the lock on the one that is there.

    Args:
        path: The file; made if it is missing, its folder is not.
        on_wait: Called once, before the first wait.

    Raises:
        OSError: If the file cannot be opened for writing.
    """
    while True:
        with path.open("ab") as file, _lock_on(file, on_wait):
            if _is_at(path, file):
                yield
                return


@contextmanager
def _lock_on(file: BinaryIO, on_wait: Callable[[], None] | None) -> Iterator[None]:
    """Hold the lock on an open file in the block, whatever is of its name by then."""
    waiting = False
    while not _try(file):
        if not waiting and on_wait is not None:
            on_wait()
        waiting = True
        time.sleep(PAUSE)
    try:
        yield
    finally:
        _release(file)


def _is_at(path: Path, file: BinaryIO) -> bool:
    """Say whether an open file is still the one of that name."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False


if sys.platform == "win32":
    import msvcrt

    def _try(file: BinaryIO) -> bool:
        file.seek(0)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _release(file: BinaryIO) -> None:
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try(file: BinaryIO) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _release(file: BinaryIO) -> None:
        fcntl.flock(file, fcntl.LOCK_UN)
