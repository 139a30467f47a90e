"""Every strategy goes on with the answers that there are; honest ones are let in."""

import functools
import math

import pytest
from strategy_settings import SETTINGS

from fedkd import simulate, testing
from fedkd.data.images import ClientData
from fedkd.plugins.registry import load_registry
from fedkd.simulation.executors.base import Serial
from fedkd.strategy import Preset

REGISTRY = load_registry()
ROUNDS = 3


class Dropping(Serial):
    """The turns of all clients, of which some answers never arrive."""

    name = "dropping"

    def answers(self, orders):
        silent = {0: (0, 1), 1: (0,), 2: ()}[orders.round.index]
        for k, answer in super().answers(orders):
            if k not in silent:
                yield k, answer


@functools.cache
def names():
    """Return a name for each class that is registered, and that of calibrated FedAvg."""
    seen = {}
    for name in REGISTRY.entries("strategies"):
        target = REGISTRY.resolve("strategies", name)
        kind = target.strategy if isinstance(target, Preset) else target
        seen.setdefault(kind, name)
    return [*seen.values(), "fedavg"]


def uneven():
    """Return a federation whose client 0 has images of one class, and the others of two."""
    world = testing.toy_federation()
    whole = world.clients[0]
    labels = world.data.y_train[whole.indices]
    world.clients[0] = ClientData(world.data, whole.indices[labels == 1])
    return world


@pytest.mark.parametrize("name", names())
def test_a_round_with_fewer_answers_is_a_round(name):
    strategy = REGISTRY.strategy(name, SETTINGS.get(name, {}))[0]
    result = simulate(
        strategy, uneven(), testing.toy_protocol(ROUNDS), seed=2, executor=Dropping
    )
    sizes = [len(line["clients"]) for line in result.history]
    # Pooled, there is one client, and it is silent.
    assert sizes == ([0, 0, 1] if strategy.pools_clients else [1, 2, 3])
    for line in result.history:
        assert not [row for row in line["clients"].values() if "rejected" in row]
        assert "rejected" not in line
        accuracy = line["global_accuracy"]
        assert accuracy is None or math.isfinite(accuracy)
