"""Losses of generators, by literal numbers."""

import math

import pytest
import torch
from torch import nn

from fedkd.models.cnn import Cnn
from fedkd.ops.generation import (
    BatchNormMatcher,
    adversarial_loss,
    class_evidence_logit,
    discriminator_loss,
    diversity_from_mix,
    diversity_from_uniform,
    prediction_entropy,
    to_classifier_range,
)

REAL = torch.tensor([0.8], dtype=torch.float64).logit()
FAKE = torch.tensor([0.3], dtype=torch.float64).logit()
P = torch.tensor([[0.7, 0.3], [0.1, 0.9]], dtype=torch.float64)
SURE = torch.tensor([[200.0, 0.0, 0.0], [200.0, 0.0, 0.0]])


def near(number):
    return pytest.approx(number, abs=1e-14)


def batch_norm(channels, mean=0.0, variance=1.0):
    layer = nn.BatchNorm2d(channels).double().eval()
    layer.running_mean.fill_(mean)
    layer.running_var.fill_(variance)
    return layer


def test_adversarial_losses_are_those_of_the_specification():
    assert discriminator_loss(REAL, FAKE).item() == near(0.5798184952529422)
    assert adversarial_loss(FAKE).item() == near(1.2039728043259361)


def test_adversarial_losses_are_means_of_cross_entropies_and_do_not_overflow():
    real, fake = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 3.0])
    bce = nn.functional.binary_cross_entropy_with_logits
    one, zero = torch.ones(2), torch.zeros(2)
    expected = bce(real, one) + bce(fake, zero)
    torch.testing.assert_close(discriminator_loss(real, fake), expected)
    torch.testing.assert_close(adversarial_loss(fake), bce(fake, one))
    assert adversarial_loss(torch.tensor([-1e4])).item() == 1e4


def test_diversity_is_that_of_the_specification():
    assert diversity_from_uniform(P.log()).item() == near(-0.6730116670092565)
    total = adversarial_loss(FAKE) + 5 * diversity_from_uniform(P.log())
    assert total.item() == near(1.2039728043259361 - 5 * 0.6730116670092565)


def test_diversity_is_least_for_a_uniform_mean_and_zero_for_one_class():
    uniform = torch.eye(4).double().mul(500)
    assert diversity_from_uniform(uniform).item() == near(-math.log(4))
    assert diversity_from_uniform(SURE.double()).item() == near(0.0)


def test_entropy_is_a_mean_over_images_of_each_images_entropy():
    rows = [-(p * p.log()).sum().item() for p in P]
    assert prediction_entropy(P.log()).item() == near(sum(rows) / 2)
    assert prediction_entropy(torch.zeros(3, 5).double()).item() == near(math.log(5))


@pytest.mark.parametrize(
    "loss",
    [
        prediction_entropy,
        diversity_from_uniform,
        lambda x: diversity_from_mix(x, torch.tensor([0.5, 0.5, 0.0])),
    ],
    ids=["entropy", "uniform", "mix"],
)
@pytest.mark.parametrize("logits", [SURE, torch.tensor([[9.0, -torch.inf, 0.0]] * 2)])
def test_predictions_of_zero_give_neither_nan_nor_infinity(loss, logits):
    x = logits.clone().requires_grad_()
    value = loss(x)
    assert torch.isfinite(value)
    if torch.isfinite(logits).all():
        (gradient,) = torch.autograd.grad(value, x)
        assert torch.isfinite(gradient).all()


def test_diversity_towards_a_mix_is_zero_when_it_is_met():
    mix = P.mean(0)
    assert diversity_from_mix(P.log(), mix).item() == near(0.0)


def test_diversity_towards_a_mix_is_the_kl_from_the_mix_to_the_mean():
    mix = torch.tensor([0.5, 0.5])
    expected = 0.5 * math.log(0.5 / 0.4) + 0.5 * math.log(0.5 / 0.6)
    assert diversity_from_mix(P.log(), mix).item() == near(expected)


def test_diversity_towards_a_mix_ignores_classes_without_share():
    third = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64)
    value = diversity_from_mix(third.log(), torch.tensor([1.0, 0.0, 0.0]))
    assert value.item() == near(math.log(2))


def test_a_wanted_class_that_is_never_predicted_still_pulls():
    logits = SURE.clone().requires_grad_()
    diversity_from_mix(logits, torch.tensor([0.5, 0.5, 0.0])).backward()
    assert (logits.grad[:, 1] < -0.1).all()


