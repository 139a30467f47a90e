"""The work on which engines are compared, and the bare loop that sets the bar.

The bare loop is what a user would write without a framework: one process, one thread,
one module in its default memory format, normalised images in memory as floats, a new
``torch.optim.SGD`` for each client, and averages of parameter vectors. It measures
nothing, so runs are timed without their measurements too.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from asked import add_names, add_repeats
from torch import Tensor, nn

from fedkd.data.images import ImageSet
from fedkd.party import ModelSpec
from fedkd.plugins.registry import load_registry
from fedkd.simulation.executors import SERIAL, Choice
from fedkd.simulation.federation import Federation
from fedkd.simulation.protocol import Protocol
from fedkd.simulation.sides import Sides
from fedkd.simulation.simulator import Run

REGISTRY = load_registry()


@dataclass(frozen=True)
class Work:
    """Rounds of FedAvg on made-up images."""

    name: str
    clients: int
    images: int
    """Of each client."""
    steps: int
    batch: int
    model: str = "cnn-plain"
    options: dict[str, Any] = field(default_factory=dict)
    sampled: int | None = None
    """Clients of a round; all if None."""
    shape: tuple[int, int, int] = (1, 28, 28)


W1 = Work("W1", 10, 6000, 20, 64, options={"channels": [32, 64], "hidden": 128})
W2 = Work("W2", 10, 6000, 20, 64, options={"channels": [8, 16], "hidden": 128})
W3 = Work(
    "W3", 1000, 60, 3, 20, options={"channels": [8, 16], "hidden": 128}, sampled=20
)
MLP = Work(
    "MLP", 1000, 60, 3, 20, model="mlp", options={"hidden": [128, 128]}, sampled=20
)
RESNET = Work("ResNet-18", 2, 200, 2, 16, model="resnet18", shape=(3, 32, 32))
MANY = Work("MANY", 10_000, 60, 3, 20, options=dict(W3.options), sampled=100)
WORKS = {work.name: work for work in (W1, W2, W3, MLP, RESNET, MANY)}


def images_of(work: Work) -> ImageSet:
    """Return made-up images with a test set of 1,000."""
    number = work.clients * work.images
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (number + 1000, *work.shape), dtype=np.uint8)
    labels = torch.from_numpy(rng.integers(0, 10, number + 1000))
    channels = work.shape[0]
    return ImageSet(
        "made-up",
        torch.from_numpy(pixels[:number]),
        labels[:number],
        torch.from_numpy(pixels[number:]),
        labels[number:],
        tuple(map(str, range(10))),
        (0.5,) * channels,
        (0.25,) * channels,
    )


def federation_of(work: Work, data: ImageSet | None = None) -> Federation:
    """Return the clients of ``work``: an equal run of images each."""
    data = images_of(work) if data is None else data
    shards = np.split(np.arange(work.clients * work.images), work.clients)
    tests = [np.arange(k % 1000, k % 1000 + 1) for k in range(work.clients)]
    models = [ModelSpec(work.model, dict(work.options))]
    return Federation(data, shards, tests, models, REGISTRY.model)


def protocol_of(work: Work, rounds: int) -> Protocol:
    """Return a protocol that measures after its last round only."""
    return Protocol(
        rounds=rounds,
        clients=work.clients,
        participation=work.sampled or work.clients,
        training={
            "local_steps": work.steps,
            "batch_size": work.batch,
            "lr": 0.01,
            "weight_decay": 0.0,
        },
        evaluation={"every": rounds},
    )


def vector_of(model: nn.Module) -> Tensor:
    """Return a copy of all parameters, one after another."""
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@torch.no_grad()
def load_vector(vector: Tensor, model: nn.Module) -> None:
    """Copy what :func:`vector_of` gave into the model."""
    start = 0
    for p in model.parameters():
        p.copy_(vector[start : start + p.numel()].view(p.shape))
        start += p.numel()


class BareLoop:
    """The plain loop; ``channels_last`` is the one trick it may be given."""

    def __init__(self, work: Work, *, channels_last: bool = False) -> None:
        data = images_of(work)
        self.work = work
        x = (data.x_train.float() / 255 - 0.5) / 0.25
        memory_format = (
            torch.channels_last if channels_last else torch.contiguous_format
        )
        self.clients = [
            (a.to(memory_format=memory_format), b)
            for a, b in zip(
                x.split(work.images), data.y_train.split(work.images), strict=True
            )
        ]
        torch.manual_seed(0)
        build = REGISTRY.model(work.model)
        self.model = build(work.shape, 10, **work.options)
        self.model.to(memory_format=memory_format)
        self.weights = vector_of(self.model)
        self.rng = np.random.default_rng(0)

    def round(self) -> None:
        """Run one round."""
        number = self.work.sampled or self.work.clients
        chosen = self.rng.choice(self.work.clients, number, replace=False)
        total = torch.zeros_like(self.weights)
        images = 0
        for k in chosen:
            x, y = self.clients[k]
            total += len(x) * self._trained(x, y)
            images += len(x)
        self.weights = total / images

    def _trained(self, x: Tensor, y: Tensor) -> Tensor:
        model, work = self.model, self.work
        load_vector(self.weights, model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        model.train()
        done = 0
        while done < work.steps:
            for chosen in torch.randperm(len(x)).split(work.batch):
                if done == work.steps:
                    break
                optimizer.zero_grad()
                F.cross_entropy(model(x[chosen]), y[chosen]).backward()
                optimizer.step()
                done += 1
        return vector_of(model)


class Rounds:
    """A run of fedkd whose rounds can be called one by one, without measuring."""

    def __init__(
        self,
        work: Work,
        executor: Choice = SERIAL,
        name: str = "fedavg",
        data: ImageSet | None = None,
    ) -> None:
        strategy, _ = REGISTRY.strategy(name, {})
        sides = Sides(federation_of(work, data), protocol_of(work, 1000), 0)
        self.run = Run(strategy, sides, name, executor)
        self.state = strategy.init(sides.server())
        self.index = 0

    def round(self) -> None:
        """Run one round."""
        self.state, _ = self.run._round(self.state, self.run.sample(self.index))
        self.index += 1


CONTESTANTS: dict[str, Callable[[Work], Any]] = {
    "bare": BareLoop,
    "bare channels-last": lambda work: BareLoop(work, channels_last=True),
    "serial": Rounds,
    "processes": lambda work: Rounds(work, executor=Choice("processes", 2)),
    "stacked": lambda work: Rounds(work, Choice(REGISTRY.executor("stacked"))),
}


def apart(name: str, work: Work, pipe: Any) -> None:
    """Run rounds of a contestant in a process of its own whenever asked to.

    What one does to its process, such as how memory is allocated, touches no other.
    """
    torch.set_num_threads(1)
    started = time.perf_counter()
    contestant = CONTESTANTS[name](work)
    contestant.round()
    pipe.send(time.perf_counter() - started)
    while pipe.recv():
        started = time.perf_counter()
        contestant.round()
        pipe.send(time.perf_counter() - started)
    if isinstance(contestant, Rounds):
        contestant.run.executor.close()


def compared(
    names: Sequence[str], work: Work, repeats: int
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Return seconds of the rounds of each contestant, which take turns, and seconds
    from the start of building it to the end of its first round."""
    context = multiprocessing.get_context("spawn")
    pipes, starts, processes = {}, {}, []
    for name in names:
        pipes[name], theirs = context.Pipe()
        process = context.Process(target=apart, args=(name, work, theirs))
        process.start()
        processes.append(process)
        starts[name] = pipes[name].recv()
    found: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(repeats):
        for name, pipe in pipes.items():
            pipe.send(True)
            found[name].append(pipe.recv())
    for pipe in pipes.values():
        pipe.send(False)
    for process in processes:
        process.join()
    return found, starts


