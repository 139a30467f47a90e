"""A results folder while a bench writes to it: whose it is, and what else it holds."""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import time
import warnings
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO, Any

from fedkd.base import yamlfile
from fedkd.base.bounds import read_text
from fedkd.base.files import json_mapping, sweep
from fedkd.base.folders import ResultsFolder, refuse_links_out_of
from fedkd.base.locks import PAUSE
from fedkd.base.sums import changed
from fedkd.errors import ConfigError, FedKDError, counted, readable
from fedkd.harness.cell import FINAL

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

WAIT = 1.0
"""Seconds in which a folder that is held may come free."""
_LONGEST_OWNER = 1000
"""Bytes of what a lock says of its owner."""
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_NO_ACCESS = (errno.EROFS, errno.EACCES, errno.EPERM)


def refuse_other_suite(out: ResultsFolder, name: str) -> None:
    """Refuse a results folder that holds the runs of another suite.

    Raises:
        ConfigError: Naming that suite and how many finished runs it has there.
    """
    if out.suite in changed(out.path):
        return  # it is damaged, which is said elsewhere, and written anew
    try:
        suite = yamlfile.read_mapping(out.suite, out.suite.name)
    except (OSError, ConfigError):
        return  # nothing that a user could tell from a folder of this suite
    other = suite.get("name", name)
    if other != name:
        number = counted(finished_beside(out), "run")
        raise ConfigError(
            f"{out.path} holds the suite {other!r} ({number}), and this one is called "
            f"{name!r}; choose another --out, or delete it. To go on there, give this one "
            f"the name {other!r}."
        )


def finished_beside(out: ResultsFolder, known: Collection[str] = ()) -> int:
    """Return how many finished runs are in a folder, without the ``known`` ones.

    Args:
        out: The results folder.
        known: Names of run folders that do not count.
    """
    return sum(
        _finished(run.result) is not None
        for run in out.every_run()
        if run.path.name not in known
    )


def seeds_in(out: ResultsFolder) -> set[int]:
    """Return the seeds of the finished runs in a folder."""
    rows = (_finished(run.result) for run in out.every_run())
    seeds = {row.get("seed") for row in rows if row is not None}
    return {seed for seed in seeds if isinstance(seed, int)}


def _finished(path: Path) -> dict[str, Any] | None:
    """Return what is written of a finished run; None if it is none, or is damaged."""
    row = json_mapping(path)
    return None if row is None or row.get("status") not in FINAL else row


@contextlib.contextmanager
def held(folder: ResultsFolder, fresh: bool = False) -> Iterator[None]:
    """Make a results folder and hold it for this process while the block runs.

    Args:
        folder: The results folder.
        fresh: Whether the command that goes on is another one: without ``--fresh``.

    Raises:
        ConfigError: If it cannot be made or written to.
        BoundsError: If a link in it leads out of it.
        FedKDError: If another bench is writing there; or if meanwhile the disk fills up,
            or the folder disappears.
    """
    out = folder.path
    refuse_links_out_of(out)
    try:
        folder.runs.mkdir(parents=True, exist_ok=True)
        lock = folder.lock.open("a", encoding="utf-8")
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise FedKDError(_no_space(out, fresh)) from None
        raise ConfigError(
            f"--out {out}: cannot be written to: {error.strerror}. Choose a folder that "
            "you may write to."
        ) from None
    with lock:
        _hold(lock, out)
        for place in (out, folder.plots, folder.search.path):
            sweep(place)
        try:
            yield
        except OSError as error:
            require_there(folder, fresh)
            if error.errno in _NO_SPACE:
                raise FedKDError(_no_space(out, fresh)) from None
            if error.errno in _NO_ACCESS:
                raise FedKDError(
                    f"{error.filename or out} can no longer be written to: "
                    f"{error.strerror}. Finished cells are kept; mend that and run "
                    f"{_again(fresh)}."
                ) from None
            raise


def require_there(folder: ResultsFolder, fresh: bool = False) -> None:
    """Refuse to go on writing into a folder that somebody has removed or renamed.

    Args:
        folder: The results folder.
        fresh: As for :func:`held`.

    Raises:
        FedKDError: If it is not there any more.
    """
    if not folder.runs.is_dir():
        raise FedKDError(
            f"{folder.path} has disappeared while the bench was writing there. If it was "
            f"moved, put it back; {_again(fresh)} goes on from what is there."
        )


def _no_space(out: Path, fresh: bool) -> str:
    return (
        f"the disk that holds {out} is full. Finished cells are kept; free some space "
        f"and run {_again(fresh)}."
    )


def _again(fresh: bool) -> str:
    """Return which command goes on; ``--fresh`` would remove what is done."""
    return f"the same command again{' without --fresh' if fresh else ''}"


def _hold(lock: IO[str], out: Path) -> None:
    """Refuse a folder that another process holds; the system frees it with ours.

    Raises:
        FedKDError: Naming that process, as far as it is known.
    """
    if fcntl is None:
        return
    # Workers of a process that was killed hold what it held until they have ended, too.
    end = time.monotonic() + WAIT
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > end:
                raise FedKDError(
                    f"another fedkd bench is writing to {out}{_owner(out)}; wait for it, "
                    "or choose another folder with --out."
                ) from None
            time.sleep(PAUSE)
        except OSError as error:
            text = (
                f"{out} is on a file system without locks ({error.strerror}): nothing "
                "keeps a second bench from writing there, so start none."
            )
            warnings.warn(text, RuntimeWarning, stacklevel=4)
            return
    # Only to be told to others: on a full disk the lock is held all the same.
    with contextlib.suppress(OSError):
        os.ftruncate(lock.fileno(), 0)
        os.write(lock.fileno(), f"process {os.getpid()} on {platform.node()}".encode())


def _owner(out: Path) -> str:
    """Return who holds a folder, in brackets; nothing if that is not written there."""
    try:
        text = read_text(ResultsFolder(out).lock, _LONGEST_OWNER).strip()
    except (OSError, ValueError):
        return ""
    return f" ({readable(text)})" if text else ""
