"""What a GPU gains: parity first, then rounds, the floor, ensembles, a paper's suite.

One call measures everything and writes it down after each part::

    python benchmarks/gpu.py                        # benchmarks/results/gpu/DEVICE.json
    python benchmarks/gpu.py --minutes 25 --out FILE.json
    python benchmarks/gpu.py --parts parity,rounds
    python benchmarks/gpu.py --parts paper --engine graphs
    python benchmarks/gpu.py --device cpu --tiny    # a dry run: the numbers mean nothing

Contestants take turns, and what counts are medians and ratios within the run. At its end
the script prints the rows that ``fedkd/executors/measured.py`` can have; put them there,
with the JSON beside the others, and ``--executor auto`` goes by them.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import functools
import platform
import re
import shlex
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fedkd._version import __version__
from fedkd.bench import Bench, Settings, results_folder
from fedkd.data import ImageSet
from fedkd.data_root import data_root
from fedkd.environment import commit, pick_device, reproducible
from fedkd.errors import FedKDError
from fedkd.executors import NAMES, Choice
from fedkd.executors.measured import Measurement
from fedkd.federation import Federation
from fedkd.files import write_json_atomic
from fedkd.grid import grid
from fedkd.metrics_file import NAME as METRICS
from fedkd.metrics_file import last_line
from fedkd.ops.stacking import together
from fedkd.overrides import Overrides, load_overridden
from fedkd.parties import Parties
from fedkd.party import ModelSpec
from fedkd.precision import Precision, arithmetic
from fedkd.protocol import Protocol
from fedkd.registry import load_registry
from fedkd.simulator import Run, simulate

ROOT = Path(__file__).resolve().parent
REGISTRY = load_registry()
ENGINES = tuple(name for name in ("serial", "graphs", "stacked") if name in NAMES)
PARTS = ("parity", "rounds", "floor", "ensembles", "paper")
PLAN = {
    "parity": "train the same clients by every engine, in every precision and on the CPU, "
    "and compare weights",
    "rounds": "time rounds of every engine and precision, and of a bare loop",
    "floor": "measure matrix products and copies, count operations and bytes of a step, "
    "and say how far rounds are from the floor",
    "ensembles": "time frozen models one after another and stacked",
    "paper": "run fedavg and mosaic of a suite as far as the time allows",
}
LEAST_SECONDS = 30.0
"""Of what is left of ``--minutes``: with less, the paper's suite is not started."""


@dataclass(frozen=True)
class Work:
    """Rounds of FedAvg on made-up images."""

    name: str
    model: str
    options: dict[str, Any] = field(hash=False)
    shape: tuple[int, int, int] = (1, 28, 28)
    loose: float = 1
    """How much rounding grows in it: tolerances are multiplied by this."""
    clients: int = 10
    images: int = 1280
    """Of each client."""
    steps: int = 20
    batch: int = 64


WORKS = (
    Work(
        "small CNN", "cnn-plain", {"channels": [32, 64], "hidden": 128}, (1, 28, 28), 1
    ),
    Work("ResNet-18", "resnet18", {}, (3, 32, 32), 10),
)
TINY = (
    Work(
        "small CNN", "cnn-plain", {"channels": [4, 8], "hidden": 8}, (1, 12, 12), 1,
        2, 32, 2, 8,
    ),
    Work("ResNet-18", "resnet18", {"width": 0.125}, (3, 16, 16), 10, 2, 16, 2, 8),
)  # fmt: skip

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


@dataclass
class Report:
    """What is known so far, on its way to the file."""

    path: Path
    about: Mapping[str, Any]
    parts: dict[str, Any] = field(default_factory=dict)

    def keep(self, name: str, found: Any) -> None:
        """Add a part and write the file."""
        self.parts[name] = found
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomic({"about": self.about, **self.parts}, self.path)


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


