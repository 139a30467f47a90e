"""The wrapper of strategies forwards everything, whatever is added to strategies."""

import inspect

import pytest

from fedkd import Requires, load_registry, simulate, testing
from fedkd.algorithms.central import Central
from fedkd.algorithms.fedavg import FedAvg
from fedkd.strategy import Strategy
from fedkd.testing.runs import recorded
from fedkd.testing.watching import public_methods

REGISTRY = load_registry()


class Notes(testing.Watcher):
    def __init__(self):
        super().__init__()
        self.titles = []

    def around(self, call, proceed):
        self.titles.append(str(call))
        return proceed()


@pytest.mark.parametrize("name", list(REGISTRY.entries("strategies")))
def test_a_watched_strategy_is_the_strategy_in_all_things(name):
    strategy = REGISTRY.strategy(name)[0]
    twin = testing.watched(strategy, Notes())
    assert type(twin) is type(strategy)
    methods = public_methods(type(strategy))
    public = {name for name in dir(strategy) if not name.startswith("_")}
    for attribute in (public - set(methods)) | set(vars(strategy)):
        assert getattr(twin, attribute) is getattr(strategy, attribute), attribute


def test_every_public_method_of_strategies_is_told():
    verbs = {"init", "broadcast", "local", "aggregate", "predictors", "personal"}
    verbs |= {"milestone", "gallery"}
    assert verbs <= set(public_methods(Strategy))
    strategy = FedAvg()
    twin = testing.watched(strategy, Notes())
    for name in public_methods(FedAvg):
        assert inspect.isfunction(vars(twin)[name]), name


def test_a_method_that_strategies_gain_later_is_forwarded_and_told(monkeypatch):
    def farewell(self, state, round):
        return f"farewell of {type(self).__name__}, {state}"

    monkeypatch.setattr(Strategy, "farewell", farewell, raising=False)
    monkeypatch.setattr(Strategy, "greets", True, raising=False)
    notes = Notes()
    twin = testing.watched(FedAvg(), notes)
    assert twin.farewell("state", 3) == "farewell of FedAvg, state"
    assert notes.titles == ["farewell (client 3)"]
    assert twin.greets


def test_attributes_set_from_the_config_are_forwarded():
    strategy, _ = REGISTRY.strategy("fedavg", {"aggregate": "rolling"})
    twin = testing.watched(strategy, Notes())
    assert twin.requires == Requires(
        nested_widths=True, buffers=("average", "reestimate")
    )
    assert twin.config.aggregate == "rolling"


def test_calls_have_a_title_with_client_and_round():
    notes = Notes()
    strategy = testing.watched(FedAvg(), notes)
    # Of two, nobody outvotes the other, and the server asks the strategy what to expect.
    simulate(strategy, testing.toy_federation(3), testing.toy_protocol(1, 3), 0)
    assert notes.titles[:9] == [
        "init",
        "broadcast (client 0, round 1)",
        "local (client 0, round 1)",
        "broadcast (client 1, round 1)",
        "local (client 1, round 1)",
        "broadcast (client 2, round 1)",
        "local (client 2, round 1)",
        "aggregate (round 1)",
        "predictors (round 1)",
    ]


def test_central_is_checked_as_itself():
    record = recorded(Central)
    assert [str(call) for call, _ in record.ups] == [
        f"local (client 0, round {number})" for number in (1, 2, 3)
    ]
    # 3 clients of 8 images: all of them are in the one client.
    assert {up.examples for _, up in record.ups} == {24}
