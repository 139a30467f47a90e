"""Every need that a strategy can declare has a world in which it is not met."""

import dataclasses

import pytest

from fedkd import ConfigError, ModelSpec, Requires, simulate, testing
from fedkd.algorithms.local import Local
from fedkd.testing import checks, needs

DECLARED = {
    "one_architecture": True,
    "nested_widths": True,
    "equal_feature_size": True,
    "shared_layers": 1,
    "batch_norm": True,
    "public_data": True,
    "public_data_at_clients": True,
    "buffers": ("local",),
    "images": True,
    "rounds": 2,
    "clients": 2,
    "builds": (ModelSpec("dcgan-generator"),),
}


def needing(**declared):
    class Needy(Local):
        requires = Requires(**declared)

    return Needy


def test_every_field_of_requires_has_a_world_that_violates_it():
    fields = {field.name for field in dataclasses.fields(Requires)}
    assert fields == set(needs.VIOLATIONS) == set(DECLARED)


@pytest.mark.parametrize("need", DECLARED)
def test_a_world_violates_its_need(need):
    strategy = needing(**{need: DECLARED[need]})()
    assert needs.needs_of(strategy.requires) == [need]
    violation = needs.VIOLATIONS[need]
    with pytest.raises(ConfigError, match=violation.words):
        simulate(strategy, *violation.world(strategy.requires), 0)


@pytest.mark.parametrize("need", DECLARED)
def test_who_needs_nothing_runs_in_every_such_world(need):
    requires = Requires(**{need: DECLARED[need]})
    result = simulate(Local(), *needs.VIOLATIONS[need].world(requires), 0)
    assert len(result.history) == needs.VIOLATIONS[need].rounds


@pytest.mark.parametrize("need", DECLARED)
def test_a_simulator_that_ignores_a_need_is_noticed(need, monkeypatch, tmp_path):
    for name in ("reason_to_skip", "_reason_in_inputs"):
        monkeypatch.setattr(
            f"fedkd.simulation.requirements.{name}", lambda *_, **__: None
        )
    with pytest.raises(AssertionError, match=f"went unsaid: {need}"):
        checks.needs_are_refused_with_a_reason(
            needing(**{need: DECLARED[need]}), tmp_path
        )


def test_without_a_need_the_check_says_that_it_does_not_apply(tmp_path):
    with pytest.raises(testing.NotApplicable, match="declares no need"):
        checks.needs_are_refused_with_a_reason(Local, tmp_path)


def test_a_strategy_for_one_buffer_policy_is_checked_under_it(tmp_path):
    checks.work_is_counted(needing(buffers=("local",)), tmp_path)


@pytest.mark.parametrize("need", ["public_data", "public_data_at_clients"])
def test_a_strategy_for_public_data_is_checked_where_there_is_some(need, tmp_path):
    checks.work_is_counted(needing(**{need: True}), tmp_path)
