"""Rows of ``results.csv``: one row a cell of a suite, in a fixed order of columns."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from fedkd.base.bounds import read_bytes
from fedkd.base.phases import PHASES
from fedkd.base.runname import RunName
from fedkd.base.shown import accuracy_facts, brief
from fedkd.base.sums import write_summed
from fedkd.errors import DataError, listing
from fedkd.report.rows.fields import CHOICES, is_axis, plain_text, value_of
from fedkd.simulation.faults.config import COUNTED

STATUSES = CHOICES["status"]
"""What can have become of a cell. Only ``done`` counts in a table."""


@dataclass(frozen=True)
class Row(RunName):
    """What became of one run. Fields are the columns, in their order, its name first.

    ``None`` stands for what was not measured, and is an empty field in the file.
    """

    status: str
    """``done``, ``failed``, ``skipped`` or ``diverged``."""
    reason: str = ""
    """Why it is not done: one line."""
    global_accuracy: float | None = None
    """Percent of the global test set, of the last round."""
    local_accuracy: float | None = None
    """Percent, mean over the clients on their own test shards, of the last round."""
    bytes_up: int | None = None
    """From all clients to the server, over the run."""
    bytes_down: int | None = None
    """From the server to all clients, over the run."""
    client_examples: int | None = None
    """Images that went through a training step on clients."""
    server_examples: int | None = None
    """Images that went through a training step on the server."""
    seconds: float | None = None
    seconds_local: float | None = None
    """With ``--profile``: in the clients' verb, without data and transport, summed over
    processes; so are the next two."""
    seconds_data: float | None = None
    """Making batches."""
    seconds_transport: float | None = None
    """Sealing and moving payloads."""
    seconds_server: float | None = None
    """In the server's verb."""
    seconds_evaluation: float | None = None
    """Measuring."""
    seconds_bookkeeping: float | None = None
    """Sampling clients, metrics, checkpoints, observers."""
    peak_memory_bytes: int | None = None
    split_hash: str = ""
    config_hash: str = ""
    run_id: str = ""
    precision: str = "fp32"
    """``fp32``, ``tf32`` or ``bf16``."""
    engine: str = ""
    """The executor that did the clients' turns; several, joined by ``+``, of a run that
    went on with another; empty of a run that did not end."""
    notes: str = ""
    """What is to be said of the data; see :func:`joined_notes`."""
    global_of: str = ""
    """``model`` where ``global_accuracy`` is that of a global model, ``clients`` where
    there is none and it is the mean over the clients' own; empty where a run did not end
    or results of an earlier version do not say."""
    metrics: Mapping[str, float | None] = field(default_factory=dict, hash=False)
    """What the suite measures beside accuracy: further columns, by name."""

    def __repr__(self) -> str:
        """Return what messages call the run, and what became of it."""
        known = (
            accuracy_facts(self.plain())[1] if self.status == "done" else self.status
        )
        return brief(self, self.title, known)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Row:
        """Return the row with values by column; those it does not know are metrics."""
        own = {name: value for name, value in values.items() if name in COLUMNS}
        rest = {name: value for name, value in values.items() if name not in own}
        axes = tuple((k, v) for k, v in rest.items() if is_axis(k) and v)
        metrics = {k: v for k, v in rest.items() if not is_axis(k)}
        return cls(**own, axes=axes, metrics=metrics)

    def plain(self) -> dict[str, Any]:
        """Return the values by column, those of metrics last."""
        axes = {name: value for name, value in self.axes if name not in COLUMNS}
        own = {name: getattr(self, name) for name in COLUMNS}
        return {**own, **axes, **self.metrics}

    def value(self, column: str) -> Any:
        """Return the value of a column; None if it is one of a metric not asked for."""
        if column in COLUMNS:
            return getattr(self, column)
        return dict(self.axes)[column] if is_axis(column) else self.metrics.get(column)


COLUMNS: tuple[str, ...] = tuple(
    one.name for one in fields(Row) if one.name not in ("axes", "metrics")
)
"""The columns of every ``results.csv``, in their order. Other tools rely on it; those of
axes of the grid come after them, and then those of metrics beside accuracy."""

_NOTE = " | "
LATER = frozenset(
    {
        *(f"seconds_{name}" for name in PHASES),
        "precision",
        "engine",
        "notes",
        "global_of",
    }
)
"""Columns that results of earlier versions lack; then they have their defaults."""
NOT_ASKED = "NA"
"""Stands in the file for a metric that a run was not asked for; what it was asked for and
is not defined is an empty field."""
COUNTS = frozenset({"rejected", *COUNTED})
"""Columns beside those of metrics that are there only where something was counted: answers
of clients that the server has left out, and clients that faults have hit."""
MOST_COLUMNS = 4096
"""More than all metrics together have; each is looked for in each row."""


def joined_notes(notes: Iterable[str]) -> str:
    """Return sentences as one field; :func:`notes_of` takes them apart."""
    return _NOTE.join(note.replace(_NOTE, " / ") for note in notes)


