"""What it took to reach a target, of runs that were not asked for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from fedkd.metrics.base import Line
from fedkd.metrics.columns import Column
from fedkd.metrics.metric_set import MetricSet
from fedkd.metrics.targets import BytesTo, RoundsTo, TargetConfig
from fedkd.report.results import Row


def with_target(
    rows: Sequence[Row], lines_of: Callable[[Row], Sequence[Line]], target: float
) -> tuple[list[Row], tuple[Column, ...]]:
    """Return rows with the rounds and bytes to a global accuracy, and their columns.

    They are those that the metrics ``rounds_to`` and ``bytes_to`` would have measured.
    Rows that are not done, left no rounds, or have such a column stay as they are.

    Args:
        rows: What was run.
        lines_of: Returns the lines of a run's metrics.jsonl.
        target: Percent of global accuracy, from 0 to 100.

    Raises:
        ConfigError: If the target is not from 0 to 100.
    """
    config = TargetConfig(target=target)
    # Digits as in the labels of a suite, and of a small number without its exponent.
    digits = np.format_float_positional(float(f"{target:g}"), trim="-")
    end = digits.replace(".", "_")
    asked = {f"rounds_to_{end}": RoundsTo(config), f"bytes_to_{end}": BytesTo(config)}
    metrics = MetricSet(asked)
    found = []
    for row in rows:
        lines = lines_of(row) if row.status == "done" else ()
        # Lines of a damaged file are none, and say nothing of a target.
        values = metrics.of_rounds(lines) if lines else {}
        known = {
            name: value
            for name, value in values.items()
            if name in asked and not isinstance(value, list)
        }
        found.append(replace(row, metrics={**known, **row.metrics}))
    columns = [metrics.columns[name] for name in asked]
    return found, tuple(columns)
