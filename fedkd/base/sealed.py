"""The file ``result.json`` of a run: its row, sealed with what else the run has left."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fedkd.base.bounds import read_bytes
from fedkd.base.files import json_mapping, write_json_atomic
from fedkd.base.folders import RunFolder
from fedkd.base.sums import sha256

LARGEST_METRICS = 1 << 30
"""Most bytes of ``metrics.jsonl``: a thousand rounds of some thousand clients."""
SEAL = "checksum"
"""What ``result.json`` has beside the row: of the row, and of the lines of the rounds."""
BESIDE = "files"
"""What it has beside the row, too: the SHA-256 of other files of the run, by name."""


def write_sealed(row: Mapping[str, Any], folder: RunFolder) -> None:
    """Write ``result.json``; it is the last file that a run writes.

    Raises:
        OSError: If it cannot be written, or what belongs to it cannot be read.
    """
    beside = {path.name: sha256(path) for path in _others(folder) if path.is_file()}
    whole = {**row, BESIDE: beside}
    write_json_atomic({**whole, SEAL: _seal(whole, folder)}, folder.result)


def sound_row(folder: RunFolder) -> dict[str, Any] | None:
    """Return the row in ``result.json``; None if that, or what it seals, has changed.

    Files that are gone have not changed; results of earlier versions have no checksum.
    """
    row = json_mapping(folder.result)
    if row is None:
        return None
    seal = row.pop(SEAL, None)
    if seal not in (None, _seal(row, folder)):
        return None
    known = row.pop(BESIDE, {})
    there = [path for path in _others(folder) if path.is_file() and path.name in known]
    return row if all(sha256(path) == known[path.name] for path in there) else None


def warn_if_changed(folder: RunFolder) -> None:
    """Warn if a finished run is not as it was left."""
    if folder.result.exists() and sound_row(folder) is None:
        warnings.warn(damaged(folder), RuntimeWarning, stacklevel=3)


def damaged(folder: RunFolder) -> str:
    """Return the sentence on a finished run that is not as it was left."""
    return (
        f"{folder.result} is damaged, or a file beside it is not as it was written with it "
        f"({folder.metrics.name}, {', '.join(path.name for path in _others(folder))}). "
        "Run the bench again; it makes this run again."
    )


def changed_text(path: Path) -> str:
    """Return the sentence on a file of a results folder that has changed."""
    return (
        f"{path} is not what was written there: its checksum differs, and what it says may "
        "be wrong. The same 'fedkd bench' again writes tables anew from the runs."
    )


def _others(folder: RunFolder) -> Iterator[Path]:
    yield from (folder.config, folder.counts, folder.gallery)


def _seal(row: Mapping[str, Any], folder: RunFolder) -> str:
    """Return the checksum of a row and of the lines of its rounds."""
    digest = hashlib.sha256(json.dumps(row, sort_keys=True).encode())
    if folder.metrics.is_file():
        digest.update(read_bytes(folder.metrics, LARGEST_METRICS))
    return digest.hexdigest()
