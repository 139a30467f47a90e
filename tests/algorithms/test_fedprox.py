"""FedProx, by the numbers."""

import torch

from fedkd.algorithms.fedprox import proximal


def test_eq_2_pulls_by_half_mu_times_the_squared_distance():
    parameters = [torch.tensor([1.0, 2.0]), torch.tensor([[3.0]])]
    anchor = [torch.tensor([0.0, 0.0]), torch.tensor([[1.0]])]
    assert proximal(parameters, anchor, 0.5).item() == 0.25 * (1 + 4 + 4)


def test_two_steps_on_a_quadratic_reach_1_37():
    w = torch.tensor([1.0], dtype=torch.float64, requires_grad=True)
    anchor = [w.detach().clone()]
    for _ in range(2):
        loss = 0.5 * (w - 3).pow(2).sum() + proximal([w], anchor, 0.5)
        (gradient,) = torch.autograd.grad(loss, w)
        w = (w - 0.1 * gradient).detach().requires_grad_()
    torch.testing.assert_close(w.item(), 1.37, atol=1e-12, rtol=0)


def test_the_gradient_is_mu_times_the_distance():
    w = torch.tensor([2.0, -1.0], requires_grad=True)
    proximal([w], [torch.tensor([0.5, 0.0])], 0.3).backward()
    torch.testing.assert_close(w.grad, torch.tensor([0.45, -0.3]))
