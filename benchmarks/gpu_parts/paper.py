"""How far a paper's suite comes in the time that is left, and how fast."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Mapping
from typing import Any

from gpu_parts.lab import Lab
from gpu_parts.works import REGISTRY

from fedkd.base.folders import ResultsFolder
from fedkd.errors import FedKDError
from fedkd.harness.bench import Bench, Settings
from fedkd.harness.folder import held
from fedkd.simulation.executors import Choice
from fedkd.simulation.metrics import read_metrics
from fedkd.suite.overrides import Overrides, load_overridden

LEAST_SECONDS = 30.0
"""Of what is left of ``--minutes``: with less, the paper's suite is not started."""


class Deadline:
    """A view of a bench that ends it, as Ctrl-C would, when its time is over."""

    def __init__(self, seconds: float) -> None:
        self.ends = time.monotonic() + seconds

    def started(self, cell: Any) -> None:
        """Do nothing."""

    def round(self, cell: Any, metrics: Mapping[str, Any]) -> None:
        """End the bench if it is late."""
        if time.monotonic() > self.ends:
            raise KeyboardInterrupt

    def finished(self, cell: Any, row: Any) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def measure(lab: Lab, engine: str) -> dict[str, Any]:
    """Return how far ``fedavg`` and ``mosaic`` of ``paper-cifar10`` came, and how fast."""
    suite = "smoke" if lab.tiny else "paper-cifar10"
    results: dict[str, Any] = {"suite": suite, "engine": engine}
    names = ("fedavg", "mosaic")
    for place, name in enumerate(names):
        seconds = lab.left / (len(names) - place)
        if seconds < LEAST_SECONDS and not lab.tiny:
            results[name] = {"skipped": f"{seconds:.0f} seconds are left of --minutes"}
        else:
            results[name] = _suite(suite, name, engine, lab, seconds)
        print(f"  {name}: {results[name]}")
    return results


def _suite(
    suite: str, name: str, engine: str, lab: Lab, seconds: float
) -> dict[str, Any]:
    rounds = 2 if lab.tiny else None
    wishes = Overrides(strategies=name, rounds=rounds, seeds="0")
    loaded = load_overridden(suite, wishes, REGISTRY)
    out = ResultsFolder(lab.runs / f"{suite}-{name}")
    settings = Settings(
        out=out,
        data_root=lab.data,
        device=lab.device,
        executor=Choice(REGISTRY.executor(engine), profile=True),
        fresh=True,
        plots=False,
        command=(sys.executable, *sys.argv),
    )
    bench = Bench(loaded, REGISTRY, settings)
    started = time.monotonic()
    try:
        with held(out):
            world, foreseen = bench.check()
            reasons = [*foreseen.lost, *foreseen.skipped.values()]
            if reasons:
                return {"skipped": reasons[0]}
            with contextlib.suppress(KeyboardInterrupt):
                bench.run(world, Deadline(seconds))
    except FedKDError as error:
        return {"skipped": str(error)}
    (cell,) = bench.cells
    lines = read_metrics(out.run(cell.run_id))
    last = lines[-1] if lines else {}
    row = bench.done.get(cell.run_id)
    keys = ("round", "global_accuracy", "local_accuracy", "seconds", "phases")
    return {
        "status": row.status if row is not None else "the time was over",
        "reason": row.reason if row is not None else "",
        "rounds": cell.run.rounds,
        "wall_seconds": round(time.monotonic() - started, 1),
        "last_round": {key: last.get(key) for key in keys},
    }
