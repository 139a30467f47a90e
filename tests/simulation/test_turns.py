"""A client's turn: what is recorded of it, and that a broadcast is sealed once."""

from dataclasses import dataclass

import pytest
import torch

from fedkd import testing
from fedkd.plugins.registry import load_registry
from fedkd.simulation import turns
from fedkd.simulation.sides import Sides
from fedkd.simulation.turns import Turns
from fedkd.strategy import Round, Strategy

REGISTRY = load_registry()


@dataclass(frozen=True)
class Seen:
    number: int
    weights: torch.Tensor


class Remembering(Strategy):
    def init(self, server):
        return Seen(0, torch.zeros(3))

    def broadcast(self, state, client_id, round):
        return state

    def local(self, down, client):
        client.memory["calls"] = client.memory.get("calls", 0) + 1
        client.count_examples(5)
        client.log("calls", client.memory["calls"])
        return Seen(client.id, torch.rand(2))

    def aggregate(self, state, ups, server, round):
        return state

    def predictors(self, state, server):
        return {"global": server.load(server.initial)}


@pytest.fixture
def taken():
    strategy = Remembering()
    sides = Sides(testing.toy_federation(), testing.toy_protocol(), 0)
    return Turns(strategy, sides, "toy"), strategy.init(sides.server())


def test_a_turn_is_counted_and_its_memory_kept(taken):
    work, state = taken
    orders = work.orders(state, Round(0, 2, (0, 1)))
    first, other, again = (work.do(k, orders) for k in (0, 1, 0))
    assert first.up.number == 0
    assert list(first.record) == [
        "bytes_down", "bytes_up", "examples", "seconds", "logged",
    ]  # fmt: skip
    found = {k: v for k, v in first.record.items() if k != "seconds"}
    counted = {"bytes_down": 12, "bytes_up": 8, "examples": 5}
    assert found == counted | {"logged": {"calls": 1.0}}
    assert [one.record["logged"]["calls"] for one in (other, again)] == [1.0, 2.0]


def test_the_numbers_of_a_turn_hang_on_round_and_client_only(taken):
    work, state = taken
    orders = work.orders(state, Round(3, 5, (0, 1)))
    first = work.do(1, orders).up.weights
    torch.rand(7)
    work.do(0, orders)
    assert torch.equal(work.do(1, orders).up.weights, first)
    assert not torch.equal(work.do(0, orders).up.weights, first)


def test_a_broadcast_to_all_is_sealed_once(taken, monkeypatch):
    work, state = taken
    senders = []
    real = turns.seal
    monkeypatch.setattr(
        turns, "seal", lambda tree, sender: senders.append(sender) or real(tree, sender)
    )
    orders = work.orders(state, Round(0, 1, (0, 1, 2)))
    for k in (0, 1, 2):
        work.do(k, orders)
    assert senders.count("toy.broadcast") == 1
