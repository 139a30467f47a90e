"""What this process may use of the machine."""

from __future__ import annotations

import functools
import os
from pathlib import Path

UNKNOWN = 16 << 30
"""Bytes of memory that are taken for granted where the system does not say."""
_LIMITS = (
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)
"""Files in which a container's own limit is, of both kinds that there are."""


def cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.lru_cache(maxsize=1)
def memory() -> int:
    """Return the bytes of memory that this process may use, at most."""
    try:
        whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows has no such question
        whole = UNKNOWN
    for name in _LIMITS:
        try:
            text = Path(name).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdecimal():
            whole = min(whole, int(text))
    return whole
