"""A lock between processes, held on a file; it goes with the process that holds it."""

from __future__ import annotations

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

    The file stays: to remove it would let two processes hold locks on two files of one
    name.

    Args:
        path: The file; made if it is missing, its folder is not.
        on_wait: Called once, before the first wait.

    Raises:
        OSError: If the file cannot be opened for writing.
    """
    with path.open("ab") as file:
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
