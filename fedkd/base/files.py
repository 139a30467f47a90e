"""Files that are whole or not there: nothing is ever left half written."""

from __future__ import annotations

import contextlib
import json
import os
import uuid
from pathlib import Path
from typing import Any

from fedkd.base.bounds import parse_json, read_bytes


def write_atomic(path: Path, content: bytes | str, aside: Path | None = None) -> None:
    """Write ``content`` to ``path``; readers see the old file or the new one.

    The content goes to a temporary file beside ``path``, is forced to the disk and
    takes the name of ``path`` in one step. Its folder must be there: one that somebody
    has moved away meanwhile is not made anew. Text is UTF-8 and keeps its line ends;
    bytes of file names that are no UTF-8 are written as escapes.

    Args:
        path: The file.
        content: What it is to hold.
        aside: Where the old file goes, if there is one; between the two steps there is
            no file at ``path``.

    Raises:
        OSError: If the file cannot be written; ``path`` is then as it was.
    """
    if isinstance(content, str):
        content = content.encode(errors="backslashreplace")
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if aside is not None and path.exists():
            path.replace(aside)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_json_atomic(value: Any, path: Path) -> None:
    """Write ``value`` to ``path`` as indented JSON; see :func:`write_atomic`.

    Raises:
        TypeError: If ``value`` holds something JSON has no form for.
        ValueError: If it holds a number that is not finite.
    """
    write_atomic(path, json_text(value))


def json_text(value: Any) -> str:
    """Return ``value`` as indented JSON with a line break at its end.

    Raises:
        TypeError: If ``value`` holds something JSON has no form for.
        ValueError: If it holds a number that is not finite.
    """
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def json_mapping(path: Path) -> dict[str, Any] | None:
    """Return what a JSON file holds; None if it cannot be read, or holds no mapping."""
    try:
        value = parse_json(read_bytes(path))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def sweep(folder: Path) -> None:
    """Remove what processes that were killed had begun to write into a folder.

    Only for who holds the folder: another process may be writing there otherwise.
    """
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def spelled(path: str) -> str:
    """Return the one spelling of a path: from the current folder, if it is in there.

    So that a run is the same run, however its files are named; ``~`` is spelled out.
    """
    if not path:
        return path
    here, place = Path.cwd(), Path(os.path.abspath(Path(path).expanduser()))
    return str(place.relative_to(here) if place.is_relative_to(here) else place)


def sync_folder(folder: Path) -> None:
    """Force the new name to the disk, where the platform can open folders."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
