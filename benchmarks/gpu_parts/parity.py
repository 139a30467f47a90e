"""Whether every engine, precision and the CPU train the same clients alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fedkd.environment import reproducible
from fedkd.executors import Choice
from fedkd.parties import Parties
from fedkd.precision import Precision
from fedkd.simulator import simulate
from gpu_parts.lab import Lab
from gpu_parts.works import ENGINES, REGISTRY, Work, federation_of, protocol_of

TOLERANCES = {
    "repeated": 1e-3,
    "graphs": 2e-3,
    "stacked": 1e-2,
    "cpu": 1e-2,
    "tf32": 5e-2,
    "bf16": 0.2,
}
"""Largest ||w - r|| / ||r - w0||: the difference of two engines' weights over the way that
training went in one round; times ``Work.loose``, at most 0.5. ``repeated`` is ``serial``
once more. They were chosen before any GPU was measured."""


def compare(lab: Lab) -> list[dict[str, Any]]:
    """Return, for each comparison, the difference, the tolerance and whether it holds."""
    found = []
    for work in lab.works:
        # On the CPU a step of ResNet-18 takes seconds.
        few = replace(work, clients=2, steps=min(work.steps, 4), images=4 * work.batch)
        for momentum in (0.0, 0.9):
            found += _rows(few, momentum, lab)
    for row in found:
        verdict = "ok  " if row["ok"] else "FAIL"
        print(
            f"  {verdict} {row['work']}, momentum {row['momentum']:g}: {row['what']:28} "
            f"{row['difference']:.2e} (at most {row['tolerance']:.0e})"
        )
    return found


def _rows(work: Work, momentum: float, lab: Lab) -> list[dict[str, Any]]:
    plain = _trained(work, momentum, lab.device)
    way = float((plain - _start(work, lab.device)).norm())
    rows = []
    for what, (kind, other) in _others(work, momentum, lab).items():
        difference = float((other - plain).norm()) / way
        tolerance = min(0.5, TOLERANCES[kind] * work.loose)
        rows.append(
            {
                "work": work.name,
                "momentum": momentum,
                "clients": work.clients,
                "steps": work.steps,
                "what": what,
                "against": "serial, fp32",
                "difference": difference,
                "tolerance": tolerance,
                # A NaN is no number below the tolerance.
                "ok": difference <= tolerance,
            }
        )
    return rows


def _others(work: Work, momentum: float, lab: Lab) -> dict[str, tuple[str, Tensor]]:
    """Return what is compared: the name of its tolerance, and its weights."""
    device = lab.device
    found = {
        "serial again": ("repeated", _trained(work, momentum, device)),
        "serial on the CPU": ("cpu", _trained(work, momentum, torch.device("cpu"))),
    }
    for engine in ENGINES[1:]:
        found[engine] = (engine, _trained(work, momentum, device, engine))
    for precision in lab.precisions[1:]:
        for engine in ENGINES:
            weights = _trained(work, momentum, device, engine, precision)
            found[f"{engine}, {precision}"] = (precision, weights)
    return found


def _start(work: Work, device: torch.device) -> Tensor:
    """Return the weights before the first round."""
    strategy, _ = REGISTRY.strategy("fedavg", {})
    fp32 = protocol_of(work, 1, "fp32")
    parties = Parties(federation_of(work, device), fp32, 0)
    return _vector(strategy.init(parties.server()).weights)


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
        done = simulate(strategy, federation, protocol, 0, executor=Choice(engine))
    return _vector(done.state.weights)


def _vector(weights: Mapping[str, Tensor]) -> Tensor:
    floats = [v for v in weights.values() if v.is_floating_point()]
    return torch.cat([v.double().flatten() for v in floats])
