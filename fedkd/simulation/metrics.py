"""The file ``metrics.jsonl`` of a run: one line a round."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedkd.base.files import write_atomic

NAME = "metrics.jsonl"


def append(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Add the line of a round."""
    with (folder / NAME).open("a", encoding="utf-8") as file:
        file.write(json.dumps(metrics) + "\n")


def truncate(folder: Path, rounds: int) -> None:
    """Keep the lines of the first ``rounds`` rounds: later ones will be run again."""
    path = folder / NAME
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)[:rounds]
        write_atomic(path, "".join(lines))


def last_line(folder: Path | None) -> dict[str, Any]:
    """Return the metrics of the last round."""
    assert folder is not None, "a run without a folder has run its rounds here"
    lines = (folder / NAME).read_text(encoding="utf-8").splitlines()
    return dict(json.loads(lines[-1]))
