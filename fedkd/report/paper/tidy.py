"""Results in long form: one line a run and metric, for data frames and plotting tools."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any

from fedkd.base.phases import PHASES
from fedkd.metrics.columns import Column
from fedkd.report.grouping import GLOBAL, LOCAL
from fedkd.report.results import COLUMNS, Row
from fedkd.report.rows.fields import is_axis, plain_text

COSTS = {
    "bytes_up": "bytes", "bytes_down": "bytes", "client_examples": "images",
    "server_examples": "images", "seconds": "s",
    **{f"seconds_{name}": "s" for name in PHASES}, "peak_memory_bytes": "bytes",
}  # fmt: skip
"""Units of what a run costs; these are metrics here, too."""
RUN = (
    "suite", "dataset", "partition", "alpha", "models", "clients", "strategy", "seed",
    "precision", "status",
)  # fmt: skip
VALUE = ("round", "metric", "value", "unit", "run_id")


def tidy_text(rows: Sequence[Row], columns: Sequence[Column] = ()) -> str:
    """Return CSV with one line a run and metric, of the run's last round.

    Columns are what the run is called (axes of the grid included), its status, and then
    ``round``, ``metric``, ``value``, ``unit`` and ``run_id``. Accuracies are there of
    every run, with no value where it has none; other metrics of the runs that were asked
    for them, costs of those that know them.

    Args:
        rows: All runs.
        columns: Of metrics beside accuracy, which say their units.
    """
    units = {column.name: column.unit for column in (GLOBAL, LOCAL, *columns)} | COSTS
    axes = [name for row in rows for name, _ in row.axes if name not in COLUMNS]
    names = [*RUN, *dict.fromkeys(axes)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*names, *VALUE])
    for row in rows:
        known = row.plain()
        start = [plain_text(name, known.get(name), COLUMNS) for name in names]
        for metric, value in _values(row):
            shown = plain_text(metric, value, COLUMNS)
            unit = units.get(metric, "")
            writer.writerow([*start, row.rounds, metric, shown, unit, row.run_id])
    return text.getvalue()


def _values(row: Row) -> Iterator[tuple[str, Any]]:
    """Yield the metrics of a run by name; None where one has no value."""
    for column in (GLOBAL, LOCAL):
        yield column.name, row.value(column.name)
    yield from ((name, v) for name, v in row.metrics.items() if not is_axis(name))
    costs = ((name, row.value(name)) for name in COSTS)
    yield from ((name, value) for name, value in costs if value is not None)
