"""The diversity loss, in its three metrics."""

import math

import pytest
import torch

from fedkd.ops.diversity import diversity_loss

NOISE = torch.tensor([[0, 0], [1, 1]], dtype=torch.float64)
IMAGES = torch.tensor([[0, 0, 0], [2, 2, 2]], dtype=torch.float64)
METRICS = ("l1", "l2", "norms")


@pytest.mark.parametrize(
    ("metric", "expected"),
    [("l1", math.exp(-1)), ("l2", math.exp(-2)), ("norms", 0.08633762966036201)],
)
def test_it_is_that_of_the_fixture(metric, expected):
    got = diversity_loss(NOISE, IMAGES, metric)
    assert got.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_images_are_flattened(metric):
    flat = torch.randn(4, 12, dtype=torch.float64)
    noise = torch.randn(4, 3, dtype=torch.float64)
    images = flat.view(4, 3, 2, 2)
    got = diversity_loss(noise, images, metric)
    assert got.item() == diversity_loss(noise, flat, metric).item()


@pytest.mark.parametrize("metric", METRICS)
def test_it_is_the_mean_over_all_ordered_pairs(metric):
    noise = torch.randn(40, 3, dtype=torch.float64)
    x = torch.randn(40, 5, dtype=torch.float64)
    total = 0.0
    for i in range(40):
        for j in range(40):
            n, d = noise[i] - noise[j], x[i] - x[j]
            if metric == "norms":
                total += n.norm() * d.norm()
            else:
                total += (n**2).mean() * (d.abs() if metric == "l1" else d**2).mean()
    expected = math.exp(-total / 1600)
    assert diversity_loss(noise, x, metric).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("equal", ["noise", "images"])
def test_a_collapsed_generator_has_loss_one_and_a_finite_gradient(metric, equal):
    noise = torch.randn(6, 4)
    x = torch.randn(6, 1, 3, 3)
    if equal == "noise":
        noise = noise[:1].expand(6, -1)
    else:
        x = x[:1].expand(6, -1, -1, -1)
    x = x.clone().requires_grad_()
    loss = diversity_loss(noise, x, metric)
    loss.backward()
    assert loss.item() == 1
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("metric", METRICS)
def test_its_gradient_drives_different_images_apart(metric):
    noise = torch.randn(6, 4)
    x = (0.1 * torch.randn(6, 5)).requires_grad_()
    before = diversity_loss(noise, x, metric)
    before.backward()
    after = diversity_loss(noise, x.detach() - 0.5 * x.grad, metric)
    assert 0 < after < before <= 1
