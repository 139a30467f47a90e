"""One round of every strategy on digits; run with ``make benchmark``.

Times of one machine mean nothing on another: what is worth comparing is the ratio to
FedAvg's round in the same run: ``extra_info["ratio"]`` is FedAvg's time over its own.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedkd.data.public import PublicData
from fedkd.party import ModelSpec
from fedkd.plugins.registry import load_registry
from fedkd.simulation.federation import Federation
from fedkd.simulation.protocol import Protocol
from fedkd.simulation.requirements import arranged
from fedkd.simulation.sides import Sides
from fedkd.simulation.simulator import Run

REGISTRY = load_registry()
# Rounds in which every stage happens, at sizes that take no time: generators, teacher and
# distillation.
MOSAIC = {
    "generator": {"steps": 5, "epochs": None, "width": 8, "classifier_epochs": 1},
    "teacher": {"steps": 5},
    "distil": {"steps": 5, "batch_size": 64, "sampling": "equal"},
    "warmup": 1,
}
ONE_SHOT = {
    "synthesis": {"epochs": 2, "generator_steps": 3, "batch_size": 32, "width": 8},
    "distil": {"steps": 3, "passes": None, "batch_size": 32},
}
IN_TURNS = {"generator": {"width": 8, "steps": 2}, "distil": {"steps": 2}}
SHORT = {
    "mosaic": MOSAIC,
    "dense": ONE_SHOT,
    "coboosting": ONE_SHOT,
    "dfrd": IN_TURNS,
    "fedftg": IN_TURNS,
    "fedgen": {"generator": {"steps": 5}},
}
"""By the first word of a strategy's name; presets are as short."""


def make_run(name: str, rounds: int = 1) -> Run:
    dataset, _ = REGISTRY.dataset("digits", {})
    data = dataset.load(Path())
    partitioner, _ = REGISTRY.partitioner("dirichlet", {"alpha": 0.1})
    rng = np.random.default_rng(0)
    labels = data.y_train.numpy()
    split = partitioner.split(labels, 10, data.num_classes, rng)
    # Images of the test half: what is public is of no matter to a time.
    public = PublicData(data.x_test, data)
    tests = np.array_split(np.arange(len(data.y_test)), 10)
    models = [ModelSpec("cnn")]
    federation = Federation(
        data, split.indices, tests, models, REGISTRY.model, public=public
    )
    protocol = Protocol(
        rounds=rounds,
        clients=10,
        training={"local_steps": 10, "batch_size": 32, "lr": 0.05},
    )
    strategy, _ = REGISTRY.strategy(name, SHORT.get(name.partition("-")[0], {}))
    federation, protocol = arranged(strategy, federation, protocol)
    return Run(strategy, Sides(federation, protocol, 0), name)


def whole(run: Run) -> None:
    run.execute(None, 0, lambda _: None)


@pytest.mark.parametrize("name", list(REGISTRY.entries("strategies")))
def test_one_round_on_digits(against, name):
    # One round, or as many as the strategy needs, FedAvg as many as it.
    needed = REGISTRY.strategy(name)[0].requires.rounds
    run, fedavg = make_run(name, needed), make_run("fedavg", needed)
    against(lambda: whole(run), lambda: whole(fedavg), rounds=3)
