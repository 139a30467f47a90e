"""Where data files are sought: an option, an environment variable, the cache folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

VARIABLE = "FEDKD_DATA"
"""The environment variable that names the folder of the data files."""


def data_root(explicit: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of the data files; it need not exist.

    The first of these that is given counts: ``explicit`` (the option ``--data-root``),
    the environment variable ``FEDKD_DATA``, the platform's cache folder.
    """
    chosen = explicit or os.environ.get(VARIABLE)
    return Path(chosen).expanduser() if chosen else cache_folder()


def cache_folder() -> Path:
    """Return fedkd's folder in the cache of this user on this platform."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
        return Path(base or Path.home() / "AppData" / "Local") / "fedkd" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "fedkd"
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification: a relative path is invalid and must be ignored.
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "fedkd"


def where_sought() -> str:
    """Return the order of places in words, for messages."""
    variable = os.environ.get(VARIABLE)
    now = f"now {variable}" if variable else "not set"
    return f"--data-root, else {VARIABLE} ({now}), else {cache_folder()}"
