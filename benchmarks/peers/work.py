"""The work that every engine does here; needs numpy and torch, and nothing of fedkd.

W1 = 10 clients of 6,000 grey images of 28x28, 20 steps of batch 64, two 3x3 convolutions
of 32 and 64 channels and a layer of 128 units; W2 = the same with 8 and 16 channels; W3 =
1,000 clients of 60 images, of which 20 take part in a round, 3 steps of batch 20, 8 and 16
channels. SGD with learning rate 0.01, one thread a process.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

torch.set_num_threads(1)


@dataclass(frozen=True)
class Work:
    """Rounds of FedAvg on made-up images."""

    clients: int
    images: int
    steps: int
    batch: int
    sampled: int
    channels: tuple[int, int]


WORKS = {
    "W1": Work(10, 6000, 20, 64, 10, (32, 64)),
    "W2": Work(10, 6000, 20, 64, 10, (8, 16)),
    "W3": Work(1000, 60, 3, 20, 20, (8, 16)),
}


def network(work: Work) -> nn.Sequential:
    """Return the model: convolutions with ReLU and pooling, 128 units, 10 logits."""
    first, second = work.channels
    return nn.Sequential(
        nn.Conv2d(1, first, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(first, second, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(7 * 7 * second, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


def images(work: Work) -> tuple[Tensor, Tensor]:
    """Return normalised images ``[N, 1, 28, 28]`` and labels ``[N]`` of all clients."""
    rng = np.random.default_rng(0)
    number = work.clients * work.images
    pixels = rng.integers(0, 256, (number, 1, 28, 28), dtype=np.uint8)
    labels = torch.from_numpy(rng.integers(0, 10, number))
    return (torch.from_numpy(pixels).float() / 255 - 0.5) / 0.25, labels


class Clock:
    """Times of the ends of rounds; the first round, which also starts up, is left out."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.ends: list[float] = []

    def tick(self) -> None:
        """A round has ended."""
        self.ends.append(time.perf_counter())

    def report(self) -> None:
        """Print what was found as the last line of the output."""
        rounds = [b - a for a, b in zip(self.ends, self.ends[1:], strict=False)]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        first = self.ends[0] - self.started
        print(json.dumps({"rounds": rounds, "first": first, "peak_mib": peak}))


def arguments() -> tuple[Work, int]:
    """Return the work and the number of rounds that the command line asks for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("work", choices=WORKS)
    parser.add_argument("--rounds", type=int, default=6)
    given = parser.parse_args()
    return WORKS[given.work], given.rounds
