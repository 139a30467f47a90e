"""One round of every strategy on digits; run with ``make benchmark``.

Times of one machine mean nothing on another: what is worth comparing is the ratio to
FedAvg's round in the same run: ``extra_info["ratio"]`` is FedAvg's time over its own.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from fedkd.federation import Federation
from fedkd.parties import Parties
from fedkd.party import ModelSpec
from fedkd.protocol import Protocol
from fedkd.registry import load_registry
from fedkd.simulator import Run

REGISTRY = load_registry()
# Rounds in which every stage happens: generators, teacher and distillation.
SHORT = {
    "generator": {"steps": 20, "epochs": None, "width": 16},
    "teacher": {"steps": 20},
    "distil": {"steps": 20},
    "warmup": 1,
}
OPTIONS = {
    "mosaic": SHORT,
    "mosaic-origin": SHORT,
    "mosaic-code": {
        **SHORT,
        "generator": {**SHORT["generator"], "classifier_epochs": 1},
    },
}


def make_run(name: str) -> Run:
    dataset, _ = REGISTRY.dataset("digits", {})
    data = dataset.load(Path())
    partitioner, _ = REGISTRY.partitioner("dirichlet", {"alpha": 0.1})
    rng = np.random.default_rng(0)
    labels = data.y_train.numpy()
    split = partitioner.split(labels, 10, data.num_classes, rng)
    tests = np.array_split(np.arange(len(data.y_test)), 10)
    models = [ModelSpec("cnn")]
    federation = Federation(data, split.indices, tests, models, REGISTRY.model)
    protocol = Protocol(
        rounds=1, clients=10, training={"local_steps": 10, "batch_size": 32, "lr": 0.05}
    )
    strategy, _ = REGISTRY.strategy(name, OPTIONS.get(name, {}))
    return Run(strategy, Parties(federation, protocol, 0), name)


def one_round(run: Run) -> None:
    run.execute(None, 0, lambda _: None)


@pytest.mark.parametrize("name", list(REGISTRY.entries("strategies")))
def test_one_round_on_digits(benchmark, name):
    torch.set_num_threads(1)
    run, fedavg = make_run(name), make_run("fedavg")
    one_round(fedavg)
    reference: list[float] = []

    def take_turns():
        started = time.perf_counter()
        one_round(fedavg)
        reference.append(time.perf_counter() - started)
        return (run,), {}

    one_round(run)
    benchmark.pedantic(one_round, setup=take_turns, rounds=3)
    if benchmark.stats is not None:
        ratio = statistics.median(reference) / benchmark.stats.stats.median
        benchmark.extra_info["ratio"] = ratio
