"""``stages.csv`` of recorded results: what each run measured and logged last.

The table of what each stage did is made of it, over all seeds, also of runs whose own
folders are no longer there.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from fedkd.metrics.base import Line
from fedkd.report.results import Row
from fedkd.report.stages import MEASURED, last_values

NAME = "stages.csv"
HEADER = ("run_id", "what", "value", "round")


def read_stages(folder: Path) -> dict[str, list[Line]]:
    """Return lines as those of ``metrics.jsonl``, by ``run_id``; none without the file.

    Args:
        folder: Of ``benchmarks/results``.
    """
    path = folder / NAME
    lines: dict[str, list[Line]] = {}
    if not path.is_file():
        return lines
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            what, value = row["what"], float(row["value"])
            measured = what.startswith(MEASURED)
            kind = "measured" if measured else "logged"
            said = {what.removeprefix(MEASURED): value}
            lines.setdefault(row["run_id"], []).append(
                {"round": int(row["round"]), kind: said}
            )
    return lines


def write_stages(
    folder: Path, rows: Sequence[Row], lines: Mapping[str, Sequence[Line]]
) -> None:
    """Write the last values of runs.

    Args:
        folder: Of ``benchmarks/results``.
        rows: The recorded runs.
        lines: Of their ``metrics.jsonl``, by ``run_id``.
    """
    body = [
        (row.run_id, what, format(last.value, ".6g"), last.round)
        for row in rows
        for what, last in last_values(lines.get(row.run_id, ())).items()
    ]
    with (folder / NAME).open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([HEADER, *body])