def notes_of(rows: Iterable[Row]) -> list[str]:
    """Return every different note on the data of some runs, with the data set's name."""
    lines = (
        f"{row.dataset}: {note}"
        for row in rows
        for note in filter(None, row.notes.split(_NOTE))
    )
    return list(dict.fromkeys(lines))


def write_results(rows: Iterable[Row], path: Path) -> None:
    """Write the text of :func:`csv_text` to ``path``, atomically and with a checksum."""
    write_summed(path, csv_text(rows))


def csv_text(rows: Iterable[Row]) -> str:
    """Return ``rows`` as CSV with a header; equal rows give equal text.

    Accuracies are rounded to 4 decimals, seconds to 3, other metrics to 6. Values that
    are missing or not finite are empty; of a metric that a run was not asked for it says
    :data:`NOT_ASKED`. Line breaks inside a reason become spaces.
    """
    every = list(rows)
    axes = (name for row in every for name, _ in row.axes if name not in COLUMNS)
    metrics = (name for row in every for name in row.metrics)
    header = [*COLUMNS, *dict.fromkeys([*axes, *metrics])]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for row in every:
        plain = row.plain()
        writer.writerow([_text(name, plain) for name in header])
    return text.getvalue()


def _text(name: str, plain: Mapping[str, Any]) -> str:
    if name not in plain and _may_be_unasked(name):
        return NOT_ASKED
    return plain_text(name, plain.get(name), COLUMNS)


def _may_be_unasked(name: str) -> bool:
    """Say whether a column is of a metric; a count that is not there is of nothing."""
    return name not in COLUMNS and name not in COUNTS and not is_axis(name)


def read_results(path: Path) -> list[Row]:
    """Read the rows that :func:`write_results` wrote, in this version or an earlier one.

    Raises:
        DataError: If the file is missing or damaged; names the file and the line, what
            was found there and what was expected.
    """
    try:
        text = read_bytes(path).decode("utf-8-sig")  # spreadsheets put a mark in front
    except FileNotFoundError:
        raise DataError(
            f"{path} does not exist; 'fedkd bench' writes it into its --out folder."
        ) from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: found bytes that are not UTF-8 ({error}).") from None
    if not text.strip():
        raise DataError(
            f"{path}: the file is empty, expected a header and a line a run. Run the bench "
            "again: finished cells are not run twice."
        )
    if not text.endswith("\n"):
        line = text.count("\n") + 1
        raise DataError(
            f"{path}:{line}: the file ends inside a line; it was cut short. Run the "
            "bench again: finished cells are not run twice."
        )
    return _parse(text, path)


def _parse(text: str, path: Path) -> list[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[Row] = []
    lines: dict[str, int] = {}
    try:
        header = next(reader)
        _check_header(header, path)
        for record in reader:
            row = _row(header, record, f"{path}:{reader.line_num}")
            if row.run_id in lines:
                raise DataError(
                    f"{path}:{reader.line_num}: run_id {row.run_id!r} is also on line "
                    f"{lines[row.run_id]}; expected one row a run. Remove one of them."
                )
            lines[row.run_id] = reader.line_num
            rows.append(row)
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: not CSV: {error}.") from None
    return rows


def _check_header(names: Sequence[str], path: Path) -> None:
    for mark, word in ((";", "semicolons"), ("\t", "tabs")):
        if len(names) == 1 and mark in names[0]:
            raise DataError(
                f"{path}:1: the columns are separated by {word}, expected commas; a "
                "spreadsheet saves it so as 'CSV UTF-8 (comma delimited)'."
            )
    if len(names) > MOST_COLUMNS:
        raise DataError(
            f"{path}:1: found {len(names):,} columns, expected at most {MOST_COLUMNS:,}."
        )
    missing = [name for name in COLUMNS if name not in (*names, *LATER)]
    known = [place for place, name in enumerate(names) if name in COLUMNS]
    # Those of metrics come last.
    extra = [name for name in names[: max(known, default=0)] if name not in COLUMNS]
    if missing:
        problem = f"column {listing(missing)} is missing"
    elif extra:
        problem = f"column {listing(map(repr, extra))} is unknown"
    elif len(set(names)) < len(names):
        problem = "a column is there twice"
    else:
        return
    expected = f"{','.join(COLUMNS)}, and then those of axes and metrics"
    raise DataError(f"{path}:1: {problem}; expected {expected}.")


def _row(header: Sequence[str], record: Sequence[str], where: str) -> Row:
    if len(record) != len(header):
        raise DataError(
            f"{where}: found {len(record)} fields, expected {len(header)}; the line "
            "is damaged."
        )
    return Row.of(
        {
            name: value_of(name, text, where, COLUMNS)
            for name, text in zip(header, record, strict=True)
            if text != NOT_ASKED or not _may_be_unasked(name)
        }
    )