@functools.lru_cache(maxsize=4)
def images_of(work: Work, device: torch.device) -> ImageSet:
    """Return made-up images that can be learnt, on a device."""
    number = work.clients * work.images
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, number + 100)
    pixels = rng.integers(0, 200, (number + 100, *work.shape), dtype=np.uint8)
    pixels[np.arange(len(labels)), :, labels, :] += 55  # a row of each class is bright
    x, y = torch.from_numpy(pixels), torch.from_numpy(labels)
    channels = work.shape[0]
    names = tuple(map(str, range(10)))
    images = ImageSet(
        "made-up", x[:number], y[:number], x[number:], y[number:], names,
        (0.5,) * channels, (0.25,) * channels,
    )  # fmt: skip
    return images.to(device)


def federation_of(work: Work, device: torch.device) -> Federation:
    """Return the clients of ``work``: an equal run of images each."""
    shards = np.split(np.arange(work.clients * work.images), work.clients)
    tests = [np.arange(k, k + 1) for k in range(work.clients)]
    models = [ModelSpec(work.model, dict(work.options))]
    return Federation(images_of(work, device), shards, tests, models, REGISTRY.model)


def protocol_of(work: Work, rounds: int, precision: Precision, **more: Any) -> Protocol:
    """Return a protocol that measures after its last round only."""
    training = {"local_steps": work.steps, "batch_size": work.batch, "lr": 0.01}
    return Protocol(
        rounds=rounds,
        clients=work.clients,
        training={**training, "weight_decay": 0.0, **more},
        evaluation={"every": rounds},
        precision=precision,
    )


# --- parity --------------------------------------------------------------------------


def parity(lab: Lab) -> list[dict[str, Any]]:
    """Return, for each comparison, the difference, the tolerance and whether it holds."""
    found = []
    for work in lab.works:
        # On the CPU a step of ResNet-18 takes seconds.
        few = replace(work, clients=2, steps=min(work.steps, 4), images=4 * work.batch)
        for momentum in (0.0, 0.9):
            found += _parity(few, momentum, lab)
    for row in found:
        verdict = "ok  " if row["ok"] else "FAIL"
        print(
            f"  {verdict} {row['work']}, momentum {row['momentum']:g}: {row['what']:28} "
            f"{row['difference']:.2e} (at most {row['tolerance']:.0e})"
        )
    return found


def _parity(work: Work, momentum: float, lab: Lab) -> list[dict[str, Any]]:
    def weights(engine: str, precision: Precision, device: torch.device) -> Tensor:
        strategy, _ = REGISTRY.strategy("fedavg", {})
        protocol = protocol_of(work, 1, precision, momentum=momentum)
        with reproducible(device):
            federation = federation_of(work, device)
            done = simulate(strategy, federation, protocol, 0, executor=Choice(engine))
        return _vector(done.state.weights)

    strategy, _ = REGISTRY.strategy("fedavg", {})
    fp32 = protocol_of(work, 1, "fp32")
    parties = Parties(federation_of(work, lab.device), fp32, 0)
    start = _vector(strategy.init(parties.server()).weights)
    plain = weights("serial", "fp32", lab.device)
    pairs = {"serial again": ("repeated", weights("serial", "fp32", lab.device))}
    cpu = torch.device("cpu")
    pairs["serial on the CPU"] = ("cpu", weights("serial", "fp32", cpu))
    for engine in ENGINES[1:]:
        pairs[engine] = (engine, weights(engine, "fp32", lab.device))
    for precision in lab.precisions[1:]:
        for engine in ENGINES:
            other = weights(engine, precision, lab.device)
            pairs[f"{engine}, {precision}"] = (precision, other)
    way = float((plain - start).norm())
    rows = []
    for what, (kind, other) in pairs.items():
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


def _vector(weights: Mapping[str, Tensor]) -> Tensor:
    floats = [v for v in weights.values() if v.is_floating_point()]
    return torch.cat([v.double().flatten() for v in floats])


# --- rounds --------------------------------------------------------------------------


class BareLoop:
    """The plain eager loop on the device: one module, images in memory as floats."""

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
        sums = [torch.zeros_like(w) for w in self.weights]
        for k in range(self.work.clients):
            with torch.no_grad():
                for p, w in zip(self.parameters, self.weights, strict=True):
                    p.copy_(w)
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
            with arithmetic(self.precision, x.device):
                loss = F.cross_entropy(self.model(x[chosen]), y[chosen])
            loss.backward()
            optimizer.step()


