"""How long frozen models take to answer, one after another and stacked."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable
from typing import Any

import torch
from gpu_parts.lab import Lab, interleaved
from gpu_parts.works import REGISTRY
from torch import Tensor, nn

from fedkd.ops.ensembles import LogitEnsemble, apart


def measure(lab: Lab) -> dict[str, Any]:
    """Return medians of ten frozen models' answers, and of those with gradients of x."""
    results: dict[str, Any] = {}
    number = 3 if lab.tiny else 10
    for work in lab.works:
        build = REGISTRY.model(work.model)
        torch.manual_seed(0)
        members = [build(work.shape, 10, **work.options) for _ in range(number)]
        members = [
            m.to(lab.device).to(memory_format=torch.channels_last) for m in members
        ]
        x = torch.randn(work.batch, *work.shape, device=lab.device)
        both = {
            "loop": LogitEnsemble(members, apart, "loop"),
            "stack": LogitEnsemble(members, apart, "stack"),
        }
        with torch.no_grad():
            one, other = (module(x) for module in both.values())
        gap = float((one - other).abs().max() / one.abs().max())
        calls: dict[str, Callable[[], object]] = {}
        for how, module in both.items():
            calls[f"{how} forward"] = functools.partial(_answers, module, x, False)
            calls[f"{how} with gradient"] = functools.partial(_answers, module, x, True)
        times = interleaved(calls, lab)
        medians = {name: statistics.median(seconds) for name, seconds in times.items()}
        results[work.name] = {"models": number, "median": medians, "difference": gap}
        for what in ("forward", "with gradient"):
            ratio = medians[f"loop {what}"] / medians[f"stack {what}"]
            print(
                f"  {number} x {work.name}, {what}: stacked {ratio:.2f} x as fast, "
                f"answers differ by {gap:.1e}"
            )
    return results


def _answers(module: nn.Module, x: Tensor, gradient: bool) -> None:
    if not gradient:
        with torch.no_grad():
            module(x)
        return
    own = x.clone().requires_grad_()
    module(own).square().mean().backward()
