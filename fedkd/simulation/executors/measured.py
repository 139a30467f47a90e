"""Which executor was measured to be the faster one, on which devices, up to which size.

A row is written only for what was measured, by ``python benchmarks/gpu.py`` on an idle
device; its JSON under ``benchmarks/results/gpu`` is where a row's numbers come from. As
of now no GPU has been measured, so there is no row, and on a GPU ``auto`` is ``serial``.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Measurement:
    """On such a device, up to such a size, an executor was faster than ``serial``."""

    device: str
    """Pattern of the device's name, as torch gives it: ``NVIDIA A100*``."""
    engine: str
    """The executor."""
    parameters: int
    """The largest model it was measured faster on, in parameters."""
    batch: int
    """The largest batch it was measured faster on, in images."""
    ratio: float
    """Rounds in the time of one ``serial`` round, in the least favourable such case."""
    date: str
    """Of the measurement, ``YYYY-MM-DD``."""
    torch: str
    """The version of torch."""
    command: str
    """What was run."""


MEASUREMENTS: tuple[Measurement, ...] = ()
"""All that was measured on GPUs."""


def fastest(
    device: str,
    parameters: int,
    batch: int,
    rows: Sequence[Measurement] = MEASUREMENTS,
) -> str | None:
    """Return the executor to take on a device; None if nothing is known of it.

    Args:
        device: The device's name.
        parameters: Of the largest model that clients train.
        batch: Images in a step.
        rows: The measurements.

    Returns:
        The executor with the best ratio among those measured up to this size; ``serial``
        if the device was measured and none of them was.
    """
    known = [row for row in rows if fnmatch.fnmatchcase(device, row.device)]
    if not known:
        return None
    fit = [r for r in known if parameters <= r.parameters and batch <= r.batch]
    better = [row for row in fit if row.ratio > 1]
    return max(better, key=lambda row: row.ratio).engine if better else "serial"
