"""Every registered metric: documented, measured in one place, of use in a run."""

import json

import pytest

from fedkd import testing
from fedkd.metrics.metric_set import MetricSet
from fedkd.plugins.registry import load_registry
from fedkd.simulation.simulator import simulate

REGISTRY = load_registry()
NAMES = list(REGISTRY.entries("metrics"))
OPTIONS = {
    "rounds_to": {"target": 1},
    "bytes_to": {"target": 1},
    "accuracy_after": {"rounds": 1},
}
every_metric = pytest.mark.parametrize("name", NAMES)


@every_metric
@pytest.mark.parametrize("check", testing.METRIC_CHECKS, ids=lambda c: c.__name__)
def test_the_contract_holds(name, check, tmp_path):
    check(lambda: REGISTRY.metric(name, OPTIONS.get(name))[0], tmp_path)


@every_metric
def test_it_says_what_it_measures_in_a_sentence(name):
    metric, _ = REGISTRY.metric(name, OPTIONS.get(name))
    for column in metric.columns(name):
        assert column.about.endswith(".")
        assert column.unit


def test_a_run_measures_all_of_them_at_once():
    metrics = {n: REGISTRY.metric(n, OPTIONS.get(n))[0] for n in NAMES}
    strategy, _ = REGISTRY.strategy("fedavg")
    world = testing.toy_federation()
    line = simulate(
        strategy, world, testing.toy_protocol(1), 0, metrics=metrics
    ).metrics
    columns = MetricSet(metrics).columns
    assert columns.keys() < line.keys()
    json.dumps(line, allow_nan=False)
    assert [name for name, c in columns.items() if c.value(line) is None] == []
