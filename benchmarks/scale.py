"""What many clients cost: rounds of 100 sampled from 1,000 and from 10,000 clients.

    python benchmarks/scale.py 9

The work of a round is equal, so its time must be too; the two take turns, each in a
process of its own. Memory is that of a process beyond what it has after its imports, and is
held against the images, five models and 200 MiB. ``local`` keeps a whole model for every
client: all of them are put away before the first round.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
from asked import add_repeats
from engine import MANY, Rounds, images_of

from fedkd.simulation.executors import Choice

MIB = 1 << 20
ALLOWANCE = 200 * MIB
MODELS = 5
SMALL = replace(MANY, options={"channels": [8, 16], "hidden": 16})
NORMED = replace(MANY, model="cnn", options={})
CASES = {
    "fedavg": ("fedavg", MANY, "serial"),
    "fedavg, 2 processes": ("fedavg", MANY, "processes"),
    "fedbn": ("fedbn", NORMED, "serial"),
    "local": ("local", SMALL, "serial"),
}
SIZES = (1_000, 10_000)


@dataclass(frozen=True)
class Start:
    """What is known once the first round is done."""

    setup: float
    """Seconds to make clients and run, without the images."""
    images: int
    """Bytes of the data."""
    model: int
    """Bytes of a model."""


def memory(name: str) -> int:
    """Return bytes of a line of this process's status."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if name in line) * 1024


def forget_peak() -> None:
    """Let the peak of memory start anew, from what is held now."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def fill(rounds: Rounds) -> None:
    """Let every client remember what one of the last round remembers, if anything."""
    memories = rounds.run.sides.memories
    clients = range(rounds.run.protocol.clients)
    kept = next((m for m in map(memories.recall, clients) if m), None)
    for k in clients if kept else ():
        if not memories.recall(k):
            memories.keep(k, kept)


def apart(case: str, clients: int, folder: str, pipe: Any) -> None:
    """Run rounds whenever asked to; at the end tell the peak of memory."""
    torch.set_num_threads(1)
    before = memory("VmRSS")
    name, work, executor = CASES[case]
    work = replace(work, clients=clients)
    data = images_of(work)
    forget_peak()
    started = time.perf_counter()
    rounds = Rounds(work, Choice(executor, 2), name, data)
    setup = time.perf_counter() - started
    rounds.run.sides.memories.folder = Path(folder)
    rounds.round()
    fill(rounds)
    images = sum(t.nbytes for t in (data.x_train, data.y_train, data.x_test))
    initial = rounds.run.sides.server().initial
    model = sum(t.nbytes for t in initial.values())
    pipe.send(Start(setup, images, model))
    while pipe.recv():
        started = time.perf_counter()
        rounds.round()
        pipe.send(time.perf_counter() - started)
    pipe.send((memory("VmHWM") - before, rounds.run.sides.memories.on_disk))
    rounds.run.executor.close()


def compare(case: str, repeats: int) -> None:
    """Print the lines of a case."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        pipes, starts, processes = {}, {}, []
        for clients in SIZES:
            pipes[clients], theirs = context.Pipe()
            process = context.Process(
                target=apart, args=(case, clients, folder, theirs)
            )
            process.start()
            processes.append(process)
            starts[clients] = pipes[clients].recv()
        found: dict[int, list[float]] = {clients: [] for clients in SIZES}
        for _ in range(repeats):
            for clients, pipe in pipes.items():
                pipe.send(True)
                found[clients].append(pipe.recv())
        first = statistics.median(found[SIZES[0]])
        for clients, pipe in pipes.items():
            pipe.send(False)
            peak, on_disk = pipe.recv()
            median = statistics.median(found[clients])
            start: Start = starts[clients]
            allowed = start.images + MODELS * start.model + ALLOWANCE
            print(
                f"{case:20} {clients:6} clients: {median * 1000:7.1f} ms a round "
                f"({median / first:.3f} x), set up in {start.setup:.2f} s, "
                f"{peak / MIB:.0f} MiB of {allowed / MIB:.0f} MiB allowed, "
                f"memories {'in a file' if on_disk else 'in memory'}",
                flush=True,
            )
        for process in processes:
            process.join()


def main() -> None:
    """Print all cases."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add_repeats(parser)
    given = parser.parse_args()
    for case in CASES:
        compare(case, given.repeats)


if __name__ == "__main__":
    main()
