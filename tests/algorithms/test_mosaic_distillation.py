"""Mosaic's distillation loss, by literal numbers in float64."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from fedkd.algorithms.mosaic.distillation import mosaic_distillation
from fedkd.ops.distillation import bhattacharyya, jensen_shannon, kl

CODE = {
    "kl_weight": 0.8,
    "ce_weight": 0.2,
    "overlap_weight": 1.0,
    "overlap": "bhattacharyya",
    "temperature": 1.0,
}
"""The weights of the released code."""


def rows(*values):
    return torch.tensor(values, dtype=torch.float64)


STUDENT = rows([0, 1, 0], [0.5, 0, 1])
ENSEMBLE = rows([1, 0.5, -0.5], [0.5, 0.5, 1])
S, T = rows([2, 0, -1]), rows([0.5, 1.5, -0.5])


def near(number):
    return pytest.approx(number, abs=1e-12)


def loss(student, teacher, **changed):
    return mosaic_distillation(student, teacher, **{**CODE, **changed})


def test_the_terms_of_mosaics_loss_are_those_of_the_specification():
    assert kl(T, S).item() == near(0.9380240687771317)
    assert cross_entropy(S, T.argmax(1)).item() == near(2.1698460195562856)
    assert bhattacharyya(S, T).item() == near(0.23376907235834246)
    assert loss(S, T).item() == near(1.418157531291305)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"ce_weight": 0, "overlap_weight": 0}, 0.8 * 0.9380240687771317),
        ({"kl_weight": 0, "overlap_weight": 0}, 0.2 * 2.1698460195562856),
        ({"kl_weight": 0, "ce_weight": 0}, 0.23376907235834246),
        ({"kl_weight": 1, "ce_weight": 2, "overlap_weight": 3}, 5.979023324546730),
    ],
)
def test_each_weight_of_mosaics_loss_stands_at_its_term(options, expected):
    assert loss(S, T, **options).item() == pytest.approx(expected)


def test_mosaics_loss_takes_the_temperature_and_the_true_divergence():
    alone = {"kl_weight": 1.0, "ce_weight": 0.0, "overlap_weight": 0.0}
    hot = loss(STUDENT, ENSEMBLE, temperature=20.0, **alone)
    assert hot.item() == near(0.13980003432011445)
    alone = {"kl_weight": 0.0, "ce_weight": 0.0, "overlap_weight": 1.0}
    true = loss(S, T, overlap="jensen_shannon", **alone)
    assert true.item() == near(jensen_shannon(S, T).item())
    assert true.item() != near(0.23376907235834246)


def test_mosaics_loss_of_equal_logits_is_the_cross_entropy_alone():
    logits = torch.randn(8, 5, dtype=torch.float64)
    expected = 0.2 * cross_entropy(logits, logits.argmax(1))
    assert loss(logits, logits.clone()).item() == near(expected.item())


def test_a_term_of_weight_zero_is_skipped_and_no_term_is_refused():
    broken = torch.full((1, 3), torch.nan, dtype=torch.float64)
    with pytest.raises(ValueError, match="all 0"):
        loss(S, broken, kl_weight=0, ce_weight=0, overlap_weight=0)
    value = loss(S, broken, kl_weight=0, overlap_weight=0)
    assert torch.isfinite(value)
