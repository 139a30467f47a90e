"""The head of a classifier: what it is, and how it travels."""

import pytest
import torch
from torch import nn

from fedkd.errors import ConfigError, NotApplicableError
from fedkd.ops.heads import (
    feature_size,
    head_entries,
    head_of,
    load_head,
    nonnegative_features,
    read_head,
)


class Small(nn.Module):
    feature_size = 2

    def __init__(self, classes=3):
        super().__init__()
        self.trunk = nn.Linear(4, 2)
        self.top = nn.Linear(2, classes)

    def head(self, features):
        return self.top(features)


def test_the_head_maps_features_to_logits():
    model = Small()
    x = torch.randn(5, 2)
    assert torch.equal(head_of(model)(x), model.top(x))


def test_the_entries_of_the_head_are_found_by_what_logits_depend_on():
    assert head_entries(Small()) == ["top.weight", "top.bias"]


@torch.no_grad()
def test_the_entries_are_found_without_gradients_too():
    assert head_entries(Small()) == ["top.weight", "top.bias"]


def test_a_head_travels_by_position_and_leaves_the_rest():
    first, second = Small(), Small()
    trunk = second.trunk.weight.clone()
    sent = read_head(first)
    assert list(sent) == ["0", "1"]
    assert load_head(second, sent) is second
    assert torch.equal(second.top.weight, first.top.weight)
    assert torch.equal(second.top.bias, first.top.bias)
    assert torch.equal(second.trunk.weight, trunk)


def test_what_was_read_does_not_follow_the_model():
    model = Small()
    sent = read_head(model)
    with torch.no_grad():
        model.top.bias.add_(1)
    assert not torch.equal(sent["1"], model.top.bias)
    assert not sent["1"].requires_grad


def test_heads_of_another_shape_are_refused_with_both_shapes():
    with pytest.raises(ConfigError, match=r"\(3, 2\).*\(4, 2\).*heads of one kind"):
        load_head(Small(3), read_head(Small(4)))


def test_a_model_without_features_is_refused():
    assert feature_size(Small()) == 2
    with pytest.raises(NotApplicableError, match="but Linear is of one piece; give it"):
        feature_size(nn.Linear(2, 2))


def test_a_model_that_says_nothing_may_have_features_of_both_signs():
    model = Small()
    assert not nonnegative_features(model)
    model.nonnegative_features = True
    assert nonnegative_features(model)
