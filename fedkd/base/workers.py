"""A process that works for this one, at the other end of a pipe.

It leaves Ctrl-C to its master and ends when the master does, however that one ends.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Mapping
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

from fedkd.base.ending import asked_later

PATIENCE = 5.0
"""Seconds a worker has to end by itself."""
GRACE = 0.5
"""Seconds a worker that is told to end has before it is killed."""
LONGEST = 70
"""Bytes of the folder for temporary files in which a socket's path is not too long."""


def afresh() -> str:
    """Return how a worker starts that takes nothing of its master's.

    On Linux it is forked from a process that has imported what workers need, once for all
    of them, and has done nothing else; elsewhere that is not safe, and it is spawned.
    """
    if not sys.platform.startswith("linux"):
        return "spawn"
    # There the server has its socket.
    short = len(os.fsencode(tempfile.gettempdir())) <= LONGEST
    return "forkserver" if short else "spawn"


class Worker:
    """The master's end of a worker, which starts when this is made."""

    def __init__(
        self,
        main: Callable[..., None],
        *arguments: Any,
        method: str | None = None,
        daemon: bool = False,
    ) -> None:
        """Start the worker.

        Args:
            main: What it does; called with its end of the pipe, then ``arguments``.
            arguments: What it is given; they travel unless it is forked.
            method: How it starts: as :func:`afresh` says if None; or by ``fork``, which
                neither CUDA nor torch's threads survive.
            daemon: Whether Python ends it when this process ends and has not done so;
                such a worker can start no processes itself.
        """
        method = method or afresh()
        context: Any = multiprocessing.get_context(method)
        if method == "forkserver":
            context.set_forkserver_preload([main.__module__])
        if method != "fork" and sys.platform != "win32":
            # Where it runs already, a start does not let signals through that are held.
            resource_tracker.ensure_running()
        self.pipe: Connection
        self.pipe, theirs = context.Pipe()
        self.process: multiprocessing.Process = context.Process(
            target=_work,
            args=(main, method, dict(os.environ), theirs, *arguments),
            daemon=daemon,
        )
        try:
            with asked_later(), warnings.catch_warnings():
                # Threads of this process: none of them holds a lock that a worker needs.
                warnings.simplefilter("ignore", DeprecationWarning)
                self.process.start()
        except BaseException:
            # What was held back arrives at the end of the block, and nobody else knows
            # of this worker yet.
            if self.process.pid is not None:
                self.end()
            raise
        theirs.close()

    def give(self, message: Any) -> None:
        """Send a message; that the worker is dead is noticed by :meth:`take`."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.pipe.send(message)

    def take(self) -> Any:
        """Wait for a message of the worker and return it.

        Raises:
            EOFError: If the worker has died.
        """
        try:
            return self.pipe.recv()
        except OSError as error:
            raise EOFError from error

    def exit_code(self) -> int | None:
        """Return how a worker that has died ended; None if it does not end in time."""
        self.process.join(PATIENCE)
        return self.process.exitcode

    def stop(self) -> None:
        """Let a worker that was started afresh and waits for a message end by itself.

        A forked one holds both ends of its pipe and waits on; it is terminated.
        """
        self.pipe.close()
        self.process.join(PATIENCE)
        self.end()

    def end(self) -> None:
        """End the worker, whatever it does."""
        self.process.terminate()
        self.process.join(GRACE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.pipe.close()


def _work(
    main: Callable[..., None],
    method: str,
    environment: Mapping[str, str],
    pipe: Connection,
    *arguments: Any,
) -> None:
    """Be a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    threading.Thread(target=_end_with_master, daemon=True).start()
    if method == "forkserver":
        # The server has that of the time when it was started.
        os.environ.clear()
        os.environ.update(environment)
    main(pipe, *arguments)
    if method == "fork":
        # Not by the interpreter's way out: it would write what the master had not
        # written yet.
        os._exit(0)


def _end_with_master() -> None:
    master = multiprocessing.parent_process()
    assert master is not None, "runs in a child process"
    wait([master.sentinel])
    os._exit(1)
