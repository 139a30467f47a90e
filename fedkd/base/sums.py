"""Checksums of the files of a folder, in a file beside them: what was changed is seen."""

from __future__ import annotations

import hashlib
from pathlib import Path

from fedkd.base.bounds import opened
from fedkd.base.files import json_mapping, write_atomic, write_json_atomic

NAME = ".checksums"
"""The file: by name the SHA-256 of what was written last, and of what was there before."""

_CHUNK = 1 << 20


def write_summed(path: Path, content: str) -> None:
    """Write a text as :func:`fedkd.base.files.write_atomic`, and its checksum beside it.

    The checksum is written first, beside that of the file as it was: whenever the process
    is killed, what is there is one of both.

    Raises:
        OSError: If one of them cannot be written.
    """
    sums = _read(path.parent)
    now = hashlib.sha256(content.encode(errors="backslashreplace")).hexdigest()
    sums[path.name] = [now, *sums.get(path.name, [])[:1]]
    write_json_atomic(sums, path.parent / NAME)
    write_atomic(path, content)


def changed(folder: Path) -> list[Path]:
    """Return the files of a folder that are not what was written; those gone are not."""
    sums = _read(folder)
    places = {folder / name: known for name, known in sums.items()}
    return [
        path
        for path, known in places.items()
        if path.is_file() and sha256(path) not in known
    ]


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with opened(path) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _read(folder: Path) -> dict[str, list[str]]:
    """Return the checksums of a folder; none without a file that can be read."""
    sums = json_mapping(folder / NAME) or {}
    plain = {name: known for name, known in sums.items() if isinstance(known, list)}
    return {name: known for name, known in plain.items() if Path(name).name == name}
