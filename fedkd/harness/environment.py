"""Where a bench runs: versions, machine, device; and what a cell needs of memory."""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from fedkd._version import __version__
from fedkd.base.machine import cores
from fedkd.errors import ConfigError
from fedkd.plugins.registry import Registry
from fedkd.report.description import EARLIER, places_of
from fedkd.suite.grid import canonical

try:
    import resource
except ImportError:  # Windows has no such counters
    resource = None  # type: ignore[assignment]

THREADS = 1
"""Threads of every cell: sums in another order are other bits, so results must not
depend on how many cells run side by side."""

PLACES = 20
"""Places of earlier calls that are kept."""
_OF_A_CALL = ("started", "command", "jobs", "data_root")
"""What ``environment.json`` says of a call, which changes no result."""
_PACKAGES = (
    "torch", "torchvision", "numpy", "scipy", "scikit-learn", "pydantic", "pluggy",
    "safetensors",
)  # fmt: skip


def pick_device(name: str) -> torch.device:
    """Return the device that ``auto``, ``cpu``, ``cuda`` or ``cuda:1`` means.

    Raises:
        ConfigError: If there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()):
        raise ConfigError(
            f"--device: found {name!r}, expected auto, cpu, cuda or cuda:NUMBER."
        )
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"--device {name}: this machine offers {torch.cuda.device_count()} CUDA "
            "devices to torch; use --device cpu."
        )
    return torch.device(kind if kind == "cpu" else f"cuda:{number or 0}")


@contextlib.contextmanager
def reproducible(device: torch.device) -> Iterator[None]:
    """Inside the block, torch uses one thread and, on a GPU, deterministic kernels."""
    threads = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        if device.type == "cuda":
            with _deterministic_cuda():
                yield
        else:
            yield
    finally:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Inside the block, torch uses one thread, while data are read and checked too."""
    with reproducible(torch.device("cpu")):
        yield


@contextlib.contextmanager
def _deterministic_cuda() -> Iterator[None]:
    # cuBLAS reads this when it starts; with it, its sums have one order.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    was = torch.are_deterministic_algorithms_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Filling every fresh tensor with NaN costs time and changes no result of ours.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        with torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=False
        ):
            yield
    finally:
        torch.use_deterministic_algorithms(was)
        torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]


def reset_peak_memory(device: torch.device) -> None:
    """Start a new measurement for :func:`peak_memory`, where the platform can."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory(device: torch.device) -> int | None:
    """Return the most memory in bytes since :func:`reset_peak_memory`.

    On a GPU what torch has allocated there; else the resident memory of this process.
    Off Linux the latter counts from the start of the process. None where unknown.
    """
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if resource is None:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def machine(device: torch.device) -> dict[str, Any]:
    """Return what speed and bits of a run hang on: processor, cores, threads, device."""
    return {
        # One model's vector instructions may be hidden from a virtual machine, and
        # others sum in another order.
        "cpu": f"{_cpu()}, {torch.backends.cpu.get_cpu_capability()}",
        "cores": cores(),
        "threads_per_cell": THREADS,
        "device": str(device),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
    }


def describe(
    registry: Registry, device: torch.device, jobs: int, command: Sequence[str]
) -> dict[str, Any]:
    """Return what ``environment.json`` holds."""
    return {
        "fedkd": __version__,
        "commit": commit(),
        "started": datetime.datetime.now(datetime.timezone.utc).isoformat(
            "T", "seconds"
        ),
        "command": list(command),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "platform": platform.platform(),
        **machine(device),
        "jobs": jobs,
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "plugins": [
            {
                "name": plugin.name,
                "distribution": plugin.distribution,
                "version": plugin.version,
                "status": plugin.status,
            }
            for plugin in registry.plugins
        ],
    }


def with_earlier(
    place: Mapping[str, Any], before: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return what ``environment.json`` holds in a folder with runs of earlier calls.

    Args:
        place: Where the call runs, as :func:`describe` says it.
        before: What the file held before it; None without runs of earlier calls.
    """
    places = {} if before is None else {_kind(one): one for one in places_of(before)}
    places.pop(_kind(place), None)
    earlier = list(places.values())[-PLACES:]
    return {**place, **({EARLIER: earlier} if earlier else {})}


def _kind(place: Mapping[str, Any]) -> str:
    """Return what of a place may change results, as one text."""
    return canonical({k: v for k, v in place.items() if k not in _OF_A_CALL})


def commit() -> str | None:
    """Return the git commit that fedkd itself runs from, ``-dirty`` if changed.

    None if fedkd is installed from a package.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        head = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{head}-dirty" if changed else head


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    )
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
