"""One field of a row: text to value and back, and what values a column may have."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from typing import Any

from fedkd.base.bounds import MOST
from fedkd.base.phases import PHASES
from fedkd.base.runname import AXIS_COLUMNS
from fedkd.errors import DataError, listing

WHOLE = frozenset({
    "clients", "rounds", "seed", "bytes_up", "bytes_down", "client_examples",
    "server_examples", "peak_memory_bytes",
})  # fmt: skip
"""Columns of whole numbers."""
DECIMALS = {
    "alpha": 12, "global_accuracy": 4, "local_accuracy": 4, "seconds": 3,
    **{f"seconds_{name}": 3 for name in PHASES},
}  # fmt: skip
"""Columns of other numbers, and the decimals that are written of them."""
REQUIRED = frozenset({
    "suite", "strategy", "dataset", "partition", "models", "clients", "rounds", "seed",
    "status", "run_id",
})  # fmt: skip
"""Columns that are never empty."""
CHOICES = {
    "status": ("done", "failed", "skipped", "diverged"),
    "precision": ("fp32", "tf32", "bf16"),
    "global_of": ("model", "clients", ""),
}
"""Columns with one of a few words."""
LEAST = {"clients": 1, "rounds": 1}
"""The smallest values of numbers that begin later than at 0."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
AS_WRITTEN = (
    "Was the file changed by hand? Put back what stood there, or run the bench again: "
    "finished cells are not run twice."
)


def is_axis(name: str) -> bool:
    """Say whether a column is an axis of the grid that no other column has."""
    return "." in name or name in AXIS_COLUMNS


def plain_text(name: str, value: Any, own: Collection[str]) -> str:
    """Return a value as text that does not depend on platform or locale.

    Args:
        name: The column.
        value: Its value; empty if it is None or not finite.
        own: The columns of every file; others are axes, or of metrics.
    """
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if name in WHOLE:
        return str(int(value))
    if name in DECIMALS:
        return repr(round(float(value), DECIMALS[name]))
    if name not in own and not is_axis(name):
        return repr(value if isinstance(value, int) else round(float(value), 6))
    return one_line(str(value))


def one_line(text: str) -> str:
    r"""Return a text in one line that no terminal obeys: an escape is shown as ``\x1b``."""
    plain = " ".join(text.split())
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", plain)


def value_of(name: str, text: str, where: str, own: Collection[str]) -> Any:
    """Return the typed value of a field.

    Args:
        name: The column.
        text: What stands in the file.
        where: The file and the line, for messages.
        own: As for :func:`plain_text`.

    Raises:
        DataError: If no such value can be in this column; names file, line and column,
            what was found and what was expected.
    """
    text = one_line(text)
    choices = CHOICES.get(name, ())
    if choices and text not in choices:
        words = listing(word or "nothing" for word in choices)
        raise DataError(f"{where}: {name}: found {text!r}, expected one of {words}.")
    is_number = not is_axis(name) and (
        name in WHOLE or name in DECIMALS or name not in own
    )
    if not text:
        if name in REQUIRED:
            raise DataError(
                f"{where}: {name}: found nothing, expected a value. {AS_WRITTEN}"
            )
        return None if is_number else ""
    return _number(name, text, where, own) if is_number else text


def _number(name: str, text: str, where: str, own: Collection[str]) -> float:
    """Return a number that is within the bounds of its column."""
    whole = name in WHOLE or (name not in own and text.isdecimal())
    try:
        number = int(text) if whole else float(text)
    except ValueError:
        number = math.nan
    low: float = LEAST.get(name, 0) if name in own else -math.inf
    # What a metric calls accuracy may have another unit than percent.
    is_percent = name in own and name.endswith("accuracy")
    high = 100 if is_percent else math.inf
    if abs(number) <= MOST and low <= number <= high:
        return number
    kind = "a whole number" if name in WHOLE else "a number"
    if is_percent:
        kind = "a percentage from 0 to 100"
    elif name in own:
        kind += f" from {low:g} on"
    raise DataError(f"{where}: {name}: found {text!r}, expected {kind}. {AS_WRITTEN}")
