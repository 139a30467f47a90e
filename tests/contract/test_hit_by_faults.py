"""Every strategy comes to an end, done or diverged with a reason, whatever goes wrong.

Each meets all faults at once, and one of the ways in which an answer can be changed; the
packaged suite ``faults`` has every strategy with every fault alone.
"""

import itertools

import pytest
from strategy_settings import SETTINGS
from test_missing_answers import REGISTRY, names

from fedkd import simulate, testing
from fedkd.errors import DivergedError
from fedkd.simulation.faults.config import COUNTED

SHARE = 0.3
BESIDE = {
    "drop": SHARE,
    "straggle": {"share": SHARE, "work": 0.5},
    "late": SHARE,
    "duplicate": SHARE,
    "label_flip": SHARE,
    "backdoor": {"share": SHARE, "size": 2},
}
KINDS = ("extra", "shape", "missing", "scale", "dtype", "nan", "sign", "inf", "noise")
MET = list(zip(names(), itertools.cycle(KINDS)))


@pytest.mark.parametrize(("name", "kind"), MET, ids=[f"{n}-{k}" for n, k in MET])
def test_a_run_in_which_everything_goes_wrong_comes_to_an_end(name, kind):
    strategy = REGISTRY.strategy(name, SETTINGS.get(name, {}))[0]
    faults = {**BESIDE, "corrupt": {"share": SHARE, "kind": kind}}
    world = testing.toy_federation(5), testing.toy_protocol(2, 5, faults=faults)
    result, reason = None, ""
    try:
        result = simulate(strategy, *world, seed=1)
    except DivergedError as error:
        reason = str(error)
    if result is None:
        assert "not finite" in reason or "became" in reason
        return
    asked = set() if strategy.pools_clients else set(COUNTED)
    counted = {key for key in result.metrics if key.startswith("faults_")}
    assert counted == asked - {"faults_availability"}
    assert strategy.pools_clients or result.metrics["faults_corrupt"] > 0
