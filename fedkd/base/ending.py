"""How a program ends that is asked to: in order the first time, at once the second."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

_FATAL = 128
"""What shells add to a signal's number for the exit code of a program that it ended."""
_SAME = 0.25
"""Seconds in which a signal that comes again is one: ``timeout`` sends its own twice."""
_ENDS = (signal.SIGINT, signal.SIGTERM)
"""The signals that ask a process to end."""


_asked_at = [0.0]
"""When this process was asked first."""


class Asked(KeyboardInterrupt):
    """Somebody asked this process to end, with Ctrl-C or ``kill``."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        """Args: ``number`` of the signal."""
        super().__init__(number)
        self.number = number


def exit_code(error: BaseException) -> int:
    """Return the exit code of a program that ends so: 130 after Ctrl-C, 143 after TERM."""
    number = error.number if isinstance(error, Asked) else signal.SIGINT
    return _FATAL + number


@contextlib.contextmanager
def ends_in_order() -> Iterator[None]:
    """Raise :class:`Asked` in the block when this process is asked to end.

    Asked a second time, it ends at once, whatever it is at; its workers end with it. A
    signal that the process was started to ignore stays ignored, as does any signal where
    this is not the main thread.
    """
    with _handled_by(_first):
        yield


@contextlib.contextmanager
def asked_later() -> Iterator[None]:
    """Hold signals to end back until the block is done; they arrive at its end.

    They are blocked in this thread, and processes that start in the block inherit that.
    Any other thread may be given them, for which Python calls the main thread's handler
    at any line: there they are noted meanwhile.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        asked.callback(signal.raise_signal, number)

    # What is left to do at the end is done, also if some of it raises.
    with contextlib.ExitStack() as asked, contextlib.ExitStack() as end:
        end.enter_context(_handled_by(note))
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        end.callback(signal.pthread_sigmask, signal.SIG_SETMASK, blocked)
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)
        yield


@contextlib.contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Have signals to end handled so in the block, but for those that are ignored.

    Where this is not the main thread, nothing is changed: it may not be.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with contextlib.ExitStack() as end:
        for number in _ENDS:
            before = signal.getsignal(number)
            if before not in (signal.SIG_IGN, None):
                end.callback(signal.signal, number, before)
                signal.signal(number, handler)
        yield


def _first(number: int, frame: FrameType | None) -> None:
    del frame
    for each in _ENDS:
        if signal.getsignal(each) is _first:
            signal.signal(each, _second)
    _asked_at[0] = time.monotonic()
    raise Asked(number)


def _second(number: int, frame: FrameType | None) -> None:
    del frame
    if time.monotonic() - _asked_at[0] > _SAME:
        os._exit(_FATAL + number)