def test_the_evidence_of_a_classifier_is_the_logit_of_z_over_z_plus_one():
    logits = torch.tensor([[1.0, 2.0, -1.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    evidence = logits.exp().sum(1)
    logit = class_evidence_logit(logits)
    assert logit.shape == (2,)
    torch.testing.assert_close(logit.sigmoid(), evidence / (evidence + 1))


def test_inversion_is_that_of_the_specification():
    x = torch.arange(8.0, dtype=torch.float64).reshape(2, 1, 2, 2)
    with BatchNormMatcher(batch_norm(1)) as matcher:
        batch_norm(1)(x)
    model = batch_norm(1)
    with BatchNormMatcher(model) as matcher:
        model(x)
    assert matcher.loss().item() == near(3.5 + 4.25)


def test_inversion_norms_are_taken_over_channels_and_added_over_layers():
    x = torch.tensor([[3.0, 4.0], [3.0, 4.0]], dtype=torch.float64).view(2, 2, 1, 1)
    first, second = batch_norm(2, variance=0.0), batch_norm(2, mean=3.0, variance=0.0)
    first.weight.data.fill_(math.sqrt(first.eps))
    with BatchNormMatcher(nn.Sequential(first, second)) as matcher:
        second(first(x))
    # ||(3, 4)|| = 5 in the first layer and ||(0, 1)|| = 1 in the second.
    assert matcher.loss().item() == pytest.approx(6.0)


def test_inversion_is_zero_where_the_statistics_are_those_of_the_batch():
    x = torch.randn(8, 3, 4, 4, dtype=torch.float64)
    layer = batch_norm(3)
    layer.running_mean.copy_(x.mean((0, 2, 3)))
    layer.running_var.copy_(x.var((0, 2, 3), unbiased=False))
    with BatchNormMatcher(layer) as matcher:
        layer(x)
    assert matcher.loss().item() == near(0.0)


def test_inversion_gives_its_gradient_to_the_images():
    x = torch.randn(4, 1, 8, 8, requires_grad=True)
    model = Cnn.build((1, 8, 8), 3).eval()
    with BatchNormMatcher(model) as matcher:
        model(x)
    assert len(matcher.layers) == 3
    (gradient,) = torch.autograd.grad(matcher.loss(), x)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().sum() > 0


def test_inversion_reads_the_statistics_from_before_a_pass_in_train_mode():
    x = torch.arange(8.0, dtype=torch.float64).reshape(2, 1, 2, 2).requires_grad_()
    model = batch_norm(1).train()
    with BatchNormMatcher(model) as matcher:
        model(x)
    assert matcher.loss().item() == near(7.75)
    matcher.loss().backward()


def test_the_matcher_leaves_no_hook_behind_also_after_an_error():
    model = batch_norm(1)
    matcher = BatchNormMatcher(model)
    with pytest.raises(ZeroDivisionError), matcher:
        raise ZeroDivisionError
    assert not model._forward_pre_hooks
    assert not model._forward_hooks


def test_the_matcher_forgets_an_earlier_block():
    x = torch.arange(8.0, dtype=torch.float64).reshape(2, 1, 2, 2)
    model = batch_norm(1)
    matcher = BatchNormMatcher(model)
    for _ in range(2):
        with matcher:
            model(x)
    model(x)
    assert matcher.loss().item() == near(7.75)


def test_a_model_without_batch_norm_has_inversion_zero_and_no_layers():
    model = Cnn.build((1, 8, 8), 3, norm="group")
    with BatchNormMatcher(model) as matcher:
        model(torch.zeros(2, 1, 8, 8))
    assert matcher.loss().item() == 0.0
    assert matcher.layers == []


def test_batch_norm_without_statistics_is_not_watched():
    layer = nn.BatchNorm2d(1, track_running_stats=False)
    with BatchNormMatcher(layer) as matcher:
        layer(torch.zeros(2, 1, 2, 2))
    assert matcher.layers == []
    assert matcher.loss().item() == 0.0


def test_an_inactive_matcher_watches_nothing():
    model = batch_norm(1)
    with BatchNormMatcher(model, active=False) as matcher:
        model(torch.ones(2, 1, 2, 2, dtype=torch.float64))
        assert not model._forward_pre_hooks
    assert matcher.loss().item() == 0.0


def test_a_matcher_that_saw_no_pass_says_so():
    with BatchNormMatcher(batch_norm(1)) as matcher:
        pass
    with pytest.raises(RuntimeError, match="inside the 'with' block"):
        matcher.loss()


def test_generated_images_are_mapped_to_the_range_of_normalised_ones():
    ends = torch.tensor([-1.0, 0.0, 1.0]).view(3, 1, 1, 1).expand(3, 2, 1, 1)
    got = to_classifier_range(ends, (0.5, 0.2), (0.25, 0.5))
    torch.testing.assert_close(got[:, 0, 0, 0], torch.tensor([-2.0, 0.0, 2.0]))
    torch.testing.assert_close(got[:, 1, 0, 0], torch.tensor([-0.4, 0.6, 1.6]))
