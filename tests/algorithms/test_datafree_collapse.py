"""Without server steps, the methods with a generator are FedAvg: real digits."""

from pathlib import Path

import pytest
import torch

from fedkd.grid import grid
from fedkd.registry import load_registry
from fedkd.simulator import simulate
from fedkd.suite import load_suite
from fedkd.world import World, protocol_of

REGISTRY = load_registry()
STILL = {
    **{
        name: {"distil": {"steps": 0}}
        for name in ("fedftg", "fedftg-paper", "fedftg-official", "fedftg-lightfed")
    },
    "dfrd": {"distil": {"steps": 0}},
    "dfrd-dfdg": {"distil": {"steps": 0}, "start": "auto"},
    "fedgen": {"generator": {"steps": 0}},
    "fedgen-code": {"generator": {"steps": 0}},
}


def two_rounds(name, options):
    """Run a strategy in the first cell of the suite ``quick``, for two rounds."""
    config = grid(load_suite("quick"), REGISTRY)[0].config
    config["protocol"]["rounds"] = 2
    federation, _ = World(REGISTRY, Path(), torch.device("cpu")).federation(config)
    strategy, _ = REGISTRY.strategy(name, options)
    return simulate(strategy, federation, protocol_of(config), seed=0)


@pytest.fixture(scope="module")
def fedavg():
    return two_rounds("fedavg", {})


@pytest.mark.parametrize("name", STILL)
def test_without_server_steps_it_is_fedavg_bit_for_bit(name, fedavg):
    ours = two_rounds(name, STILL[name])
    assert ours.state.weights.keys() == fedavg.state.weights.keys()
    for entry, value in fedavg.state.weights.items():
        assert torch.equal(ours.state.weights[entry], value), entry
    for mine, theirs in zip(ours.history, fedavg.history, strict=True):
        for key in ("global_accuracy", "train_loss", "client_examples"):
            assert mine[key] == theirs[key], key


@pytest.mark.parametrize("name", ["fedftg", "dfrd", "fedgen"])
def test_with_server_steps_it_is_not(name, fedavg):
    ours = two_rounds(name, {})
    changed = [
        not torch.equal(ours.state.weights[entry], value)
        for entry, value in fedavg.state.weights.items()
    ]
    assert any(changed)
