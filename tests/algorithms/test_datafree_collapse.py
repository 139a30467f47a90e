"""A generator that stands still or diverges: FedAvg on real digits, a new start."""

from pathlib import Path

import pytest
import torch
from strategy_settings import SETTINGS

from fedkd import testing
from fedkd.algorithms.dense.config import DenseConfig, DistilConfig, SynthesisConfig
from fedkd.algorithms.dense.server import Distillation, Plain
from fedkd.harness.builder import RunBuilder
from fedkd.ops.generation import all_finite
from fedkd.plugins.registry import load_registry
from fedkd.simulation.sides import Sides
from fedkd.simulation.simulator import simulate
from fedkd.suite.grid import grid
from fedkd.suite.suite import load_suite

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
    "fedgen-published": {"generator": {"steps": 0}},
}


def two_rounds(name, options):
    """Run a strategy in the first cell of the suite ``quick``, for two rounds."""
    cell = grid(load_suite("quick"), REGISTRY)[0]
    shorter = cell.parts.protocol.training.model_copy(update={"local_steps": 3})
    short = {"rounds": 2, "training": shorter}
    protocol = cell.parts.protocol.model_copy(update=short)
    federation, _ = RunBuilder(REGISTRY, Path(), torch.device("cpu")).federation(cell)
    strategy, _ = REGISTRY.strategy(name, options)
    return simulate(strategy, federation, protocol, seed=0)


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


@pytest.mark.parametrize("diverges", [False, True])
def test_a_generator_that_is_not_finite_starts_anew(diverges, monkeypatch):
    """It goes on from batch to batch, so that it would give black images for good."""
    federation = testing.toy_federation()
    server = Sides(federation, testing.toy_protocol(), 0).server()
    synthesis = SynthesisConfig(epochs=3, generator_steps=1, batch_size=8, width=2)
    config = DenseConfig(synthesis=synthesis, distil=DistilConfig(steps=1))
    members = [server.client_model(k) for k in range(2)]
    student = server.load(server.initial)
    work = Distillation(student, members, config, Plain(), server)
    make_images, seen = work.make_images, []

    def broken(generator, epoch):
        seen.append(generator)
        made = make_images(generator, epoch)
        if diverges and epoch == 0:
            torch.nn.init.constant_(next(generator.parameters()), torch.nan)
        return made

    monkeypatch.setattr(work, "make_images", broken)
    work.run()
    assert all_finite(seen[1])
    assert all_finite(seen[2])
    assert len(set(map(id, seen))) == 1 + diverges
    assert server.logged.get("diverged_generators", 0) == diverges


@pytest.mark.parametrize("name", ["fedftg", "dfrd", "fedgen"])
def test_with_server_steps_it_is_not(name, fedavg):
    ours = two_rounds(name, SETTINGS[name])
    changed = [
        not torch.equal(ours.state.weights[entry], value)
        for entry, value in fedavg.state.weights.items()
    ]
    assert any(changed)
