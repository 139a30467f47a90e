"""Every strategy runs on vectors, or is skipped there with the reason."""

import pytest
from strategy_settings import SETTINGS

from fedkd import testing
from fedkd.errors import NotApplicableError
from fedkd.plugins.registry import load_registry
from fedkd.simulation.simulator import simulate

REGISTRY = load_registry(quiet=True)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", sorted(REGISTRY.entries("strategies")))
def test_a_strategy_runs_on_vectors_or_says_before_the_first_round_why_not(name):
    strategy, _ = REGISTRY.strategy(name, SETTINGS.get(name, {}))
    world = testing.toy_federation(data=testing.toy_vectors(), models=("mlp",))
    rounds = max(1, strategy.requires.rounds)
    seen, reason = [], ""
    try:
        simulate(strategy, world, testing.toy_protocol(rounds), 0, on_round=seen.append)
    except NotApplicableError as error:
        reason = error.reason
    assert len(seen) == (0 if reason else rounds)
    assert not reason or ("images" in reason and "vectors of 6 values" in reason)
