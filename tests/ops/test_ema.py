"""The moving average of weights."""

import pytest
import torch
from torch import nn

from fedkd.ops.ema import WeightAverage


class Number(nn.Module):
    """One weight, and a buffer that counts."""

    def __init__(self, value):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(float(value), dtype=torch.float64))
        self.register_buffer("count", torch.tensor(0))


def averaged(values, decay, corrected):
    module = Number(2.0)
    average = WeightAverage(module, decay, corrected=corrected)
    for value in values:
        module.weight.data.fill_(value)
        module.count += 1
        average.update(module)
    average.copy_to(module)
    return module


@pytest.mark.parametrize("steps", [1, 2, 150])
def test_constant_weights_leave_a_known_share_of_the_start(steps):
    p, q = 5.0, 2.0
    average = averaged([p] * steps, 0.99, corrected=False).weight.item()
    assert average == pytest.approx(p + (q - p) * 0.99**steps, abs=1e-12)


def test_after_150_steps_the_released_codes_average_holds_22_percent_of_the_start():
    average = averaged([0.0] * 150, 0.99, corrected=False).weight.item()
    assert average / 2.0 == pytest.approx(0.2215, abs=5e-5)


def test_the_corrected_average_forgets_the_start():
    assert averaged([5.0], 0.99, corrected=True).weight.item() == 5.0
    average = averaged([5.0] * 150, 0.99, corrected=True).weight.item()
    assert average == pytest.approx(5.0, abs=1e-12)


def test_the_corrected_average_weighs_by_powers_of_the_decay():
    average = averaged([1.0, 2.0, 4.0], 0.5, corrected=True).weight.item()
    assert average == pytest.approx((0.25 * 1 + 0.5 * 2 + 4) / 1.75, abs=1e-12)


def test_decay_zero_is_the_newest_weight():
    for corrected in (False, True):
        assert averaged([1.0, 3.0], 0.0, corrected).weight.item() == 3.0


def test_whole_numbers_are_copied():
    assert averaged([1.0] * 4, 0.9, corrected=True).count.item() == 4


def test_before_the_first_step_it_is_the_start():
    for corrected in (False, True):
        assert averaged([], 0.9, corrected).weight.item() == 2.0


def test_the_averaged_module_is_not_changed_by_an_update():
    module = Number(2.0)
    average = WeightAverage(module, 0.5)
    module.weight.data.fill_(4.0)
    average.update(module)
    assert module.weight.item() == 4.0
    assert average.weights()["weight"].item() == 3.0


def test_weights_are_copies():
    average = WeightAverage(Number(2.0), 0.5)
    average.weights()["weight"].fill_(9.0)
    assert average.weights()["weight"].item() == 2.0


@pytest.mark.parametrize("decay", [-0.1, 1.0, 2.0])
def test_a_decay_that_is_none_is_refused(decay):
    with pytest.raises(ValueError, match=r"expected a number in \[0, 1\)"):
        WeightAverage(Number(1.0), decay)
