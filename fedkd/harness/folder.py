"""A results folder while a bench writes to it: whose it is, and what else it holds."""

from __future__ import annotations

import contextlib
import errno
import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO, Any

from fedkd.base import yamlfile
from fedkd.base.folders import ResultsFolder
from fedkd.errors import ConfigError, FedKDError, counted
from fedkd.harness.cell import FINAL

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_NO_ACCESS = (errno.EROFS, errno.EACCES, errno.EPERM)


def refuse_other_suite(out: ResultsFolder, name: str) -> None:
    """Refuse a results folder that holds the runs of another suite.

    Raises:
        ConfigError: Naming that suite and how many finished runs it has there.
    """
    try:
        suite = yamlfile.read_mapping(out.suite, out.suite.name)
    except (OSError, ConfigError):
        return  # nothing that a user could tell from a folder of this suite
    other = suite.get("name", name)
    if other != name:
        number = counted(finished_beside(out), "run")
        raise ConfigError(
            f"{out.path} holds the suite {other!r} ({number}); choose another --out, or "
            "delete it."
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
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return row if isinstance(row, dict) and row.get("status") in FINAL else None


@contextlib.contextmanager
def held(folder: ResultsFolder) -> Iterator[None]:
    """Make a results folder and hold it for this process while the block runs.

    Raises:
        ConfigError: If it cannot be made or written to.
        FedKDError: If another bench is writing there, or the disk fills up meanwhile.
    """
    out = folder.path
    try:
        folder.runs.mkdir(parents=True, exist_ok=True)
        lock = folder.lock.open("a", encoding="utf-8")
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise FedKDError(_no_space(out)) from None
        raise ConfigError(
            f"--out {out}: cannot be written to: {error.strerror}. Choose a folder that "
            "you may write to."
        ) from None
    with lock:
        _hold(lock, out)
        try:
            yield
        except OSError as error:
            if error.errno in _NO_SPACE:
                raise FedKDError(_no_space(out)) from None
            if error.errno in _NO_ACCESS:
                raise FedKDError(
                    f"{error.filename or out} can no longer be written to: "
                    f"{error.strerror}. Finished cells are kept; mend that and run the "
                    "same command again."
                ) from None
            raise


def _no_space(out: Path) -> str:
    return (
        f"the disk that holds {out} is full. Finished cells are kept; free some space "
        "and run the same command again."
    )


def _hold(lock: IO[str], out: Path) -> None:
    """Refuse a folder that another process holds; the system frees it with ours."""
    if fcntl is None:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise FedKDError(
            f"another fedkd bench is writing to {out}; wait for it, or choose another "
            "folder with --out."
        ) from None
    except OSError:
        return  # some network file systems have no locks; nor has the user then