class Rounds:
    """A run of fedkd whose rounds can be called one by one, without measuring."""

    def __init__(self, work: Work, lab: Lab, engine: str, precision: Precision) -> None:
        self.device = lab.device
        strategy, _ = REGISTRY.strategy("fedavg", {})
        protocol = protocol_of(work, 1000, precision)
        parties = Parties(federation_of(work, lab.device), protocol, 0)
        self.run = Run(strategy, parties, "fedavg", Choice(engine))
        self.state = strategy.init(parties.server())
        self.index = 0

    def round(self) -> None:
        """Run one round as a bench does: with deterministic kernels."""
        with reproducible(self.device):
            self.state, _ = self.run._round(self.state, self.run.sample(self.index))
        self.index += 1

    def close(self) -> None:
        """Free what the engine holds."""
        self.run.executor.close()


def rounds(lab: Lab) -> dict[str, Any]:
    """Return median seconds of a round by work and contestant."""
    found: dict[str, Any] = {}
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
        found[work.name] = {"median": medians, "seconds": times, "work": asdict(work)}
        for name, median in medians.items():
            bare = medians["bare fp32"] / median
            serial = medians["serial fp32"] / median
            print(
                f"  {work.name:10} {name:13} {1000 * median:9.2f} ms a round  "
                f"{bare:6.2f} x bare fp32  {serial:6.2f} x serial fp32"
            )
    return found


def interleaved(
    calls: Mapping[str, Callable[[], object]], lab: Lab
) -> dict[str, list[float]]:
    """Return seconds of each contestant's calls, which take turns after two warm-ups."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for repeat in range(lab.repeats + 2):
        for name, call in calls.items():
            lab.finish()
            started = time.perf_counter()
            call()
            lab.finish()
            if repeat >= 2:
                found[name].append(time.perf_counter() - started)
    return found


# --- floor ---------------------------------------------------------------------------


def floor(lab: Lab, measured: Mapping[str, Any]) -> dict[str, Any]:
    """Return peaks, what a step needs, and rounds as multiples of the floor."""
    peaks: dict[str, float] = {p: _peak(lab, p) for p in lab.precisions}
    bandwidth = _bandwidth(lab)
    shown = ", ".join(f"{name} {rate / 1e12:.3g}" for name, rate in peaks.items())
    print(f"  measured: {shown} TFLOP/s; {bandwidth / 1e9:.4g} GB/s")
    found: dict[str, Any] = {"flops_per_second": peaks, "bytes_per_second": bandwidth}
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
        found[work.name] = {
            "step": needs,
            "floor_seconds_of_a_round": floors,
            "multiple_of_floor": ratios,
        }
        for name, ratio in ratios.items():
            print(f"  {work.name:10} {name:13} {ratio:9.1f} x the floor")
    return found


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


# --- ensembles -----------------------------------------------------------------------


def ensembles(lab: Lab) -> dict[str, Any]:
    """Return medians of ten frozen models' answers, and of those with gradients of x."""
    found: dict[str, Any] = {}
    number = 3 if lab.tiny else 10
    for work in lab.works:
        build = REGISTRY.model(work.model)
        torch.manual_seed(0)
        members = [build(work.shape, 10, **work.options) for _ in range(number)]
        members = [m.to(lab.device, memory_format=torch.channels_last) for m in members]
        x = torch.randn(work.batch, *work.shape, device=lab.device)
        both = {how: together(members, how) for how in ("loop", "stack")}  # type: ignore[arg-type]
        with torch.no_grad():
            one, other = (module(x) for module in both.values())
        gap = float((one - other).abs().max() / one.abs().max())
        calls: dict[str, Callable[[], object]] = {}
        for how, module in both.items():
            calls[f"{how} forward"] = functools.partial(_answers, module, x, False)
            calls[f"{how} with gradient"] = functools.partial(_answers, module, x, True)
        times = interleaved(calls, lab)
        medians = {name: statistics.median(seconds) for name, seconds in times.items()}
        found[work.name] = {"models": number, "median": medians, "difference": gap}
        for what in ("forward", "with gradient"):
            ratio = medians[f"loop {what}"] / medians[f"stack {what}"]
            print(
                f"  {number} x {work.name}, {what}: stacked {ratio:.2f} x as fast, "
                f"answers differ by {gap:.1e}"
            )
    return found


