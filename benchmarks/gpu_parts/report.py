"""What is written down: where it was measured, each part, rows for ``auto``."""

from __future__ import annotations

import datetime
import platform
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from gpu_parts.works import ENGINES, REGISTRY

from fedkd._version import __version__
from fedkd.base.files import write_json_atomic
from fedkd.engines.measured import Measurement
from fedkd.harness.environment import commit


@dataclass
class Report:
    """What is known so far, on its way to the file."""

    path: Path
    about: Mapping[str, Any]
    parts: dict[str, Any] = field(default_factory=dict)

    def keep(self, name: str, outcome: Any) -> None:
        """Add a part and write the file."""
        self.parts[name] = outcome
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomic({"about": self.about, **self.parts}, self.path)


def about(device: torch.device, tiny: bool) -> dict[str, Any]:
    """Return where this is measured, and by what."""
    facts: dict[str, Any] = {
        "command": shlex.join(["python", *sys.argv]),
        "dry_run": tiny or device.type == "cpu",
        "started": datetime.datetime.now(datetime.timezone.utc).isoformat(
            "T", "seconds"
        ),
        "fedkd": __version__,
        "commit": commit(),
        "device": name_of(device),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "platform": platform.platform(),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts["cudnn"] = torch.backends.cudnn.version()
        facts["memory_bytes"] = properties.total_memory
        facts["multiprocessors"] = properties.multi_processor_count
        facts["capability"] = list(torch.cuda.get_device_capability(device))
    return facts


def name_of(device: torch.device) -> str:
    """Return what a device is called."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def fastest_engine(measured: Mapping[str, Any], work: str) -> str:
    """Return the engine with the shortest round in float32; ``serial`` if unknown."""
    medians = measured.get(work, {}).get("median", {})
    known = [engine for engine in ENGINES if f"{engine} fp32" in medians]
    return min(known, key=lambda e: float(medians[f"{e} fp32"]), default="serial")


def rows_for_auto(report: Report) -> list[Measurement]:
    """Return what ``fedkd/engines/measured.py`` can say of this device.

    Only engines that agreed with ``serial`` in every comparison. Without comparisons, and
    if ``serial`` itself disagreed with what it is compared with, there are no rows.
    """
    info, right = report.about, _right(report.parts.get("parity", []))
    rows = []
    for timed in report.parts.get("rounds", {}).values():
        work, medians = timed["work"], timed["median"]
        build = REGISTRY.model(work["model"])
        model = build(tuple(work["shape"]), 10, **work["options"])
        for engine in ENGINES[1:]:
            if engine in right and f"{engine} fp32" in medians:
                ratio = medians["serial fp32"] / medians[f"{engine} fp32"]
                rows.append(
                    Measurement(
                        info["device"],
                        engine,
                        sum(p.numel() for p in model.parameters()),
                        work["batch"],
                        round(ratio, 2),
                        info["started"][:10],
                        info["torch"],
                        info["command"],
                    )
                )
    return rows


def _right(parity: Any) -> set[str]:
    """Return the engines that agreed with ``serial`` wherever they were compared."""
    if not isinstance(parity, list):  # the part broke
        return set()
    compared = {row["what"].partition(",")[0] for row in parity}
    failed = [row["what"] for row in parity if not row["ok"]]
    if any(what.startswith("serial") for what in failed):
        return set()
    return compared - {what.partition(",")[0] for what in failed}
