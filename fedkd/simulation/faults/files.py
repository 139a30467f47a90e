"""Files that a suite names: read within bounds, and known by their content."""

from __future__ import annotations

import csv
import functools
import hashlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fedkd.base.bounds import read_bytes
from fedkd.config import Config
from fedkd.errors import BoundsError, ConfigError

LARGEST = 16 << 20
"""Bytes of a file."""
LONGEST = 1_000_000
"""Lines of a file."""


class FileConfig(Config):
    """A file, and what was in it when the suite was read."""

    file: str
    """Its path, from the working folder."""
    sha256: str
    """Of its content. Left out by who writes a suite: it is filled in when that is read,
    and a run with another content under the same path is refused."""


def with_checksum(value: Any) -> Any:
    """Return the options of a file that is given by its path; fills in its checksum.

    A file whose checksum is known, as in the suite of a results folder, is not read.

    Raises:
        ValueError: If the file cannot be read.
    """
    given = {"file": value} if isinstance(value, str) else value
    if not isinstance(given, dict) or "sha256" in given or "file" not in given:
        return given
    try:
        content = read(str(given["file"]))
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return {**given, "sha256": hashlib.sha256(content).hexdigest()}


def read(path: str) -> bytes:
    """Return the content of a file.

    Raises:
        ConfigError: If it is no file that can be read, or larger than :data:`LARGEST`.
    """
    place = Path(path)
    try:
        if not place.is_file():
            raise ConfigError(f"{path}: there is no such file; expected one, as CSV.")
        return read_bytes(place, LARGEST)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}.") from None
    except BoundsError:
        raise ConfigError(
            f"{path}: found more than {LARGEST >> 20} MiB, expected less; cut it to the "
            "clients and rounds of the run."
        ) from None


@functools.lru_cache(maxsize=4)
def rows_of(
    path: str, sha256: str, header: tuple[str, ...]
) -> tuple[tuple[float, ...], ...]:
    """Return the numbers of a CSV file, line by line.

    Args:
        path: Of the file.
        sha256: What the suite has been read with.
        header: The names that the first line is to have.

    Raises:
        ConfigError: If it has another content by now, or a line that is none; names file
            and line.
    """
    content = read(path)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ConfigError(
            f"{path}: its content is not what the suite was read with; put the file back, "
            "or run the suite anew from its own file."
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: found bytes that are not UTF-8.") from None
    return tuple(_rows(text, path, header))


def _rows(text: str, path: str, header: Sequence[str]) -> Iterator[tuple[float, ...]]:
    expected = ",".join(header)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for line in reader:
            number = reader.line_num
            where = f"{path}:{number}"
            if number == 1 and line != list(header):
                raise ConfigError(
                    f"{where}: found {','.join(line)[:60]!r}, expected the header "
                    f"{expected}."
                )
            if number > LONGEST:
                raise ConfigError(f"{where}: expected at most {LONGEST:,} lines.")
            if number > 1 and line:
                yield _numbers(line, where, expected, len(header))
    except csv.Error as error:
        raise ConfigError(f"{path}:{reader.line_num}: not CSV: {error}.") from None
    if not text.strip():
        raise ConfigError(f"{path}: found nothing, expected the header {expected}.")


def _numbers(
    line: Sequence[str], where: str, expected: str, size: int
) -> tuple[float, ...]:
    try:
        numbers = tuple(float(one) for one in line)
    except ValueError:
        numbers = ()
    if len(numbers) != size or not all(0 <= n < 1e15 for n in numbers):
        raise ConfigError(
            f"{where}: found {','.join(line)[:60]!r}, expected {size} numbers from 0 on: "
            f"{expected}."
        )
    return numbers
