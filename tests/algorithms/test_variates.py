"""SCAFFOLD and FedDyn: c is the mean of the variates, also where answers are lost."""

import pytest
import torch

from fedkd import load_registry, testing
from fedkd.algorithms.averaging import Update
from fedkd.algorithms.drift.variates import (
    Answered,
    Asked,
    Variates,
    in_time,
    keep,
    own,
)
from fedkd.simulation.simulator import Run
from fedkd.strategy import Round

CLIENTS, ROUNDS = 4, 8
LOSSES = {
    "none": {},
    "drop": {"faults": {"drop": 0.4}},
    "late": {"faults": {"late": {"share": 0.5, "rounds": 2}}},
    "both": {"faults": {"drop": 0.3, "late": 0.3}, "participation": 3},
    "left out": {
        "faults": {"corrupt": {"share": 0.3, "kind": "nan", "drawn": "round"}},
        "accept": {"finite": True},
    },
}


@pytest.mark.parametrize("how", LOSSES)
@pytest.mark.parametrize("name", ["scaffold", "feddyn"])
def test_c_is_the_mean_of_the_variates_that_clients_go_on_from(name, how):
    strategy, _ = load_registry().strategy(name, {})
    world = testing.toy_federation(CLIENTS)
    protocol = testing.toy_protocol(ROUNDS, CLIENTS, **LOSSES[how])
    run = Run.of(strategy, world, protocol, 0)
    variates = run.execute(None, 0, lambda _: None).state.besides
    sides, last = run.sides, Round(ROUNDS, ROUNDS + 1, ())
    own_of = []
    for k in range(CLIENTS):
        client = sides.client(k, protocol.training)
        own_of.append(own(client, variates.asked(k, last)))
    lost = how != "none" and any(
        run.sides.memories.recall(k)["variate"].round != variates.taken.get(k)
        for k in range(CLIENTS)
    )
    assert lost == (how != "none"), "no answer of a client is lost at the end"
    for n, c in variates.mean.items():
        assert c.abs().max() > 0
        mean = sum(each[n] for each in own_of) / CLIENTS
        torch.testing.assert_close(c, mean, rtol=1e-5, atol=1e-6)


class Remembering:
    """A client as far as its variate goes."""

    def __init__(self):
        self.memory = {}
        self.model = torch.nn.ParameterDict({"w": torch.ones(1)})


def weights(value):
    return {"w": torch.tensor([float(value)])}


def test_a_client_goes_on_from_the_variate_that_counts():
    """Its answers of the rounds 1 and 3 are taken, that of round 2 is not."""
    client = Remembering()
    assert own(client, Asked(None, 1, None)) == weights(0)
    keep(client, Asked(None, 1, None), weights(0), weights(5))
    second = Asked(None, 2, 1)
    assert own(client, second) == weights(5)
    keep(client, second, weights(5), weights(7))
    third = Asked(None, 3, 1)
    assert own(client, third) == weights(5)
    keep(client, third, weights(5), weights(8))
    assert own(client, Asked(None, 4, 3)) == weights(8)


def test_a_late_answer_counts_in_no_variate():
    now = Round(6, 9, (0, 1, 2))
    ups = {
        k: Update({}, 1, besides=Answered(None, made))
        for k, made in enumerate((6, 5, 6))
    }
    assert in_time(ups, now) == (0, 2)
    after = Variates(weights(1), {1: 3, 2: 4}).moved(weights(2), (0, 2), now)
    assert (after.mean, after.taken) == (weights(3), {0: 6, 1: 3, 2: 6})
    assert after.asked(1, now).taken == 3
    assert Variates(weights(1)).asked(1, now) == Asked(None, 6, None)


@pytest.mark.parametrize("name", ["scaffold", "feddyn"])
def test_a_round_of_late_answers_alone_leaves_c_as_it_was_with_any_average(name):
    options = {"average": "median"}
    strategy, _ = load_registry().strategy(name, options)
    protocol = testing.toy_protocol(2, 3, faults={"late": 1.0})
    run = Run.of(strategy, testing.toy_federation(3), protocol, 0)
    variates = run.execute(None, 0, lambda _: None).state.besides
    assert variates.taken == {}
    assert all(not c.any() for c in variates.mean.values())
