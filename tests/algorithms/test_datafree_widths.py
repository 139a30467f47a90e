"""FedFTG and DFRD where the clients' models are nested sub-models of the server's."""

import pytest
import torch

from fedkd import testing
from fedkd.party import ModelSpec
from fedkd.plugins.registry import load_registry
from fedkd.simulation.federation import Federation
from fedkd.simulation.requirements import reason_to_skip
from fedkd.simulation.simulator import simulate

REGISTRY = load_registry()
QUICK = {
    "fedftg": {"generator": {"width": 2}, "distil": {"steps": 2, "batch_size": 8}},
    "dfrd": {"generator": {"width": 2}, "distil": {"steps": 2, "batch_size": 8}},
}
STILL = {name: {"distil": {"steps": 0}} for name in QUICK}


def nested_federation(widths=(1.0, 0.5, 0.25)):
    toy = testing.toy_federation()
    return Federation(
        toy.data,
        [c.indices.numpy() for c in toy.clients],
        [shard.numpy() for shard in toy.test_shards],
        [ModelSpec("cnn", {"width": width}) for width in widths],
        toy._factory,
        server=ModelSpec("cnn", {"width": 1.0}),
    )


def run(name, options, federation, rounds=2):
    strategy, _ = REGISTRY.strategy(name, options)
    protocol = testing.toy_protocol(rounds)
    assert reason_to_skip(strategy.requires, federation, protocol.buffers) is None
    return simulate(strategy, federation, protocol, seed=0)


def same(first, second):
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) for name, value in first.items()
    )


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("scheme", ["static", "rolling", "random"])
def test_the_global_model_is_distilled_whole(name, scheme):
    result = run(name, {"aggregate": scheme, **QUICK[name]}, nested_federation())
    shapes = {n: v.shape for n, v in result.state.weights.items()}
    whole = run("fedavg", {}, testing.toy_federation()).state.weights
    assert shapes == {n: v.shape for n, v in whole.items()}
    rows = result.history[-1]["clients"]
    assert rows[0]["bytes_up"] > 2 * rows[1]["bytes_up"] > 4 * rows[2]["bytes_up"]


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize("scheme", ["static", "rolling"])
def test_without_server_steps_it_is_fedavg_on_the_same_widths(name, scheme):
    federation = nested_federation()
    result = run(name, {"aggregate": scheme, **STILL[name]}, federation)
    expected = run("fedavg", {"aggregate": scheme}, federation)
    assert same(result.state.weights, expected.state.weights)


@pytest.mark.parametrize("name", QUICK)
def test_at_full_width_it_is_itself(name):
    federation = testing.toy_federation()
    result = run(name, {"aggregate": "rolling", **QUICK[name]}, federation)
    expected = run(name, QUICK[name], federation)
    assert same(result.state.weights, expected.state.weights)
