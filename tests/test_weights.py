"""Weights in and out of a module: what ``state_dict`` gives, whatever the module does."""

import gc
import weakref

import pytest
import torch
from torch import nn

from fedkd import weights as module
from fedkd.errors import ContractError
from fedkd.weights import copy_weights, entries, read_weights


class Odd(nn.Module):
    """Shared layers, a parameter of None, and buffers that are not stored."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 3, bias=False)
        self.again = self.first
        self.norm = nn.BatchNorm1d(3)
        self.plain = nn.BatchNorm1d(3, affine=False)
        self.own = nn.Parameter(torch.rand(2))
        self.register_parameter("missing", None)
        self.register_buffer("passing", torch.rand(2), persistent=False)
        self.register_buffer("kept", torch.rand(2))


def drop_bias(module, state, prefix, local_metadata):
    del state[f"{prefix}bias"]


class Hooked(nn.Linear):
    def __init__(self):
        super().__init__(2, 2)
        self._register_state_dict_hook(drop_bias)


class Extra(nn.Linear):
    def __init__(self):
        super().__init__(2, 2)

    def get_extra_state(self):
        return torch.tensor([7.0])

    def set_extra_state(self, state):
        pass


MODELS = {
    "odd": Odd,
    "nested": lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sequential(Odd(), Odd())),
    "extra state": lambda: nn.Sequential(Extra(), nn.Linear(2, 2)),
    "hook": lambda: nn.Sequential(Hooked(), nn.Linear(2, 2)),
    "empty": nn.Identity,
}


def assert_as_state_dict(model):
    expected = model.state_dict(keep_vars=True)
    found = dict(entries(model))
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert name.endswith("_extra_state") or found[name] is value, name


@pytest.mark.parametrize("name", MODELS)
def test_entries_are_those_of_state_dict_in_its_order(name):
    model = MODELS[name]()
    for _ in range(2):  # the second time from the layout that is kept
        assert_as_state_dict(model)


def test_what_comes_goes_or_is_exchanged_is_noticed():
    model = MODELS["nested"]()
    assert_as_state_dict(model)
    model.add_module("new", nn.Linear(2, 2))
    assert_as_state_dict(model)
    model.new = nn.Linear(2, 2)
    assert_as_state_dict(model)
    del model.new
    assert_as_state_dict(model)
    model[1][0].own = nn.Parameter(torch.rand(2))
    assert_as_state_dict(model)
    model[0].bias = None
    assert_as_state_dict(model)
    model[0].register_buffer("late", torch.rand(1))
    assert_as_state_dict(model)


def test_what_is_read_is_a_copy_without_graph():
    model = Odd()
    found = read_weights(model)
    before = found["own"].clone()
    with torch.no_grad():
        model.own.fill_(5.0)
    assert torch.equal(found["own"], before)
    assert not any(value.requires_grad for value in found.values())
    assert found["norm.num_batches_tracked"].dtype == torch.int64


def test_weights_are_copied_in_place_and_the_others_stay():
    model = Odd()
    places = {name: value.data_ptr() for name, value in entries(model)}
    kept = model.kept.clone()
    copy_weights({"own": torch.tensor([1.0, 2.0])}, model)
    assert model.own.tolist() == [1.0, 2.0]
    assert model.own.requires_grad
    assert torch.equal(model.kept, kept)
    assert {name: value.data_ptr() for name, value in entries(model)} == places
    with pytest.raises(ContractError, match="unknown"):
        copy_weights({"unknown": torch.rand(1)}, model)


def test_an_entry_that_does_not_fit_is_named_and_nothing_is_copied():
    model = Odd()
    before = model.kept.clone()
    wrong = {"kept": torch.zeros(2), "own": torch.rand(3)}
    with pytest.raises(ContractError, match=r"own of shape \[3\]; .* expects \[2\]"):
        copy_weights(wrong, model)
    with pytest.raises(ContractError, match=r"own of shape \[1\]"):
        copy_weights({"own": torch.rand(1)}, model)  # torch would spread it out
    assert torch.equal(model.kept, before)
    with pytest.raises(ContractError, match=r"'ownn'.* Did you mean 'own'"):
        copy_weights({"ownn": torch.rand(2)}, model)
    with pytest.raises(ContractError, match="found Tensor in the place of weights"):
        copy_weights(torch.rand(2), model)


def test_a_round_trip_changes_no_bit():
    first, second = Odd(), Odd()
    copy_weights(read_weights(first), second)
    for name, value in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], value)


def test_a_module_that_was_read_does_not_live_on():
    model = Odd()
    dict(entries(model))
    assert model in module._layouts
    ghost = weakref.ref(model)
    del model
    gc.collect()
    assert ghost() is None
