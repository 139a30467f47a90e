"""How long rounds take, by engine and precision, and those of a bare loop."""

from __future__ import annotations

import contextlib
import statistics
from dataclasses import asdict
from typing import Any

import torch
import torch.nn.functional as F
from gpu_parts.lab import Lab, interleaved
from gpu_parts.works import (
    ENGINES,
    REGISTRY,
    Work,
    federation_of,
    images_of,
    protocol_of,
)

from fedkd.harness.environment import reproducible
from fedkd.simulation.executors import Choice
from fedkd.simulation.precision import Precision, arithmetic
from fedkd.simulation.sides import Sides
from fedkd.simulation.simulator import Run


class BareLoop:
    """The plain eager loop on the device: one module, images in memory as floats.

    With the deterministic kernels of a bench, as :class:`Rounds`: what the two differ by
    is not what determinism costs.
    """

    def __init__(self, work: Work, lab: Lab, precision: Precision) -> None:
        data = images_of(work, lab.device)
        self.work, self.lab, self.precision = work, lab, precision
        self.x = (data.x_train.float() / 255 - 0.5) / 0.25
        self.y = data.y_train
        torch.manual_seed(0)
        build = REGISTRY.model(work.model)
        self.model = build(work.shape, 10, **work.options).to(lab.device)
        self.parameters = list(self.model.parameters())
        self.weights = [p.detach().clone() for p in self.parameters]

    def round(self) -> None:
        """Run one round."""
        with reproducible(self.lab.device):
            self._round()

    def _round(self) -> None:
        sums = [torch.zeros_like(w) for w in self.weights]
        for k in range(self.work.clients):
            with torch.no_grad():
                for p, w in zip(self.parameters, self.weights, strict=True):
                    p.copy_(w)
            with _flags(self.precision, self.lab.device):
                self._train(slice(k * self.work.images, (k + 1) * self.work.images))
            for total, p in zip(sums, self.parameters, strict=True):
                total.add_(p.detach(), alpha=1 / self.work.clients)
        self.weights = sums

    def _train(self, mine: slice) -> None:
        x, y, batch = self.x[mine], self.y[mine], self.work.batch
        optimizer = torch.optim.SGD(self.parameters, lr=0.01)
        self.model.train()
        order = torch.empty(0, dtype=torch.long, device=x.device)
        for _ in range(self.work.steps):
            if len(order) < batch:
                order = torch.randperm(len(x), device=x.device)
            chosen, order = order[:batch], order[batch:]
            optimizer.zero_grad()
            with torch.autocast(
                x.device.type, torch.bfloat16, enabled=self.precision == "bf16"
            ):
                loss = F.cross_entropy(self.model(x[chosen]), y[chosen])
            loss.backward()
            optimizer.step()


def _flags(
    precision: Precision, device: torch.device
) -> contextlib.AbstractContextManager[None]:
    """Return a block in which tf32 is allowed if it is asked for, and only then.

    It holds for the backward pass too; autocast is for the forward pass alone.
    """
    return arithmetic("tf32" if precision == "tf32" else "fp32", device)


class Rounds:
    """A run of fedkd whose rounds can be called one by one, without measuring."""

    def __init__(self, work: Work, lab: Lab, engine: str, precision: Precision) -> None:
        self.device = lab.device
        strategy, _ = REGISTRY.strategy("fedavg", {})
        protocol = protocol_of(work, 1000, precision)
        sides = Sides(federation_of(work, lab.device), protocol, 0)
        self.run = Run(strategy, sides, "fedavg", Choice(REGISTRY.executor(engine)))
        self.state = strategy.init(sides.server())
        self.index = 0

    def round(self) -> None:
        """Run one round as a bench does: with deterministic kernels."""
        with reproducible(self.device):
            self.state, _ = self.run._round(self.state, self.run.sample(self.index))
        self.index += 1

    def close(self) -> None:
        """Free what the engine holds."""
        self.run.executor.close()


def measure(lab: Lab) -> dict[str, Any]:
    """Return median seconds of a round by work and contestant."""
    results: dict[str, Any] = {}
    for work in lab.works:
        contestants: dict[str, Any] = {}
        for precision in lab.precisions:
            contestants[f"bare {precision}"] = BareLoop(work, lab, precision)
            for engine in ENGINES:
                contestants[f"{engine} {precision}"] = Rounds(
                    work, lab, engine, precision
                )
        calls = {name: contestant.round for name, contestant in contestants.items()}
        times = interleaved(calls, lab)
        medians = {name: statistics.median(seconds) for name, seconds in times.items()}
        for contestant in contestants.values():
            if isinstance(contestant, Rounds):
                contestant.close()
        results[work.name] = {"median": medians, "seconds": times, "work": asdict(work)}
        for name, median in medians.items():
            bare = medians["bare fp32"] / median
            serial = medians["serial fp32"] / median
            print(
                f"  {work.name:10} {name:13} {1000 * median:9.2f} ms a round  "
                f"{bare:6.2f} x bare fp32  {serial:6.2f} x serial fp32"
            )
    return results
