"""FedAvg in fedkd, by its programming interface; the network is its ``cnn-plain``."""

from __future__ import annotations

import argparse

import numpy as np
import torch
from work import WORKS, Clock, Work

from fedkd.data.images import ImageSet
from fedkd.party import ModelSpec
from fedkd.plugins.registry import load_registry
from fedkd.simulation.federation import Federation
from fedkd.simulation.protocol import Protocol
from fedkd.simulation.simulator import simulate


def federation_of(work: Work) -> Federation:
    """Return the clients: an equal run of made-up images each."""
    rng = np.random.default_rng(0)
    number = work.clients * work.images
    pixels = rng.integers(0, 256, (number, 1, 28, 28), dtype=np.uint8)
    x, y = torch.from_numpy(pixels), torch.from_numpy(rng.integers(0, 10, number))
    names = tuple(map(str, range(10)))
    data = ImageSet("made-up", x, y, x[:1000], y[:1000], names, (0.5,), (0.25,))
    shards = np.split(np.arange(number), work.clients)
    tests = [np.arange(k % 1000, k % 1000 + 1) for k in range(work.clients)]
    options = {"channels": list(work.channels), "hidden": 128}
    models = [ModelSpec("cnn-plain", options)]
    return Federation(data, shards, tests, models, load_registry().model)


def main() -> None:
    """Run the rounds, and one more whose measurement is not timed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("work", choices=WORKS)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--executor", default="serial")
    given = parser.parse_args()
    work, total = WORKS[given.work], given.rounds + 1
    protocol = Protocol(
        rounds=total,
        clients=work.clients,
        participation=work.sampled,
        training={
            "local_steps": work.steps,
            "batch_size": work.batch,
            "lr": 0.01,
            "weight_decay": 0.0,
        },
        evaluation={"every": total},
    )
    federation = federation_of(work)
    strategy, _ = load_registry().strategy("fedavg", {})
    clock = Clock()

    def tick(metrics: dict[str, object]) -> None:
        if metrics["round"] != total:
            clock.tick()

    simulate(strategy, federation, protocol, 0, on_round=tick, executor=given.executor)
    clock.report()


if __name__ == "__main__":
    main()
