"""Reading and writing the head of a classifier, whatever its layers are called."""

import pytest
import torch
from torch import nn

from fedkd.errors import ConfigError
from fedkd.ops.heads import feature_size, head_entries, head_of, load_head, read_head
from fedkd.registry import load_registry

REGISTRY = load_registry()


def model(name, **options):
    return REGISTRY.resolve("models", name)((3, 32, 32), 10, **options)


class Odd(nn.Module):
    """A head of two layers with names of their own, and a layer that is not used."""

    feature_size = 3

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(4, 2)
        self.body = nn.Linear(5, 3)
        self.first = nn.Linear(3, 4)

    def head(self, features):
        return self.last(self.first(features).relu())

    def forward(self, x):
        return self.head(self.body(x))


def test_the_head_is_what_logits_of_features_depend_on():
    names = head_entries(Odd())
    assert names == ["last.weight", "last.bias", "first.weight", "first.bias"]


@pytest.mark.parametrize("name", ["cnn", "resnet18", "mobilenet", "vit"])
def test_models_of_the_zoo_have_one_linear_head(name):
    shapes = [p.shape for p in read_head(model(name, feature_size=24)).values()]
    assert shapes == [(10, 24), (10,)]


def test_heads_of_different_architectures_fit_each_other():
    one, two = model("cnn", feature_size=24), model("mlp", feature_size=24)
    load_head(two, read_head(one))
    features = torch.randn(2, 24)
    assert torch.equal(head_of(one)(features), head_of(two)(features))
    assert feature_size(one) == feature_size(two) == 24


def test_finding_the_head_leaves_no_gradient():
    odd = Odd()
    head_entries(odd)
    assert all(p.grad is None for p in odd.parameters())


def test_the_head_is_found_where_gradients_are_off():
    odd = Odd()
    with torch.no_grad():
        assert len(head_entries(odd)) == 4


def test_it_maps_features_to_the_models_own_logits():
    odd, x = Odd(), torch.randn(6, 5)
    torch.testing.assert_close(head_of(odd)(odd.body(x)), odd(x))


def test_a_head_travels_by_position_and_nothing_else_changes():
    one, two = Odd(), Odd()
    body = two.body.weight.detach().clone()
    assert load_head(two, read_head(one)) is two
    features = torch.randn(6, 3)
    assert torch.equal(two.head(features), one.head(features))
    assert torch.equal(two.body.weight, body)


def test_what_was_read_is_a_copy():
    odd = Odd()
    kept = read_head(odd)
    with torch.no_grad():
        odd.last.weight.zero_()
    assert kept["0"].abs().sum() > 0
    assert not kept["0"].requires_grad


def test_heads_of_other_shapes_are_refused():
    other = Odd()
    other.first = nn.Linear(3, 7)
    other.last = nn.Linear(7, 2)
    with pytest.raises(ConfigError, match="cannot share the head: Odd has parameters"):
        load_head(Odd(), read_head(other))


def test_models_without_features_are_refused():
    with pytest.raises(ConfigError, match="has no feature_size and head"):
        feature_size(nn.Linear(2, 2))
