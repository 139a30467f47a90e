"""SGD without fixed costs: to the bit what torch's own gives."""

import pytest
import torch

from fedkd.ops.sgd import FastSgd

SHAPES = ((3, 2, 3, 3), (5,), (), (0, 4), (4, 7))


def parameters(seed=0):
    generator = torch.Generator().manual_seed(seed)
    found = [torch.randn(shape, generator=generator) for shape in SHAPES]
    found[0] = found[0].to(memory_format=torch.channels_last)
    return [torch.nn.Parameter(value) for value in found]


def give_gradients(values, step, missing=()):
    generator = torch.Generator().manual_seed(100 + step)
    for i, p in enumerate(values):
        grad = torch.randn(p.shape, generator=generator)
        p.grad = None if i in missing else grad


def compare(missing_at, lr=0.1, **options):
    """Run five steps of both; ``missing_at[step]`` have no gradient."""
    ours, theirs = parameters(), parameters()
    sgd = FastSgd(ours, lr, **options)
    reference = torch.optim.SGD(theirs, lr=lr, foreach=True, **options)
    for step in range(5):
        for values in (ours, theirs):
            give_gradients(values, step, missing_at.get(step, ()))
        sgd.step()
        reference.step()
        for a, b in zip(ours, theirs, strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 1e-4])
@pytest.mark.parametrize("lr", [0.1, 0.013])
def test_a_step_is_torchs_to_the_bit(momentum, weight_decay, lr):
    compare({}, lr, momentum=momentum, weight_decay=weight_decay)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_parameters_without_gradient_stay_and_join_later(momentum, weight_decay):
    missing = {0: (1, 4), 1: (4,), 2: (0, 1, 2, 3, 4), 3: (0,)}
    compare(missing, momentum=momentum, weight_decay=weight_decay)


def test_gradients_are_left_as_they_were():
    values = parameters()
    sgd = FastSgd(values, 0.1, 0.9, 0.01)
    for step in range(2):
        give_gradients(values, step)
        before = [p.grad.clone() for p in values]
        sgd.step()
        assert all(torch.equal(p.grad, g) for p, g in zip(values, before, strict=True))


def test_the_numbers_of_two_steps():
    p = torch.nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    sgd = FastSgd([p], lr=0.5, momentum=0.5, weight_decay=0.1)
    p.grad = torch.tensor([2.0], dtype=torch.float64)
    sgd.step()  # b = 2 + 0.1 = 2.1; p = 1 - 1.05
    assert p.item() == pytest.approx(-0.05, rel=1e-12)
    sgd.step()  # b = 1.05 + 2 - 0.005 = 3.045; p = -0.05 - 1.5225
    assert p.item() == pytest.approx(-1.5725, rel=1e-12)


def test_zero_grad_drops_and_no_gradient_is_no_step():
    values = parameters()
    give_gradients(values, 0)
    sgd = FastSgd(values, 0.1, 0.9, 0.01)
    sgd.zero_grad()
    assert all(p.grad is None for p in values)
    before = [p.detach().clone() for p in values]
    sgd.step()
    assert all(torch.equal(p, b) for p, b in zip(values, before, strict=True))
