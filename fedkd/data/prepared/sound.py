"""Whether prepared files hold what was written: looked at once, and when they change."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedkd.base.files import json_mapping, write_json_atomic
from fedkd.data.prepared.files import Prepared, require_sound

NAME = "sound.json"
"""When, and how large, each prepared file was when it was found sound, beside it."""


def require_sound_once(files: Sequence[Prepared]) -> None:
    """Hold prepared files against their checksums, unless they are as when that was done.

    Reading a set through takes a second for a gigabyte; opening it takes no time. What
    changes on the disk without a change of the file's time is found by ``fedkd data
    check``, which always reads.

    Raises:
        DataError: If one of them is damaged.
    """
    seen = _looks_of(files)
    if seen == json_mapping(_place(files)):
        return
    for file in files:
        require_sound(file)
    _note(seen, _place(files))


def note_written(files: Sequence[Prepared]) -> None:
    """Note that prepared files are as they have just been written."""
    _note(_looks_of(files), _place(files))


def _note(seen: Mapping[str, Any], place: Path) -> None:
    # Where nothing can be written they are read through each time.
    with contextlib.suppress(OSError):
        write_json_atomic(seen, place)


def _place(files: Sequence[Prepared]) -> Path:
    return files[0].path.parent / NAME


def _looks_of(files: Sequence[Prepared]) -> dict[str, Any]:
    return {file.path.name: _look_of(file.path) for file in files}


def _look_of(path: Path) -> list[int] | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return [facts.st_mtime_ns, facts.st_ctime_ns, facts.st_size]
