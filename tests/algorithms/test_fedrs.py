"""FedRS, by the numbers: three rules for the scale of a class."""

import pytest
import torch

from fedkd import testing
from fedkd.algorithms.fedrs import (
    batch_scale,
    grown,
    official_scale,
    paper_scale,
    restricted_cross_entropy,
)
from fedkd.plugins.registry import load_registry
from fedkd.simulation.simulator import simulate


def test_the_loss_with_a_missing_class_at_half():
    z = torch.tensor([[1.0, 2.0, 3.0]], dtype=torch.float64)
    y = torch.tensor([0])
    scale = torch.tensor([1.0, 1.0, 0.5])
    restricted = restricted_cross_entropy(z, y, scale).item()
    plain = restricted_cross_entropy(z, y, torch.ones(3)).item()
    assert restricted == pytest.approx(1.6802696706417346, abs=1e-15)
    assert plain == pytest.approx(2.4076059644443806, abs=1e-15)


def test_the_paper_scales_only_classes_without_images():
    scale = paper_scale(torch.tensor([30, 15, 0]), 0.5)
    assert scale.tolist() == [1.0, 1.0, 0.5]


def test_the_official_code_scales_by_the_label_distribution():
    scale = official_scale(torch.tensor([30, 15, 0]), 0.5)
    assert scale.tolist() == [1.0, 0.75, 0.5]


def test_the_mosaic_code_looks_at_the_batch():
    assert batch_scale(torch.tensor([2, 0, 2]), 4, 0.25).tolist() == [1, 0.25, 1, 0.25]


def test_the_mosaic_code_lets_alpha_grow_with_the_rounds():
    alpha, seen = 0.1, []
    for round in range(14):
        alpha = grown(alpha, round, 0.01, 0.8)
        seen.append(round_to_cents(alpha))
    expected = [10, 11, 13, 16, 20, 25, 31, 38, 46, 55, 65, 76, 80, 80]
    assert seen == expected


def round_to_cents(alpha):
    return round(100 * alpha)


def test_a_missing_class_gets_alpha_times_its_gradient():
    h = torch.tensor([[0.5, -2.0]])
    weight = torch.randn(3, 2, generator=torch.Generator().manual_seed(0))
    weight.requires_grad_()
    scale = torch.tensor([1.0, 1.0, 0.5])
    restricted_cross_entropy(h @ weight.T, torch.tensor([0]), scale).backward()
    p = torch.softmax((h @ weight.T).detach() * scale, 1)[0, 2]
    torch.testing.assert_close(weight.grad[2], 0.5 * p * h[0])


def test_the_official_classifier_has_no_bias_before_and_after_training():
    strategy, _ = load_registry().strategy("fedrs", {"variant": "official"})
    federation = testing.toy_federation()
    result = simulate(strategy, federation, testing.toy_protocol(2), seed=0)
    model = federation.build_spec(federation.server_model, 0)
    heads = [
        n
        for n, m in model.named_modules()
        if isinstance(m, torch.nn.Linear) and m.out_features == 3
    ]
    assert result.state.weights[f"{heads[-1]}.bias"].abs().max() == 0


def test_alpha_is_remembered_by_the_clients_that_took_part():
    strategy, _ = load_registry().strategy("fedrs", {"variant": "mosaic", "alpha": 0.1})
    result = simulate(
        strategy, testing.toy_federation(), testing.toy_protocol(4), seed=0
    )
    assert result.metrics["logged"]["fedrs_alpha"] == pytest.approx(0.16)
