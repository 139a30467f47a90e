"""Losses between logits, by literal numbers in float64."""

import math

import pytest
import torch
from scipy.spatial.distance import jensenshannon

from fedkd.ops.distillation import (
    bhattacharyya,
    jensen_shannon,
    kl,
    kl_rows,
)


def rows(*values):
    return torch.tensor(values, dtype=torch.float64)


CLIENTS = torch.stack([rows([2, 0, -1], [0, 1, 0]), rows([0, 1, 0], [1, 0, 2])])
STUDENT = rows([0, 1, 0], [0.5, 0, 1])
ENSEMBLE = CLIENTS.mean(0)
S, T = rows([2, 0, -1]), rows([0.5, 1.5, -0.5])


def near(number):
    return pytest.approx(number, abs=1e-12)


def test_kl_at_temperature_one_and_twenty_is_that_of_the_fixture():
    assert kl(ENSEMBLE, STUDENT).item() == near(0.14503270012464106)
    assert kl(ENSEMBLE, STUDENT, 20.0).item() == near(0.13980003432011445)


def test_kl_of_single_rows_is_that_of_the_fixture():
    found = [kl(ENSEMBLE[[b]], STUDENT[[b]]).item() for b in range(2)]
    assert found == [near(0.26713818949459217), near(0.022927210754689925)]


def test_kl_has_the_teacher_as_its_first_distribution():
    teacher = rows([1.5, 0.25, -0.75], [0, 1, 0])
    forward = [kl(teacher[[b]], STUDENT[[b]]).item() for b in range(2)]
    backward = [kl(STUDENT[[b]], teacher[[b]]).item() for b in range(2)]
    assert forward == [near(0.5872628721147232), near(0.3870295050498844)]
    assert backward == [near(0.5523593908367308), near(0.34492965397937203)]


@pytest.mark.parametrize("temperature", [1.0, 3.0, 20.0])
def test_kl_of_equal_logits_is_exactly_zero(temperature):
    logits = torch.randn(16, 10)
    assert kl(logits, logits.clone(), temperature).item() == 0.0


def test_a_class_that_the_teacher_rules_out_gives_no_nan():
    teacher = torch.tensor([[1.0, -torch.inf, 0.0]], requires_grad=True)
    student = torch.tensor([[0.0, 3.0, 1.0]], requires_grad=True)
    for loss in (kl, jensen_shannon, bhattacharyya):
        value = loss(teacher, student)
        assert torch.isfinite(value)
        (gradient,) = torch.autograd.grad(value, student)
        assert torch.isfinite(gradient).all()
    p = math.e / (math.e + 1)
    log_s = torch.tensor([0.0, 3.0, 1.0]).log_softmax(0)
    expected = p * (math.log(p) - log_s[0]) + (1 - p) * (math.log(1 - p) - log_s[2])
    assert kl(teacher, student).item() == pytest.approx(expected.item(), rel=1e-5)


def test_each_loss_is_that_of_the_specification():
    assert kl(T, S).item() == near(0.9380240687771317)
    assert bhattacharyya(S, T).item() == near(0.23376907235834246)


def test_symmetric_losses_of_equal_logits_are_zero():
    logits = torch.randn(8, 5, dtype=torch.float64)
    assert bhattacharyya(logits, logits.clone()).item() == near(0.0)
    assert jensen_shannon(logits, logits.clone()).item() == near(0.0)


def test_bhattacharyya_is_the_log_of_the_overlap_and_the_codes_two_terms():
    torch.manual_seed(0)
    s, t = torch.randn(2, 6, 4, dtype=torch.float64)
    p, q = s.softmax(1), t.softmax(1)
    overlap = -(p * q).sqrt().sum(1).log().mean()
    assert bhattacharyya(s, t).item() == near(overlap.item())
    m = (s + t) / 2
    code = (kl(m, s) + kl(m, t)) / 2
    assert bhattacharyya(s, t).item() == near(code.item())


def test_bhattacharyya_of_far_logits_stays_finite():
    s = torch.tensor([[400.0, 0.0]], requires_grad=True)
    value = bhattacharyya(s, torch.tensor([[0.0, 400.0]]))
    value.backward()
    assert value.item() == pytest.approx(200 - math.log(2))
    assert torch.isfinite(s.grad).all()


def test_jensen_shannon_agrees_with_scipy_and_is_symmetric():
    torch.manual_seed(1)
    s, t = torch.randn(2, 5, 7, dtype=torch.float64) * 3
    pairs = zip(s.softmax(1).numpy(), t.softmax(1).numpy(), strict=True)
    expected = sum(jensenshannon(p, q) ** 2 for p, q in pairs) / 5
    assert jensen_shannon(s, t).item() == near(expected)
    assert jensen_shannon(t, s).item() == near(expected)


def test_jensen_shannon_is_at_most_log_two():
    value = jensen_shannon(rows([1e3, 0]), rows([0, 1e3]))
    assert value.item() == near(math.log(2))


@pytest.mark.parametrize("loss", [kl, bhattacharyya, jensen_shannon])
def test_losses_are_means_over_the_batch(loss):
    once = loss(ENSEMBLE, STUDENT)
    twice = loss(ENSEMBLE.repeat(2, 1), STUDENT.repeat(2, 1))
    assert twice.item() == near(once.item())
    assert once.shape == ()


def test_rows_are_an_image_each_and_their_mean_is_the_whole():
    """Teacher (3/4, 1/4) against (1/2, 1/2): 3/4 ln 3/2 + 1/4 ln 1/2; equal rows: 0."""
    teacher = torch.tensor([[3.0, 1.0], [1.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    student = torch.zeros(3, 2, dtype=torch.float64)
    rows = kl_rows(teacher.log(), student)
    expected = torch.tensor([0.130812035941137, 0, 0], dtype=torch.float64)
    torch.testing.assert_close(rows, expected, rtol=1e-12, atol=1e-15)
    hot = kl_rows(teacher, student, 2.0)
    torch.testing.assert_close(hot.mean(), kl(teacher, student, 2.0))
