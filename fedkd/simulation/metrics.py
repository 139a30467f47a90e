"""The file ``metrics.jsonl`` of a run: one line a round."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedkd.base.files import write_atomic
from fedkd.base.folders import RunFolder
from fedkd.errors import DataError


def append(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Add the line of a round."""
    with RunFolder(folder).metrics.open("a", encoding="utf-8") as file:
        file.write(json.dumps(metrics) + "\n")


def truncate(folder: Path, rounds: int) -> None:
    """Keep the lines of the first ``rounds`` rounds: later ones will be run again."""
    path = RunFolder(folder).metrics
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)[:rounds]
        write_atomic(path, "".join(lines))


def read_metrics(folder: RunFolder) -> list[dict[str, Any]]:
    """Read the lines of a run, in the order of rounds; none if it left no file.

    A last line that was cut short, by a crash in the middle of writing, is left out.

    Raises:
        DataError: If another line is damaged; names the file and the line.
    """
    path = folder.metrics
    if not path.is_file():
        return []
    text = path.read_bytes().decode(errors="replace")
    whole = text.splitlines() if text.endswith("\n") else text.splitlines()[:-1]
    lines: list[dict[str, Any]] = []
    for number, line in enumerate(whole, start=1):
        try:
            metrics = json.loads(line)
        except ValueError as error:
            raise DataError(f"{path}:{number}: not JSON: {error}.") from None
        if not isinstance(metrics, dict) or not isinstance(metrics.get("round"), int):
            raise DataError(
                f"{path}:{number}: expected an object with a whole number 'round'; the "
                "line is damaged."
            )
        lines.append(metrics)
    return lines
