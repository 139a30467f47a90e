"""Where the time of a run goes."""

import pytest

from fedkd import testing
from fedkd.base.phases import PHASES, WAITING, Phases, measured, phase
from fedkd.plugins.registry import load_registry
from fedkd.simulation.executors import Choice
from fedkd.simulation.simulator import simulate


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_a_phase_within_another_stops_that_ones_hand():
    clock = Clock()
    phases = Phases(clock)
    with measured(phases, "bookkeeping"):
        clock.now += 1
        with phase("local"):
            clock.now += 10
            with phase("data"):
                clock.now += 100
            clock.now += 20
        clock.now += 2
    expected = dict.fromkeys(PHASES, 0.0)
    assert phases.result() == {**expected, "bookkeeping": 3, "local": 30, "data": 100}


def test_a_phase_ends_where_something_is_raised():
    clock = Clock()
    phases = Phases(clock)

    def fail():
        with measured(phases, "server"):
            clock.now += 1
            raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        fail()
    clock.now += 5
    with phase("local"):
        clock.now += 7
    assert phases.seconds["server"] == 1
    assert phases.seconds["local"] == 0  # no clock was running


def test_another_clock_counts_for_itself_and_is_added():
    clock = Clock()
    outer, inner = Phases(clock), Phases(clock)
    with measured(outer, WAITING):
        clock.now += 1
        with measured(inner, "local"):
            clock.now += 4
    outer.add(inner.seconds)
    assert outer.seconds[WAITING] == 5
    assert outer.result()["local"] == 4


@pytest.mark.parametrize("executor", ["serial", "processes"])
def test_the_phases_of_a_run_are_its_time(executor):
    strategy, _ = load_registry().strategy("fedavg")
    choice = Choice(executor, workers=2, profile=True)
    result = simulate(
        strategy,
        testing.toy_federation(),
        testing.toy_protocol(3),
        seed=0,
        executor=choice,
    )
    found = result.metrics["phases"]
    assert list(found) == list(PHASES)
    assert all(
        found[name] > 0 for name in PHASES if name not in {"bookkeeping", "server"}
    )
    assert "phases" not in result.metrics["clients"][0]
    if executor == "serial":
        assert sum(found.values()) <= result.metrics["seconds"] * 1.05 + 0.01


def test_without_a_profile_nothing_is_said_of_phases():
    strategy, _ = load_registry().strategy("fedavg")
    protocol = testing.toy_protocol(1)
    result = simulate(strategy, testing.toy_federation(), protocol, seed=0)
    assert "phases" not in result.metrics


def test_a_run_that_is_resumed_goes_on_counting(tmp_path):
    strategy, _ = load_registry().strategy("fedavg")
    first = []

    def stop(metrics):
        first.append(metrics["phases"])
        if metrics["round"] == 2:
            raise KeyboardInterrupt

    def run(on_round):
        return simulate(
            strategy,
            testing.toy_federation(),
            testing.toy_protocol(3),
            seed=0,
            folder=tmp_path,
            checkpoint_every=1,
            executor=Choice(profile=True),
            on_round=on_round,
        )

    with pytest.raises(KeyboardInterrupt):
        run(stop)
    result = run(None)
    assert len(result.history) == 1
    assert result.metrics["phases"]["local"] > first[-1]["local"]
