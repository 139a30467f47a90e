"""Whether every engine, precision and the CPU train the same clients alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from gpu_parts.lab import Lab
from gpu_parts.works import ENGINES, REGISTRY, Work, federation_of, protocol_of
from torch import Tensor

from fedkd.harness.environment import reproducible
from fedkd.simulation.precision import Precision
from fedkd.simulation.sides import Sides
from fedkd.simulation.simulator import simulate

TOLERANCES = {
    "repeated": 1e-3,
    "graphs": 2e-3,
    "stacked": 1e-2,
    "cpu": 1e-2,
    "tf32": 5e-2,
    "bf16": 0.2,
}
"""Largest ||w - r|| / ||r - w0||: the difference of two engines' weights over the way that
training went in one round; times ``Work.loose``, at most 0.5. An engine's is for ``serial``
in the same precision, a precision's for ``serial`` in float32. ``repeated`` is ``serial``
once more. They were chosen before any GPU was measured."""
OTHER_KERNELS = ("stacked",)
"""Engines that add up in another order than ``serial``. In bf16 two such orders
differ by as much as bf16 from float32: on a CPU 0.047 and 0.054 (small CNN, 4 steps). Below
float32 the larger of both tolerances holds."""
SERIAL = ENGINES[0]


def compare(lab: Lab) -> list[dict[str, Any]]:
    """Return, for each comparison, the difference, the tolerance and whether it holds."""
    rows = []
    for work in lab.works:
        # On the CPU a step of ResNet-18 takes seconds.
        few = replace(work, clients=2, steps=min(work.steps, 4), images=4 * work.batch)
        for momentum in (0.0, 0.9):
            rows += _rows(few, momentum, lab)
    for row in rows:
        verdict = "ok  " if row["ok"] else "FAIL"
        print(
            f"  {verdict} {row['work']}, momentum {row['momentum']:g}: "
            f"{row['what']:18} against {row['against']:12} "
            f"{row['difference']:.2e} (at most {row['tolerance']:.0e})"
        )
    return rows


def _rows(work: Work, momentum: float, lab: Lab) -> list[dict[str, Any]]:
    start = _start(work, lab.device)
    serial = {
        precision: _trained(work, momentum, lab.device, SERIAL, precision)
        for precision in lab.precisions
    }
    rows = []
    for one in _compared(work, momentum, lab, serial):
        reference = serial[one.against]
        way = float((reference - start).norm())
        difference = float((one.weights - reference).norm()) / way
        tolerance = min(0.5, one.tolerance * work.loose)
        rows.append(
            {
                "work": work.name,
                "momentum": momentum,
                "clients": work.clients,
                "steps": work.steps,
                "what": one.what,
                "against": f"{SERIAL}, {one.against}",
                "difference": difference,
                "tolerance": tolerance,
                # A NaN is no number below the tolerance.
                "ok": difference <= tolerance,
            }
        )
    return rows


@dataclass(frozen=True)
class _Compared:
    """Weights that are held against those of ``serial``."""

    what: str
    tolerance: float
    weights: Tensor
    against: Precision = "fp32"
    """Of ``serial``."""


def _compared(
    work: Work, momentum: float, lab: Lab, serial: Mapping[Precision, Tensor]
) -> Iterator[_Compared]:
    """Yield the same once more, the CPU's, each precision's, and each engine's in each."""
    device, limits = lab.device, TOLERANCES
    again, other = (_trained(work, momentum, d) for d in (device, torch.device("cpu")))
    yield _Compared("serial again", limits["repeated"], again)
    yield _Compared("serial on the CPU", limits["cpu"], other)
    for precision, weights in serial.items():
        if precision != "fp32":
            yield _Compared(f"{SERIAL}, {precision}", limits[precision], weights)
        for engine in ENGINES[1:]:
            own = _trained(work, momentum, device, engine, precision)
            limit = limits[engine]
            if engine in OTHER_KERNELS:
                limit = max(limit, limits.get(precision, 0.0))
            yield _Compared(f"{engine}, {precision}", limit, own, precision)


def _start(work: Work, device: torch.device) -> Tensor:
    """Return the weights before the first round."""
    strategy, _ = REGISTRY.strategy("fedavg", {})
    fp32 = protocol_of(work, 1, "fp32")
    sides = Sides(federation_of(work, device), fp32, 0)
    return _vector(strategy.init(sides.server()).weights)


def _trained(
    work: Work,
    momentum: float,
    device: torch.device,
    engine: str = "serial",
    precision: Precision = "fp32",
) -> Tensor:
    """Return the weights after one round."""
    strategy, _ = REGISTRY.strategy("fedavg", {})
    protocol = protocol_of(work, 1, precision, momentum=momentum)
    with reproducible(device):
        federation = federation_of(work, device)
        done = simulate(
            strategy, federation, protocol, 0, executor=REGISTRY.executor(engine)
        )
    return _vector(done.state.weights)


def _vector(weights: Mapping[str, Tensor]) -> Tensor:
    floats = [v for v in weights.values() if v.is_floating_point()]
    return torch.cat([v.double().flatten() for v in floats])
