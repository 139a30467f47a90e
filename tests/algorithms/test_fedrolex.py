"""FedRolex: windows that roll."""

import pytest
import torch

from fedkd import testing
from fedkd.party import ModelSpec
from fedkd.plugins.registry import load_registry
from fedkd.simulation.sides import Sides
from fedkd.simulation.simulator import simulate
from fedkd.strategy import Round

REGISTRY = load_registry()
FAMILY = [ModelSpec("cnn"), *(ModelSpec("cnn", {"width": w}) for w in (0.5, 0.25))]


def sent(variant, turn):
    """Return the first convolution that client 1 gets in a round, and the whole one."""
    federation = testing.toy_federation(models=FAMILY)
    server = Sides(federation, testing.toy_protocol(), 0).server()
    strategy, _ = REGISTRY.strategy("fedrolex", {"variant": variant})
    state = strategy.init(server)
    down = strategy.broadcast(state, 1, Round(turn, 99, (1,)))
    return down.weights["body.0.weight"], state.weights["body.0.weight"]


@pytest.mark.parametrize("turn", [0, 1, 12, 17])
def test_in_round_t_a_client_gets_the_channels_t_plus_i(turn):
    part, whole = sent("paper", turn)
    assert torch.equal(part, whole[[(turn + i) % 16 for i in range(8)]])


@pytest.mark.parametrize("turn", [0, 1, 12, 17])
def test_the_released_code_goes_the_other_way(turn):
    part, whole = sent("code", turn)
    assert torch.equal(part, whole[torch.roll(torch.arange(16), turn % 16)[:8]])


def run(name, options, models=FAMILY, rounds=3):
    strategy, _ = REGISTRY.strategy(name, options)
    federation = testing.toy_federation(models=models)
    return simulate(strategy, federation, testing.toy_protocol(rounds), seed=3)


def test_the_first_round_is_heterofl_s_and_the_second_is_not():
    one, two = (run("fedrolex", {}, rounds=n).state.weights for n in (1, 2))
    other, far = (run("heterofl", {}, rounds=n).state.weights for n in (1, 2))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert any(not torch.equal(two[name], far[name]) for name in two)


def test_rolling_trains_channels_that_static_sub_models_never_reach():
    """Without a full client, HeteroFL leaves half of the channels as they were."""
    narrow = [ModelSpec("cnn", {"width": 0.5})]
    moved = {}
    for name in ("heterofl", "fedrolex"):
        strategy, _ = REGISTRY.strategy(name, {})
        federation = testing.toy_federation(models=narrow)
        federation.server_model = ModelSpec("cnn")
        end = simulate(strategy, federation, testing.toy_protocol(9), seed=0).state
        first = federation.build_spec(federation.server_model, 0).state_dict()
        entry = "body.0.weight"
        change = (end.weights[entry] - first[entry]).abs().flatten(1).sum(1)
        moved[name] = int((change > 0).sum())
    assert moved == {"heterofl": 8, "fedrolex": 16}
