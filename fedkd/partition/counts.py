"""A split that is given: a client x class table in a CSV file."""

from __future__ import annotations

import csv
import hashlib
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import field_validator

from fedkd.base.bounds import read_bytes
from fedkd.base.files import spelled
from fedkd.errors import BoundsError, ConfigError, counted, listing
from fedkd.partition.base import (
    LEFT_OUT,
    Indices,
    Partition,
    Partitioner,
    SplitConfig,
    Table,
    check_demand,
    class_pools,
    deal,
)
from fedkd.partition.table import are_numbers, lines_of

LARGEST = 16 << 20
"""Bytes of a file."""
_DIGITS = 15
"""Most digits of a number; none is as large that is true."""
_EXPECTED = "a CSV file as 'fedkd partition --csv' writes it"


class CountsConfig(SplitConfig):
    """Options of ``counts``."""

    file: str
    """CSV file with the header ``client,<class>,...`` and a line for each client, as
    'fedkd partition --csv' writes it; relative to the current folder. A column is of the
    class that its heading names, by its name or its number. A file that changes makes
    other runs."""

    @field_validator("file")
    @classmethod
    def _spelled_once(cls, file: str) -> str:
        return spelled(file)


class Counts(Partitioner):
    """A published split, reproduced from its client x class table.

    Which samples of a class a client gets is random; how many, the table says. Samples
    that the table does not ask for are left out. ``counts:FILE`` is short for it.
    """

    Config = CountsConfig
    argument = "file"

    def split(
        self, labels: Indices, clients: int, num_classes: int, rng: np.random.Generator
    ) -> Partition:
        """See :meth:`Partitioner.split`."""
        check_demand(labels, clients, num_classes)
        path = self._path()
        counts = read_table(path, num_classes, self.classes)
        if len(counts) != clients:
            raise ConfigError(
                f"{path}: found {counted(len(counts), 'client')}, expected {clients}. "
                "Set the "
                f"number of clients to {len(counts)}, or choose another file."
            )
        random = self.config.stream(rng)
        pools = class_pools(labels, num_classes, random)
        there = np.array([len(pool) for pool in pools])
        _check_supply(path, counts, there)
        rest = len(labels) - int(counts.sum())
        notes = [f"{LEFT_OUT}{rest} of {len(labels)} samples are in no client's row"]
        dealt = deal(pools, counts, random)
        return Partition.of(dealt, labels, num_classes, notes if rest else ())

    def content(self) -> str:
        """See :meth:`Partitioner.content`; the first 16 digits of a SHA-256."""
        return hashlib.sha256(_text(self._path()).encode()).hexdigest()[:16]

    def _path(self) -> Path:
        return Path(self.config.file).expanduser()


def read_table(path: Path, num_classes: int, classes: Sequence[str] = ()) -> Table:
    """Read a client x class table, int64 ``[K, C]``.

    Args:
        path: The file.
        num_classes: C, the number of classes.
        classes: Their names. Where they are not known, headings that are no class
            numbers must be as many, and are taken in the order of the classes.

    Raises:
        ConfigError: If it cannot be read; names the file and the line.
    """
    try:
        rows = list(lines_of(_text(path)))
    except csv.Error as error:
        raise ConfigError(f"{path}: {error}; expected {_EXPECTED}.") from None
    where, header = rows[0] if rows else (1, [])
    columns = _columns(f"{path}:{where}", header, num_classes, classes)
    clients: dict[int, Table] = {}
    for number, row in rows[1:]:
        where_row = f"{path}:{number}"
        client, values = _row(where_row, row, len(header))
        if client in clients:
            raise ConfigError(f"{where_row}: client {client} is there twice; keep one.")
        clients[client] = np.zeros(num_classes, np.int64)
        clients[client][columns] = values
    if sorted(clients) != list(range(len(clients))) or not clients:
        raise ConfigError(
            f"{path}: found clients {listing(map(str, sorted(clients))) or 'none'}; "
            "expected 0, 1, 2, ... without a gap."
        )
    return np.stack([clients[client] for client in range(len(clients))])


def _text(path: Path) -> str:
    try:
        # Bytes, because a quoted name may hold the end of a line.
        return read_bytes(path, LARGEST).decode("utf-8-sig")
    except BoundsError as error:
        raise ConfigError(f"{error} Expected {_EXPECTED}.") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text in UTF-8"
        raise ConfigError(f"{path}: {reason}; expected {_EXPECTED}.") from None


def _columns(
    where: str, header: Sequence[str], num_classes: int, classes: Sequence[str]
) -> list[int]:
    """Return the class of each column after the first."""
    names = [_composed(name) for name in header[1:]]
    if not names or header[0].strip() != "client":
        raise ConfigError(
            f"{where}: found the header {','.join(header)!r}, expected "
            "'client,<class>,...'."
        )
    if are_numbers(names):
        columns = [int(name) for name in names]
        if max(columns) >= num_classes or len(set(columns)) < len(columns):
            raise ConfigError(
                f"{where}: found classes {listing(names)}; expected each of 0 to "
                f"{num_classes - 1} at most once."
            )
        return columns
    if classes:
        return _by_name(where, names, classes)
    if len(names) != num_classes:
        raise ConfigError(
            f"{where}: found {counted(len(names), 'class')}, expected "
            f"{num_classes}: a column for "
            "each class of the data set."
        )
    return list(range(num_classes))


def _by_name(where: str, names: Sequence[str], classes: Sequence[str]) -> list[int]:
    """Return the classes that headings name, as :func:`table_text` writes them."""
    number = {f"{c}: {_composed(name)}": c for c, name in enumerate(classes)}
    number |= {_composed(name): c for c, name in enumerate(classes)}
    unknown = [name for name in names if name not in number]
    if unknown:
        raise ConfigError(
            f"{where}: found the heading {unknown[0]!r}, which is no class of the data "
            f"set; expected names of {listing(classes)}, or numbers from 0."
        )
    columns = [number[name] for name in names]
    if len(set(columns)) < len(columns):
        twice = next(n for n in names if columns.count(number[n]) > 1)
        raise ConfigError(f"{where}: the class {twice!r} is there twice; keep one.")
    return columns


def _composed(heading: str) -> str:
    """Return a heading as it looks, however its accents are encoded."""
    return unicodedata.normalize("NFC", heading.strip())


def _row(where: str, row: Sequence[str], length: int) -> tuple[int, list[int]]:
    """Return the client of a line and its numbers."""
    texts = [text.strip() for text in row]
    if len(texts) != length:
        raise ConfigError(
            f"{where}: found {counted(len(texts), 'value')}, expected {length}."
        )
    for text in texts:
        # Not isdigit: it takes superscripts, which int refuses.
        if not (text.isascii() and text.isdecimal() and len(text) <= _DIGITS):
            raise ConfigError(
                f"{where}: found {text!r}, expected a whole number from 0 on."
            )
    client, *values = map(int, texts)
    if not sum(values):
        raise ConfigError(
            f"{where}: client {client} has no samples; expected at least 1. Remove the "
            "client or give it some."
        )
    return client, values


def _check_supply(path: Path, counts: Table, there: Indices) -> None:
    wanted = counts.sum(0)
    short = np.flatnonzero(wanted > there)
    if len(short):
        label = short[0]
        raise ConfigError(
            f"{path}: the clients want {wanted[label]} samples of class {label}; the data "
            f"has {there[label]}. Lower the numbers of class {label}."
        )