def interleaved(
    contestants: dict[str, Callable[[], object]],
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Return seconds of each contestant's repeats; they take turns, so that what else
    the machine does hits all of them alike."""
    for call in contestants.values():
        call()
    found: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, call in contestants.items():
            started = clock()
            call()
            found[name].append(clock() - started)
    return found


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(
        description="Print the medians of rounds of contestants that take turns, and how "
        "many times as fast as each other's they are.",
        epilog="'first one after' is the time from the start of building a contestant to "
        "the end of its first round; no median has that round.",
    )
    add_names(parser, "works", WORKS, "W1,W2,W3")
    add_repeats(parser)
    add_names(parser, "contestants", CONTESTANTS, ",".join(CONTESTANTS))
    return parser.parse_args(given)


def main() -> None:
    """Print a line for each contestant of each work."""
    given = arguments()
    names = given.contestants
    for title in given.works:
        found, starts = compared(names, WORKS[title], given.repeats)
        medians = {name: statistics.median(times) for name, times in found.items()}
        for name, median in medians.items():
            ratios = [f"{medians[other] / median:.3f} x {other}" for other in names]
            print(
                f"{title:14} {name:18} {median * 1000:9.1f} ms a round, first one "
                f"after {starts[name]:.1f} s: {'  '.join(ratios)}",
                flush=True,
            )


if __name__ == "__main__":
    main()
