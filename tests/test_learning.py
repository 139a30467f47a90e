"""The engine learns: real digits, the suite ``quick``'s rounds and settings."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fedkd.data.images import ClientData
from fedkd.metrics.classification import Accuracy
from fedkd.ops.training import train
from fedkd.party import ModelSpec
from fedkd.plugins.registry import load_registry
from fedkd.simulation.evaluate import predictions
from fedkd.simulation.federation import Federation
from fedkd.simulation.simulator import simulate
from fedkd.suite.grid import grid
from fedkd.suite.suite import load_suite


@pytest.mark.slow
def test_fedavg_on_even_digits_reaches_96_and_central_training_is_within_1_5_points():
    registry = load_registry()
    cell = grid(load_suite("quick"), registry)[0]
    protocol = cell.parts.protocol
    dataset, _ = registry.dataset("digits", {})
    data = dataset.load(Path())
    order = np.random.default_rng(0).permutation(len(data.y_train))
    tests = np.array_split(np.arange(len(data.y_test)), 10)
    shards = np.array_split(order, 10)
    models = [ModelSpec("cnn")]
    federation = Federation(data, shards, tests, models, registry.model)
    strategy, _ = registry.strategy("fedavg", {})
    federated = simulate(strategy, federation, protocol, seed=0).metrics

    model = federation.build_spec(models[0], 0)
    # The same budget: as many images, in as many passes over the data.
    steps = federated["client_examples"] // protocol.training.batch_size
    budget = protocol.training.model_copy(update={"local_steps": steps})
    everything = ClientData(data, torch.arange(len(data.y_train)))
    torch.manual_seed(0)
    train(model, everything, budget)
    central = Accuracy().of_test_set(predictions(model, data, 1000))
    assert federated["global_accuracy"] >= 96
    assert abs(central - federated["global_accuracy"]) <= 1.5
