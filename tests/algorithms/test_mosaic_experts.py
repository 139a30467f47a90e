"""Mosaic's class experts as averages of parameters, by literal numbers."""

import torch

from fedkd.algorithms.mosaic.experts import class_experts
from fedkd.models.cnn import Cnn

COUNTS = torch.tensor([[30, 0, 10], [10, 20, 0]])


def state(value):
    return {"w": torch.tensor([value])}


def random_state(seed):
    torch.manual_seed(seed)
    return Cnn.build((1, 8, 8), 3).state_dict()


def test_an_expert_is_the_average_by_class_counts():
    experts = class_experts([state(1.0), state(5.0)], COUNTS)
    assert experts[0]["w"].item() == 0.75 * 1 + 0.25 * 5


def test_the_expert_of_a_class_that_one_client_holds_is_its_state_bit_for_bit():
    states = [random_state(0), random_state(1)]
    experts = class_experts(states, COUNTS)
    for label, client in ((1, 1), (2, 0)):
        for name, value in states[client].items():
            assert torch.equal(experts[label][name], value), name


def test_classes_that_are_held_in_equal_shares_have_one_expert():
    counts = torch.tensor([[6, 0, 2, 0], [3, 5, 1, 9]])
    experts = class_experts([state(1.0), state(4.0)], counts)
    assert [experts[c]["w"].item() for c in range(4)] == [2.0, 4.0, 2.0, 4.0]
    assert experts[0] is experts[2]
    assert experts[1] is experts[3]


def test_a_class_without_images_has_no_expert():
    experts = class_experts([state(1.0), state(2.0)], torch.tensor([[0, 4], [0, 4]]))
    assert list(experts) == [1]


def test_equal_counts_make_every_expert_the_plain_mean():
    experts = class_experts([state(1.0), state(2.0)], torch.full((2, 3), 8))
    assert [experts[c]["w"].item() for c in range(3)] == [1.5, 1.5, 1.5]
