"""The file ``metrics.jsonl`` of a run: one line a round."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fedkd.base.bounds import MOST, opened, parse_json, read_bytes
from fedkd.base.files import write_atomic
from fedkd.base.folders import RunFolder
from fedkd.base.sealed import LARGEST_METRICS
from fedkd.errors import DataError
from fedkd.metrics.metric_set import BY_CLIENT

_MAPPING = (dict,)
_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("measured", "logged", "clients", "phases", "faults"), _MAPPING),
    "global_of": (str,),
}
"""What a line has under a key, if it has anything there."""
_USUAL = (int, float, list)
"""What a line has under any other key; in a list is a number, or nothing, of each class.
No number is infinite or none at all: JSON has no such, and a page could draw nothing."""
_COUNTS = ("bytes_up", "bytes_down", "client_examples")
"""What every round that was measured has: curves and targets are made of them."""
_ACCURACY = "global_accuracy"
"""What every round has that was measured."""


def append(folder: Path, metrics: Mapping[str, Any]) -> None:
    """Add the line of a round."""
    with RunFolder(folder).metrics.open("a", encoding="utf-8") as file:
        file.write(json.dumps(metrics) + "\n")


def truncate(folder: Path, rounds: int) -> None:
    """Keep the lines of the first ``rounds`` rounds: later ones will be run again."""
    path = RunFolder(folder).metrics
    if path.exists():
        lines = read_bytes(path, LARGEST_METRICS).splitlines(keepends=True)[:rounds]
        write_atomic(path, b"".join(lines))


def fixed(folder: Path, rounds: int) -> str:
    """Force the lines to the disk; return a checksum of those of the first rounds.

    Empty if there are fewer lines than rounds, or no file.
    """
    try:
        with opened(RunFolder(folder).metrics) as file:
            os.fsync(file.fileno())
        text = read_bytes(RunFolder(folder).metrics, LARGEST_METRICS)
        lines = text.splitlines(keepends=True)[:rounds]
    except FileNotFoundError:
        return ""
    return hashlib.sha256(b"".join(lines)).hexdigest() if len(lines) == rounds else ""


def metrics_or_none(folder: RunFolder) -> list[dict[str, Any]]:
    """Read the lines of a run as :func:`read_metrics`; none if a line is damaged.

    That is a warning: what other runs left is shown all the same.
    """
    try:
        return read_metrics(folder)
    except DataError as error:
        text = f"{error} The run is shown without its rounds."
        warnings.warn(text, RuntimeWarning, stacklevel=2)
        return []


def read_metrics(folder: RunFolder) -> list[dict[str, Any]]:
    """Read the lines of a run, in the order of rounds; none if it left no file.

    A last line that was cut short, by a crash in the middle of writing, is left out.

    Raises:
        DataError: If another line is damaged; names the file and the line.
    """
    path = folder.metrics
    if not path.is_file():
        return []
    text = read_bytes(path, LARGEST_METRICS).decode(errors="replace")
    whole = text.splitlines() if text.endswith("\n") else text.splitlines()[:-1]
    lines: list[dict[str, Any]] = []
    for number, line in enumerate(whole, start=1):
        try:
            metrics = parse_json(line)
        except ValueError as error:
            raise DataError(f"{path}:{number}: not JSON: {error}.") from None
        if not isinstance(metrics, dict) or type(metrics.get("round")) is not int:
            raise DataError(
                f"{path}:{number}: expected an object with a whole number 'round'; the "
                "line is damaged."
            )
        if odd := _odd(metrics):
            what = f"{odd!r} of another kind than rounds have"
            found = what if odd in metrics else f"a measured round without {odd!r}"
            raise DataError(f"{path}:{number}: found {found}; the line is damaged.")
        lines.append(metrics)
    return lines


def _odd(metrics: Mapping[str, Any]) -> str:
    """Return the first key of a line whose value is of no kind that it can have."""
    for key, value in metrics.items():
        is_of_each = key.endswith(BY_CLIENT)
        kinds = _KINDS.get(key, _MAPPING if is_of_each else _USUAL)
        if value is not None and not isinstance(value, kinds):
            return key
        if (is_of_each or key not in _KINDS) and not all(map(_is_told, _each(value))):
            return key
    least = None if metrics.get(_ACCURACY) is not None else 0
    missing = (key for key in _COUNTS if type(metrics.get(key, least)) is not int)
    clients = (metrics.get("clients") or {}).values()
    odd = not all(isinstance(one, dict) for one in clients)
    return next(missing, "clients" if odd else "")


def _each(value: Any) -> Iterable[object]:
    """Return the values in one of a line: of classes, of clients, or itself."""
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else [value]


def _is_told(value: object) -> bool:
    """Say whether a value is a number that can be drawn, or nothing."""
    if value is None:
        return True
    return isinstance(value, int | float) and abs(value) <= MOST
