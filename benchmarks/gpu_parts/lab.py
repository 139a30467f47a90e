"""Where and how large to measure, and how contestants take turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from gpu_parts.works import TINY, WORKS, Work

from fedkd.simulation.precision import Precision


@dataclass(frozen=True)
class Lab:
    """Where and how large."""

    device: torch.device
    tiny: bool
    ends: float
    """On the monotonic clock."""
    runs: Path
    data: Path

    @property
    def works(self) -> tuple[Work, ...]:
        """What is trained."""
        return TINY if self.tiny else WORKS

    @property
    def repeats(self) -> int:
        """Rounds of each contestant."""
        return 2 if self.tiny else 7

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """Those that the device has."""
        return (
            ("fp32", "bf16") if self.device.type == "cpu" else ("fp32", "tf32", "bf16")
        )

    def finish(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self.ends - time.monotonic()


def interleaved(
    calls: Mapping[str, Callable[[], object]], lab: Lab
) -> dict[str, list[float]]:
    """Return seconds of each contestant's calls, which take turns after two warm-ups."""
    durations: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in range(lab.repeats + 2):
        for name, call in calls.items():
            lab.finish()
            started = time.perf_counter()
            call()
            lab.finish()
            if repeat >= 2:
                durations[name].append(time.perf_counter() - started)
    return durations
