"""Averages of model states, by literal numbers."""

import pytest
import torch
from torch import nn

from fedkd.models.cnn import Cnn
from fedkd.models.resnet import ResNet18
from fedkd.ops.averaging import (
    batch_norm_entries,
    buffer_entries,
    class_weights,
    normalised,
    weighted_average,
)

COUNTS = torch.tensor([[30, 0, 10], [10, 20, 0]])


def state(value, dtype=torch.float32):
    return {"w": torch.tensor([value], dtype=dtype)}


def random_state(seed):
    torch.manual_seed(seed)
    return Cnn.build((1, 8, 8), 3).state_dict()


def test_weights_are_normalised_in_float64():
    shares = normalised([1, 3])
    assert shares.dtype == torch.float64
    assert shares.tolist() == [0.25, 0.75]
    assert normalised(torch.tensor([1, 3])).tolist() == [0.25, 0.75]


@pytest.mark.parametrize(
    "weights", [[0, 0], [], [1, -1], [2, -1], [float("nan"), 1], [float("inf"), 1]]
)
def test_weights_that_give_no_average_are_refused(weights):
    with pytest.raises(ValueError, match="cannot average with the weights"):
        normalised(weights)


def test_zero_and_one_with_weights_one_and_three_give_three_quarters():
    assert weighted_average([state(0.0), state(1.0)], [1, 3])["w"].item() == 0.75


def test_whole_numbers_are_averaged_and_truncated_to_their_own_type():
    got = weighted_average([state(4, torch.int64), state(8, torch.int64)], [3, 1])["w"]
    assert got.item() == 5
    assert got.dtype == torch.int64
    got = weighted_average([state(4, torch.int64), state(7, torch.int64)], [1, 1])["w"]
    assert got.item() == 5
    got = weighted_average([state(-4, torch.int32), state(-7, torch.int32)], [1, 1])[
        "w"
    ]
    assert got.item() == -5


@pytest.mark.parametrize("weights", [[1, 1, 1], [0.1, 0.2, 0.7], [3, 7, 11]])
@pytest.mark.parametrize("value", [7, -7, 29, 100_003])
def test_equal_whole_numbers_stay_what_they_are(weights, value):
    states = [state(value, torch.int64)] * 3
    assert weighted_average(states, weights)["w"].item() == value


@pytest.mark.parametrize("weight", [1, 3, 0.1, 12345])
def test_one_client_comes_back_bit_for_bit(weight):
    only = random_state(0) | {"big": torch.tensor([2**60 + 1])}
    got = weighted_average([only], [weight])
    assert got.keys() == only.keys()
    for name, value in only.items():
        assert torch.equal(got[name], value), name
        assert got[name].data_ptr() != value.data_ptr()


def test_a_client_with_all_the_weight_comes_back_bit_for_bit():
    states = [random_state(0), random_state(1), random_state(2)]
    got = weighted_average(states, [0, 17, 0])
    assert all(torch.equal(got[name], value) for name, value in states[1].items())


def test_equal_states_stay_equal_within_rounding():
    same = random_state(0)
    got = weighted_average([same] * 7, [1, 2, 3, 4, 5, 6, 7])
    for name, value in same.items():
        torch.testing.assert_close(got[name], value, atol=1e-7, rtol=1e-6)


def test_the_order_of_the_clients_is_irrelevant_within_rounding():
    states, weights = [random_state(k) for k in range(3)], [5, 2, 9]
    got = weighted_average(states, weights)
    swapped = weighted_average(states[::-1], weights[::-1])
    for name, value in got.items():
        torch.testing.assert_close(swapped[name], value)


def test_values_that_are_not_finite_do_not_spread_from_weight_zero():
    got = weighted_average([state(float("nan")), state(1.0), state(3.0)], [0, 1, 1])
    assert got["w"].item() == 2.0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_floats_keep_their_type(dtype):
    got = weighted_average([state(1.0, dtype), state(2.0, dtype)], [1, 1])["w"]
    assert got.dtype == dtype
    assert got.item() == 1.5


def test_the_inputs_are_not_changed():
    first, second = state(1.0), state(2.0)
    weighted_average([first, second], [1, 1])
    assert (first["w"].item(), second["w"].item()) == (1.0, 2.0)


def test_states_are_taken_one_at_a_time():
    alive = []

    def stream():
        for k in range(4):
            alive.append(k)
            yield state(float(k))
            # The next one is asked for when this one has been added.
            assert alive == list(range(k + 1))

    assert weighted_average(stream(), [1, 1, 1, 1])["w"].item() == 1.5


def test_states_and_weights_of_different_number_are_refused():
    with pytest.raises(ValueError, match=r"shorter|longer"):
        weighted_average([state(1.0), state(2.0)], [1, 1, 1])


def test_states_of_different_models_are_refused_by_the_entry():
    other = {"w": torch.zeros(1), "extra": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"not in all of them: extra"):
        weighted_average([state(1.0), other], [1, 1])
    with pytest.raises(ValueError, match=r"not in all of them: extra"):
        weighted_average([other, state(1.0)], [1, 1])


def test_an_average_carries_no_graph():
    parameter = {"w": nn.Parameter(torch.ones(1))}
    assert not weighted_average([parameter, state(1.0)], [1, 1])["w"].requires_grad
    assert not weighted_average([parameter], [1])["w"].requires_grad


def test_class_weights_are_those_of_the_fixture():
    expected = torch.tensor([[0.75, 0, 1], [0.25, 1, 0]], dtype=torch.float64)
    assert torch.equal(class_weights(COUNTS), expected)


def test_class_weights_of_a_class_that_nobody_has_are_zero_and_not_nan():
    tau = class_weights(torch.tensor([[2, 0], [2, 0]]))
    assert tau.tolist() == [[0.5, 0.0], [0.5, 0.0]]


def test_batch_norm_is_found_by_type_also_in_shortcuts():
    model = ResNet18.build((3, 8, 8), 10, width=0.05)
    entries = batch_norm_entries(model)
    assert len(entries) == 20 * 5
    shortcuts = {name for name in entries if ".shortcut." in name}
    assert len(shortcuts) == 3 * 5
    assert entries < set(model.state_dict())


def test_group_norm_is_no_batch_norm():
    assert batch_norm_entries(Cnn.build((1, 8, 8), 3, norm="group")) == frozenset()


def test_a_model_that_is_a_batch_norm_has_no_path_in_front():
    assert batch_norm_entries(nn.BatchNorm1d(2)) == set(nn.BatchNorm1d(2).state_dict())


def test_buffers_are_the_entries_that_are_no_parameters():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    model.register_buffer("kept", torch.zeros(1))
    model.register_buffer("passing", torch.zeros(1), persistent=False)
    statistics = {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
    assert buffer_entries(model) == statistics | {"kept"}
