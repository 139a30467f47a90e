"""The floor of a round: what the device can do, and what a step needs."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from gpu_parts.lab import Lab, interleaved
from gpu_parts.works import REGISTRY, Work
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fedkd.simulation.precision import Precision, arithmetic


def measure(lab: Lab, measured: Mapping[str, Any]) -> dict[str, Any]:
    """Return peaks, what a step needs, and rounds as multiples of the floor."""
    peaks: dict[str, float] = {p: _peak(lab, p) for p in lab.precisions}
    bandwidth = _bandwidth(lab)
    shown = ", ".join(f"{name} {rate / 1e12:.3g}" for name, rate in peaks.items())
    print(f"  measured: {shown} TFLOP/s; {bandwidth / 1e9:.4g} GB/s")
    results: dict[str, Any] = {"flops_per_second": peaks, "bytes_per_second": bandwidth}
    for work in lab.works:
        needs = step_needs(work, lab.device)
        steps = work.clients * work.steps
        floors = {
            precision: steps
            * max(needs["operations"] / rate, needs["bytes"][precision] / bandwidth)
            for precision, rate in peaks.items()
        }
        medians = measured.get(work.name, {}).get("median", {})
        ratios = {
            name: median / floors[name.split()[1]] for name, median in medians.items()
        }
        results[work.name] = {
            "step": needs,
            "floor_seconds_of_a_round": floors,
            "multiple_of_floor": ratios,
        }
        for name, ratio in ratios.items():
            print(f"  {work.name:10} {name:13} {ratio:9.1f} x the floor")
    return results


def _peak(lab: Lab, precision: Precision) -> float:
    """Return operations a second of a large matrix product."""
    size = 256 if lab.tiny else 8192
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.randn(size, size, device=lab.device).to(dtype) for _ in range(2))
    with arithmetic("tf32" if precision == "tf32" else "fp32", lab.device):
        seconds = interleaved({"product": lambda: a @ b}, lab)["product"]
    return 2 * size**3 / statistics.median(seconds)


def _bandwidth(lab: Lab) -> float:
    """Return bytes read and written a second by a large copy."""
    size = (8 if lab.tiny else 2048) << 20
    source = torch.randint(0, 256, (size,), dtype=torch.uint8, device=lab.device)
    target = torch.empty_like(source)
    seconds = interleaved({"copy": lambda: target.copy_(source)}, lab)["copy"]
    return 2 * size / statistics.median(seconds)


def step_needs(work: Work, device: torch.device) -> dict[str, Any]:
    """Return the operations of a training step and the fewest bytes that it must move.

    Bytes: weights are read in both passes and written once; what the forward pass saves
    for the backward pass is written and read; a bf16 step saves half of it.
    """
    build = REGISTRY.model(work.model)
    model: nn.Module = build(work.shape, 10, **work.options).to(device)
    x = torch.randn(work.batch, *work.shape, device=device)
    y = torch.arange(work.batch, device=device) % 10
    own = {p.data_ptr() for p in model.parameters()}
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in own:
            saved[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with FlopCounterMode(display=False) as counter:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = F.cross_entropy(model(x), y)
        loss.backward()
    parameters = sum(p.numel() for p in model.parameters())
    whole = 12 * parameters + 2 * sum(saved.values())
    half = 12 * parameters + sum(saved.values())
    return {
        "operations": counter.get_total_flops(),
        "parameters": parameters,
        "saved_bytes": sum(saved.values()),
        "bytes": {"fp32": whole, "tf32": whole, "bf16": half},
    }
