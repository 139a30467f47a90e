"""Ensembles of logits, by the shared toy fixture."""

import pytest
import torch
from torch import nn

from fedkd.ops.averaging import class_weights
from fedkd.ops.ensembles import (
    LogitEnsemble,
    apart,
    class_diagonal,
    mean_by,
    mean_logits,
    mixed_logits,
    weighted_logits,
)

CLIENTS = torch.tensor(
    [[[2, 0, -1], [0, 1, 0]], [[0, 1, 0], [1, 0, 2]]], dtype=torch.float64
)
LABELS = torch.tensor([0, 2])
COUNTS = torch.tensor([[30, 0, 10], [10, 20, 0]])


def test_the_uniform_ensemble_is_that_of_the_fixture():
    expected = [[1, 0.5, -0.5], [0.5, 0.5, 1]]
    assert mean_logits(CLIENTS).tolist() == expected
    assert weighted_logits(CLIENTS, torch.tensor([0.5, 0.5])).tolist() == expected


def test_the_class_weighted_ensemble_is_that_of_the_fixture():
    tau = class_weights(COUNTS)
    got = weighted_logits(CLIENTS, tau[:, LABELS], per="image")
    assert got.tolist() == [[1.5, 0.25, -0.75], [0, 1, 0]]


def test_weights_per_class_weigh_each_class_by_who_holds_it():
    got = weighted_logits(CLIENTS, class_weights(COUNTS), per="class")
    assert got.tolist() == [[1.5, 1, -1], [0.25, 0, 0]]


def test_a_one_hot_weight_is_that_client():
    one_hot = torch.tensor([0.0, 1.0])
    assert torch.equal(weighted_logits(CLIENTS, one_hot), CLIENTS[1])


def test_weights_are_used_as_they_are():
    got = weighted_logits(CLIENTS, torch.tensor([2.0, 2.0]))
    assert torch.equal(got, 4 * mean_logits(CLIENTS))


def test_a_mean_by_weights_divides_by_their_sum():
    assert mean_by(None) is mean_logits
    got = mean_by(torch.tensor([3.0, 1.0]))(CLIENTS)
    assert got.tolist() == [[1.5, 0.25, -0.75], [0.25, 0.75, 0.5]]


def test_mixtures_of_models_are_experts():
    shares = torch.tensor([[0.75, 0.0, 0.5], [0.25, 1.0, 0.5]])
    got = mixed_logits(CLIENTS, shares)
    assert got[0].tolist() == [[1.5, 0.25, -0.75], [0.25, 0.75, 0.5]]
    assert torch.equal(got[1], CLIENTS[1])
    assert torch.equal(got[2], mean_logits(CLIENTS))


def test_heads_are_fused_as_the_models_are():
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(2, 3)

        def forward(self, x):
            return self.head(x.flatten(1)[:, :2])

    members = [Half(), Half()]
    x = torch.randn(4, 1, 2, 2)
    for fuse in (mean_logits, apart):
        ensemble = LogitEnsemble(members, fuse)
        assert torch.equal(ensemble.heads(x.flatten(1)[:, :2]), ensemble(x))


def test_as_many_images_as_classes_are_no_riddle():
    logits = torch.arange(8.0).reshape(2, 2, 2)
    weights = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    by_image = weighted_logits(logits, weights, per="image")
    by_class = weighted_logits(logits, weights, per="class")
    assert by_image.tolist() == [[0, 1], [6, 7]]
    assert by_class.tolist() == [[0, 5], [2, 7]]


@pytest.mark.parametrize(
    ("per", "shape"), [("model", [3]), ("image", [2, 3]), ("class", [2, 2])]
)
def test_weights_of_another_shape_are_refused(per, shape):
    with pytest.raises(ValueError, match=f"weights per {per} of logits"):
        weighted_logits(CLIENTS, torch.ones(shape), per=per)


def test_the_models_answer_in_their_order():
    class Constant(nn.Module):
        def __init__(self, value):
            super().__init__()
            self.value = value

        def forward(self, x):
            return torch.full((len(x), 3), self.value)

    members = [Constant(1.0), Constant(2.0)]
    got = LogitEnsemble(members).each(torch.zeros(4, 1, 8, 8))
    assert got.shape == (2, 4, 3)
    assert got[:, 0, 0].tolist() == [1.0, 2.0]


def test_expert_c_judges_class_c():
    logits = torch.randn(3, 5, 3)
    got = class_diagonal(logits, [2, 0, 1])
    assert torch.equal(got[:, 2], logits[0, :, 2])
    assert torch.equal(got[:, 0], logits[1, :, 0])
    assert torch.equal(got[:, 1], logits[2, :, 1])


def test_a_class_without_an_expert_is_chosen_over_no_other():
    first = [[1.0, 9.0, -5.0], [7.0, 7.0, 7.0]]
    second = [[-2.0, 9.0, 3.0], [6.0, 8.0, 9.0]]
    got = class_diagonal(torch.tensor([first, second]), [0, 2])
    assert got.tolist() == [[1.0, -5.0, 3.0], [7.0, 6.0, 9.0]]


def test_the_diagonal_passes_its_gradient_to_the_experts():
    logits = torch.randn(2, 3, 2, requires_grad=True)
    class_diagonal(logits, [0, 1]).sum().backward()
    assert torch.equal(logits.grad[0, :, 0], torch.ones(3))
    assert torch.equal(logits.grad[0, :, 1], torch.zeros(3))


@pytest.mark.parametrize("classes", [[0], [0, 0], [0, 1, 2]])
def test_experts_and_classes_that_do_not_match_are_refused(classes):
    with pytest.raises(ValueError, match="one class for each expert"):
        class_diagonal(torch.zeros(2, 1, 3), classes)


def test_stacked_members_answer_as_one_by_one_and_hooks_see_them():
    torch.manual_seed(0)
    members = [
        nn.Sequential(
            nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2)
        )
        for _ in range(3)
    ]
    x = torch.randn(5, 1, 4, 4, requires_grad=True)
    loop, stack = (
        LogitEnsemble(members, how="loop"),
        LogitEnsemble(members, how="stack"),
    )
    torch.testing.assert_close(stack.each(x), loop.each(x))
    gradients = [torch.autograd.grad(one(x).sum(), x)[0] for one in (loop, stack)]
    torch.testing.assert_close(*gradients)
    seen = []
    members[1][1].register_forward_hook(lambda *_: seen.append(1))
    stack(x)
    assert seen == [1]


@pytest.mark.parametrize("how", ["loop", "stack"])
def test_a_member_that_is_there_twice_answers_once(how):
    torch.manual_seed(0)
    one, other = (nn.Sequential(nn.Flatten(), nn.Linear(4, 3)) for _ in range(2))
    x = torch.randn(5, 1, 2, 2)
    got = LogitEnsemble([one, other, one], how=how).each(x)
    torch.testing.assert_close(got, torch.stack([one(x), other(x), one(x)]))
    asked = []
    for name, member in (("one", one), ("other", other)):
        member[1].register_forward_hook(lambda *_, name=name: asked.append(name))
    LogitEnsemble([one, other, one], how="loop")(x)
    assert asked == ["one", "other"]