def _answers(module: nn.Module, x: Tensor, gradient: bool) -> None:
    if not gradient:
        with torch.no_grad():
            module(x)
        return
    own = x.clone().requires_grad_()
    module(own).square().mean().backward()


# --- paper ---------------------------------------------------------------------------


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


def paper(lab: Lab, engine: str) -> dict[str, Any]:
    """Return how far ``fedavg`` and ``mosaic`` of ``paper-cifar10`` came, and how fast."""
    suite = "smoke" if lab.tiny else "paper-cifar10"
    found: dict[str, Any] = {"suite": suite, "engine": engine}
    names = ("fedavg", "mosaic")
    for place, name in enumerate(names):
        seconds = lab.left / (len(names) - place)
        if seconds < LEAST_SECONDS and not lab.tiny:
            found[name] = {"skipped": f"{seconds:.0f} seconds are left of --minutes"}
        else:
            found[name] = _suite(suite, name, engine, lab, seconds)
        print(f"  {name}: {found[name]}")
    return found


def _suite(
    suite: str, name: str, engine: str, lab: Lab, seconds: float
) -> dict[str, Any]:
    rounds = 2 if lab.tiny else None
    wishes = Overrides(strategies=name, rounds=rounds, seeds="0")
    loaded = load_overridden(suite, wishes, REGISTRY)
    out = lab.runs / f"{suite}-{name}"
    settings = Settings(
        out=out,
        data_root=lab.data,
        device=lab.device,
        executor=Choice(engine, profile=True),
        fresh=True,
        plots=False,
        command=(sys.executable, *sys.argv),
    )
    bench = Bench(loaded, grid(loaded, REGISTRY), REGISTRY, settings)
    started = time.monotonic()
    try:
        with results_folder(out):
            world, lost = bench.check()
            if lost:
                return {"skipped": lost[0]}
            with contextlib.suppress(KeyboardInterrupt):
                bench.run(world, Deadline(seconds))
    except FedKDError as error:
        return {"skipped": str(error)}
    (cell,) = bench.cells
    lines = settings.runs / cell.run_id / METRICS
    last = last_line(lines.parent) if lines.exists() and lines.stat().st_size else {}
    row = bench.done.get(cell.run_id)
    keys = ("round", "global_accuracy", "local_accuracy", "seconds", "phases")
    return {
        "status": row.status if row is not None else "the time was over",
        "reason": row.reason if row is not None else "",
        "rounds": cell.rounds,
        "wall_seconds": round(time.monotonic() - started, 1),
        "last_round": {key: last.get(key) for key in keys},
    }


# --- all of it -----------------------------------------------------------------------


