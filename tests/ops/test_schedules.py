"""Learning rates over time: one formula, and torch's cosine to the bit."""

from itertools import islice

import pytest
import torch

from fedkd.config import build
from fedkd.errors import ConfigError
from fedkd.ops.schedules import Schedule
from fedkd.ops.training import TrainingConfig


def first(number, schedule, lr, time=0):
    return list(islice(schedule.course(lr, time), number))


def test_a_rate_is_constant_unless_told():
    assert first(4, Schedule(), 0.3) == [0.3, 0.3, 0.3, 0.3]


def test_decay_is_a_factor_per_unit_and_rates_take_over():
    schedule = Schedule(decay=0.5, rates={3: 8.0, 5: 64.0})
    assert first(6, schedule, 1.0) == [1, 0.5, 0.25, 1, 0.5, 2]
    assert first(2, schedule, 1.0, time=4) == [0.5, 2]


def test_the_cosine_in_numbers():
    rates = first(6, Schedule(cosine=4), 2.0)
    # 2 (1 + cos(pi t / 4)) / 2
    expected = [2.0, 1.7071067811865475, 1.0, 0.2928932188134524, 0.0, 0.0]
    assert rates == pytest.approx(expected, abs=1e-15)
    assert rates[4:] == [0.0, 0.0]


@pytest.mark.parametrize("total", [1, 2, 25, 300, 1500])
@pytest.mark.parametrize("lr", [0.02, 1e-3])
def test_the_cosine_is_torchs_to_the_bit(total, lr):
    sgd = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(sgd, total)
    sgd.step()
    for t, rate in enumerate(first(total + 1, Schedule(cosine=total), lr)):
        assert rate == sgd.param_groups[0]["lr"] == Schedule(cosine=total).rate(lr, t)
        theirs.step()


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ({-1: 0.1}, "Expected 0 or more"),
        ({3: 0}, "Expected more than 0"),
        ({3: -0.1}, "Expected more than 0"),
        ({3: float("inf")}, "finite number"),
    ],
)
def test_rates_are_above_0_and_hold_from_a_time_that_comes(rates, expected):
    with pytest.raises(ConfigError, match=rf"schedule.rates.*{expected}"):
        build(Schedule, {"rates": rates}, "schedule")
    given = {"local_steps": 1, "lr_from_round": rates}
    with pytest.raises(ConfigError, match=rf"training.lr_from_round.*{expected}"):
        build(TrainingConfig, given, "training")


@pytest.mark.parametrize("other", [{"decay": 0.9}, {"rates": {1: 0.1}}])
def test_a_cosine_stands_alone(other):
    with pytest.raises(ConfigError, match="either cosine or decay and rates"):
        build(Schedule, {"cosine": 3, **other}, "schedule")
