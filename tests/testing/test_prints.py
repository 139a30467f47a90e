"""Fingerprints see every bit, and say where two values differ."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from fedkd.testing.prints import difference, fingerprint


@dataclass(frozen=True)
class Tree:
    weights: dict
    seen: tuple = ()


class Plain:
    def __init__(self, number):
        self.number = number
        self.me = self


ZERO = torch.zeros(2)


@pytest.mark.parametrize(
    ("one", "other", "path"),
    [
        (Tree({"w": ZERO}), Tree({"w": -ZERO}), "weights.w"),
        (Tree({"w": ZERO}), Tree({"w": ZERO.double()}), "weights.w"),
        (Tree({"w": ZERO}), Tree({"w": ZERO[None]}), "weights.w"),
        (Tree({"w": ZERO}), Tree({"w": ZERO, "v": ZERO}), "weights.v"),
        (Tree({}, (1, 2)), Tree({}, (1, 3)), "seen.1"),
        (Tree({}, (1,)), Tree({}, [1]), "seen"),
        (Tree({}, (1,)), Tree({}, (1.0,)), "seen.0"),
        (Tree({}, (True,)), Tree({}, (1,)), "seen.0"),
        ({"a": None}, {"a": "None"}, "a"),
        (np.zeros(2), np.zeros(2, dtype=np.float32), "its value"),
        (Plain(1), Plain(2), "number"),
        ({1, 2}, {1, 3}, "its value"),
    ],
)
def test_a_difference_has_a_path(one, other, path):
    assert difference(fingerprint(one), fingerprint(other)) == path


def test_what_is_equal_has_no_difference():
    nan = torch.tensor([float("nan"), 1.0], dtype=torch.bfloat16)
    one, other = ({"w": [nan.clone()], "s": {"b", "a"}, "n": 0.1} for _ in range(2))
    assert difference(fingerprint(one), fingerprint(other)) is None


def test_a_module_is_its_state():
    one, other = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    other.load_state_dict(one.state_dict())
    assert difference(fingerprint(one), fingerprint(other)) is None
    other.bias.data.add_(1)
    assert difference(fingerprint(one), fingerprint(other)) == "bias"


class Chooser:
    def __init__(self, number):
        self.number = number
        self.choice = self.choose

    def choose(self):
        return self.number


def test_a_bound_method_is_its_name_and_what_it_is_bound_to():
    assert difference(fingerprint(Chooser(1)), fingerprint(Chooser(1))) is None
    assert difference(fingerprint(Chooser(1)), fingerprint(Chooser(2))) == "number"
    other = Chooser(1)
    other.choice = other.__init__
    assert difference(fingerprint(Chooser(1)), fingerprint(other)) == "choice.choose"
