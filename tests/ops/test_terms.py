"""The weighted terms of a generator's loss."""

import warnings

import pytest
import torch

from fedkd.ops.terms import WeightedTerms, gradient_shares


def stage(*selective, steps=1, weight=1.0, second=0.0):
    """Return terms of a stage whose second one is a constant times x."""
    terms = WeightedTerms(*selective)
    x = torch.ones(2, 2, requires_grad=True)
    for _ in range(steps):
        terms.sum(x, first=(1.0, x.sum()), second=(weight, second * x.sum()))
    return terms


def test_terms_are_summed_with_their_weights():
    x = torch.ones(2, 2, requires_grad=True)
    terms = WeightedTerms()
    loss = terms.sum(x, first=(2.0, x.sum()), second=(-0.5, 3 * x.sum()))
    assert loss.item() == 2.0  # 8 - 6
    (slope,) = torch.autograd.grad(loss, x)
    assert slope.tolist() == [[0.5, 0.5], [0.5, 0.5]]


def test_losses_are_means_without_weights_and_shares_those_of_the_first_step():
    terms = WeightedTerms()
    for number in (1.0, 3.0):
        x = torch.ones(2, 2, requires_grad=True)
        terms.sum(x, first=(1.0, x.sum()), second=(-3.0, number * x.sum()))
    report = {name: float(value) for name, value in terms.report().items()}
    assert report == {
        "first_loss": 4.0,
        "second_loss": 8.0,
        "first_share": 0.25,
        "second_share": 0.75,
    }


def test_a_term_that_stays_0_is_warned_of_by_name():
    with pytest.warns(RuntimeWarning, match="weight on second, which stayed 0"):
        stage().report()


def test_it_is_said_once():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            stage().report()
    assert len(caught) == 1


@pytest.mark.parametrize("options", [{"weight": 0.0}, {"second": 1e-6}], ids=str)
def test_a_term_without_weight_or_that_is_small_is_not(options):
    stage(**options).report()


def test_a_term_of_some_images_is_warned_of_after_a_long_stage():
    stage("second", steps=19).report()
    with pytest.warns(RuntimeWarning, match="weight on second, which stayed 0"):
        stage("second", steps=20).report()


def test_a_term_that_is_not_0_at_one_step_is_not_warned_of():
    terms = stage()
    x = torch.ones(2, 2, requires_grad=True)
    terms.sum(x, first=(1.0, x.sum()), second=(1.0, -x.sum()))
    terms.report()


def test_terms_without_a_gradient_have_no_share():
    x = torch.ones(2, requires_grad=True)
    y = torch.ones(2, requires_grad=True)
    assert gradient_shares({"a": x.sum(), "b": y.sum()}, x) == {"a": 1.0, "b": 0.0}
    assert gradient_shares({"b": y.sum()}, x) == {"b": 0.0}
    constant = torch.zeros(())
    assert gradient_shares({"a": x.sum(), "c": constant}, x) == {"a": 1.0, "c": 0.0}


def test_images_without_a_gradient_have_no_shares():
    terms = WeightedTerms()
    assert terms.sum(torch.ones(2), first=(2.0, torch.tensor(3.0))).item() == 6.0
    assert set(terms.report()) == {"first_loss"}
