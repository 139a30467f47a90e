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


def read(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of the rounds that were run; none without a file.

    Raises:
        DataError: If a line is damaged.
    """
    path = RunFolder(folder).metrics
    lines = path.read_text("utf-8").splitlines() if path.exists() else []
    try:
        return [json.loads(line) for line in lines]
    except ValueError as error:
        raise DataError(
            f"{path}: a line is not JSON ({error}). Delete the folder, so that the run "
            "starts anew."
        ) from None
