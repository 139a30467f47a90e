"""How much faster executors were measured to be, on which devices, up to which size.

A row is written only for what was measured, by ``python benchmarks/gpu.py`` on an idle
device; its JSON under ``benchmarks/results/gpu`` is where a row's numbers come from. As
of now no GPU has been measured, so there is no row, and on a GPU ``auto`` is ``serial``.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from fedkd.simulation.turns import Turns


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


def measured_speed(engine: str, turns: Turns) -> float | None:
    """Return how many times as fast as ``serial`` an executor does a run, as measured.

    Args:
        engine: The executor.
        turns: The turns of the run.

    Returns:
        As :func:`ratio`; None on a CPU, where no executor is measured.
    """
    device = turns.sides.federation.device
    if device.type != "cuda":
        return None
    batch = turns.sides.protocol.training.batch_size
    return ratio(
        engine, torch.cuda.get_device_name(device), turns.sides.largest(), batch
    )


def ratio(
    engine: str,
    device: str,
    parameters: int,
    batch: int,
    rows: Sequence[Measurement] = MEASUREMENTS,
) -> float | None:
    """Return how many times as fast as ``serial`` an executor is on a device.

    Args:
        engine: The executor.
        device: The device's name.
        parameters: Of the largest model that clients train.
        batch: Images in a step.
        rows: The measurements.

    Returns:
        The best ratio measured up to this size; 1 if the device was measured and the
        executor was not faster there; None if nothing is known of the device.
    """
    known = [row for row in rows if fnmatch.fnmatchcase(device, row.device)]
    own = [row for row in known if row.engine == engine]
    fit = [r.ratio for r in own if parameters <= r.parameters and batch <= r.batch]
    return max([1.0, *fit]) if known else None