def about(device: torch.device, tiny: bool) -> dict[str, Any]:
    """Return where this is measured, and by what."""
    found: dict[str, Any] = {
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
        found["cudnn"] = torch.backends.cudnn.version()
        found["memory_bytes"] = properties.total_memory
        found["multiprocessors"] = properties.multi_processor_count
        found["capability"] = list(torch.cuda.get_device_capability(device))
    return found


def name_of(device: torch.device) -> str:
    """Return what a device is called."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def fastest_engine(measured: Mapping[str, Any], work: str) -> str:
    """Return the engine with the shortest round in float32; ``serial`` if unknown."""
    medians = measured.get(work, {}).get("median", {})
    known = [engine for engine in ENGINES if f"{engine} fp32" in medians]
    return min(known, key=lambda e: float(medians[f"{e} fp32"]), default="serial")


def rows_for_auto(report: Report) -> list[Measurement]:
    """Return what ``fedkd/executors/measured.py`` can say of this device.

    Only engines that agreed with ``serial`` in every comparison.
    """
    info = report.about
    wrong = {
        row["what"].partition(",")[0]
        for row in report.parts.get("parity", [])
        if not row["ok"]
    }
    rows = []
    for found in report.parts.get("rounds", {}).values():
        work, medians = found["work"], found["median"]
        build = REGISTRY.model(work["model"])
        model = build(tuple(work["shape"]), 10, **work["options"])
        for engine in ENGINES[1:]:
            if engine not in wrong and f"{engine} fp32" in medians:
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


def attempts(
    report: Report, chosen: tuple[str, ...], lab: Lab, engine: str | None = None
) -> Iterator[str]:
    """Do the parts; yield the names of those that broke."""

    def measured() -> Mapping[str, Any]:
        found = report.parts.get("rounds", {})
        return found if "failed" not in found else {}

    calls: dict[str, Callable[[], Any]] = {
        "parity": lambda: parity(lab),
        "rounds": lambda: rounds(lab),
        "floor": lambda: floor(lab, measured()),
        "ensembles": lambda: ensembles(lab),
        "paper": lambda: paper(lab, engine or fastest_engine(measured(), "ResNet-18")),
    }
    for name in chosen:
        print(f"{name}:", flush=True)
        started = time.monotonic()
        said: list[str] = []
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", RuntimeWarning)
                found = calls[name]()
            said = sorted({str(w.message) for w in caught})
        # Of torch, such as too little memory; the other parts may still work.
        except RuntimeError as error:
            found = {"failed": " ".join(str(error).split())}
            print(f"  FAIL {found['failed']}")
            yield name
        for text in said:
            print(f"  warning: {text}")
        report.keep(name, found)
        report.keep(f"{name}_warnings", said)
        print(f"  ({time.monotonic() - started:.1f} s)", flush=True)


def options() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1 or cpu")
    parser.add_argument("--tiny", action="store_true", help="a dry run: tiny sizes")
    parser.add_argument("--minutes", type=float, default=25, help="of all parts")
    parser.add_argument("--parts", default=",".join(PARTS), help="some of them")
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        help="of the part paper; by default the one with the shortest rounds",
    )
    parser.add_argument("--out", type=Path, help="the JSON file")
    return parser.parse_args()


def main() -> int:
    """Measure; return 1 if a comparison failed or a part broke."""
    given = options()
    chosen = tuple(given.parts.split(","))
    unknown = [name for name in chosen if name not in PARTS]
    if unknown:
        sys.exit(f"--parts: unknown {unknown[0]!r}; known: {', '.join(PARTS)}.")
    try:
        device = pick_device(given.device)
    except FedKDError as error:
        sys.exit(f"{error} A dry run: --device cpu --tiny.")
    torch.set_num_threads(1)
    info = about(device, given.tiny)
    file = re.sub(r"[^A-Za-z0-9]+", "-", info["device"]).strip("-") + ".json"
    out = given.out or ROOT / "results" / "gpu" / file
    runs = Path("runs") / "gpu" if given.out is None else out.parent / "runs"
    ends = time.monotonic() + 60 * given.minutes
    lab = Lab(device, given.tiny, ends, runs, data_root())
    print(f"On {info['device']}, torch {info['torch']}, this will")
    for name in chosen:
        print(f"  {name:9} {PLAN[name]}")
    print(f"and write {out} after each part.")
    if info["dry_run"]:
        print("A dry run: it shows that the script works; its numbers mean nothing.")
    report = Report(out, info)
    broken = list(attempts(report, chosen, lab, given.engine))
    compared = report.parts.get("parity", [])
    failed = [] if isinstance(compared, dict) else [r for r in compared if not r["ok"]]
    if not info["dry_run"] and "rounds" in report.parts and not broken:
        print("Rows for fedkd/executors/measured.py:")
        for row in rows_for_auto(report):
            print(f"    {row!r},")
    print(
        f"Written: {out}; {len(failed)} comparisons failed, {len(broken)} parts broke."
    )
    return 1 if failed or broken else 0


if __name__ == "__main__":
    sys.exit(main())
