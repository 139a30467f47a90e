"""Makes the C library keep memory that a training step gives back for the next step.

By default glibc returns large blocks to the system at once and asks for them anew, page
by page, at the next step. On a small convolutional network that was 40 % of all time.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # as in malloc.h
_LIMITS = (1 << 30, 32 << 20)
"""Bytes; older versions of glibc accept no more than the second."""


@functools.cache
def keep_freed_memory() -> bool:
    """Tell malloc to keep up to 1 GiB of freed memory; once for this process.

    A user's own settings, in ``MALLOC_TRIM_THRESHOLD_`` or ``MALLOC_MMAP_THRESHOLD_``,
    are left alone; so are other C libraries and other allocators.

    Returns:
        Whether anything was changed.
    """
    own = any(name.startswith("MALLOC_") for name in os.environ)
    mallopt = _function("mallopt")
    if own or mallopt is None:
        return False
    mallopt(_TRIM_THRESHOLD, _LIMITS[0])
    return any(mallopt(_MMAP_THRESHOLD, limit) for limit in _LIMITS)


def give_back_memory() -> None:
    """Return freed memory to the system, where :func:`keep_freed_memory` kept it."""
    trim = _function("malloc_trim")
    if keep_freed_memory() and trim is not None:
        trim(0)


def _function(name: str) -> ctypes._NamedFuncPointer | None:
    if not sys.platform.startswith("linux"):
        return None
    # musl and other allocators have no such function.
    return getattr(ctypes.CDLL(None), name, None)
