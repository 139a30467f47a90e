"""Co-Boosting: hard images, moved images, and an ensemble that learns its weights."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fedkd import testing
from fedkd.algorithms.coboosting import (
    Boosted,
    BoostedDistilConfig,
    CoBoostingConfig,
    HardSynthesisConfig,
    moved_weights,
    perturbed,
)
from fedkd.algorithms.dense.server import Plain
from fedkd.algorithms.dense.strategy import Dense
from fedkd.config import build
from fedkd.data.images import ImageInfo
from fedkd.ops.ensembles import LogitEnsemble, mean_by
from fedkd.ops.synthesis import Lens
from fedkd.plugins.registry import load_registry
from fedkd.simulation.sides import Sides
from fedkd.simulation.simulator import simulate

REGISTRY = load_registry()
SHORT = {
    "synthesis": {"epochs": 3, "generator_steps": 2, "batch_size": 8, "width": 2},
    "distil": {"steps": 2, "batch_size": 8},
}
OFF = {"difficulty": 0.0, "adversarial_mask": True, "adversarial_temperature": 1.0}
CLIENTS = torch.tensor(
    [[[2.0, 0, -1], [0, 1, 0]], [[0.0, 1, 0], [1, 0, 2]]], dtype=torch.float64
)
LABELS = torch.tensor([0, 2])


def config(**changes):
    return build(CoBoostingConfig, {**SHORT, **changes}, "coboosting")


def run(name, options, models=("cnn",), rounds=1):
    strategy, _ = REGISTRY.strategy(name, options)
    federation = testing.toy_federation(models=models)
    return simulate(strategy, federation, testing.toy_protocol(rounds), seed=3)


@pytest.mark.parametrize(
    ("ours", "others"),
    [
        (
            HardSynthesisConfig,
            {
                "clip_norm",
                "inversion_weight",
                "adversarial_mask",
                "adversarial_temperature",
            },
        ),
        (BoostedDistilConfig, {"weight_decay", "cosine", "clip_norm", "temperature"}),
    ],
)
def test_options_that_are_told_anew_are_those_of_dense(ours, others):
    """They have its types and bounds, and its defaults but where those are the point."""
    (dense,) = ours.__bases__
    differ = set()
    for name, theirs in dense.model_fields.items():
        mine = ours.model_fields[name]
        bounds = (mine.annotation, mine.metadata)
        assert bounds == (theirs.annotation, theirs.metadata), name
        if mine.default != theirs.default:
            differ.add(name)
    assert differ == others


@pytest.mark.parametrize("models", [("cnn",), ("cnn", "mlp")])
@pytest.mark.parametrize("reinitialise", [True, False])
def test_without_its_additions_it_is_dense_step_for_step(models, reinitialise):
    same = {
        "distil": {
            **SHORT["distil"],
            "lr": 0.03,
            "weight_decay": 1e-3,
            "cosine": True,
            "clip_norm": 1.0,
            "temperature": 2.0,
        }
    }
    how = {
        **SHORT["synthesis"],
        "inversion_weight": 0.5,
        "clip_norm": 1.0,
        "reinitialise": reinitialise,
        **OFF,
    }
    boosted = {**same, "synthesis": how, "epsilon": 0.0, "weight_step": 0.0}
    del how["difficulty"]
    ours = run(
        "coboosting",
        {**boosted, "synthesis": {**how, "difficulty": 0.0}},
        models,
        rounds=2,
    )
    dense = run("dense", {**same, "synthesis": how}, models, rounds=2)
    for entry, value in dense.state.weights.items():
        assert torch.equal(ours.state.weights[entry], value), entry
    assert torch.equal(ours.state.stage.images, dense.state.stage.images)
    for mine, theirs in zip(ours.history, dense.history, strict=True):
        timeless = [{**line, "seconds": 0, "clients": 0} for line in (mine, theirs)]
        assert timeless[0] == timeless[1]


@pytest.mark.parametrize(
    "addition",
    [
        {"epsilon": 0.1},
        {"weight_step": 0.3},
        {"synthesis": {"difficulty": 1.0}},
        {"synthesis": {"adversarial_mask": False}},
    ],
)
def test_each_addition_changes_the_student(addition):
    how = {**SHORT["synthesis"], **OFF, "pool_exact": True, "generator_steps": 4}
    base = {**SHORT, "epsilon": 0.0, "weight_step": 0.0}
    plain = run("coboosting", {**base, "synthesis": how}).state.weights
    changed = {**base, **addition}
    changed["synthesis"] = {**how, **addition.get("synthesis", {})}
    other = run("coboosting", changed).state.weights
    assert any(not torch.equal(plain[n], other[n]) for n in plain)


def test_the_label_loss_is_that_of_the_fixture():
    teacher = CLIENTS.mean(0)
    hard = Boosted(config()).label_loss(teacher, LABELS)
    assert hard.item() == pytest.approx(0.35468544078918496, rel=1e-12)
    assert Plain().label_loss(teacher, LABELS).item() == pytest.approx(
        0.6992536873771857, rel=1e-12
    )


def test_images_are_moved_by_epsilon_along_the_gradient_of_soft_predictions():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).double()
    x = torch.randn(5, 1, 2, 2, dtype=torch.float64)
    torch.manual_seed(1)
    moved = perturbed(x, model, 0.25)
    torch.manual_seed(1)
    u = (2 * torch.rand(5, 3) - 1).double()
    probe = x.clone().requires_grad_()
    objective = (u * F.softmax(model(probe) / 4, 1)).sum()
    expected = 0.25 * torch.autograd.grad(objective, probe)[0].sign()
    torch.testing.assert_close(moved - x, expected)
    assert not moved.requires_grad
    assert model[1].weight.grad is None


def test_epsilon_is_in_pixels_or_in_normalised_units():
    info = ImageInfo((2, 2, 2), 3, (0.3, 0.5), (0.25, 0.5))
    lens = Lens(info, torch.device("cpu"), augment=False)
    model = LogitEnsemble([nn.Sequential(nn.Flatten(), nn.Linear(8, 3))])
    x = torch.randn(3, 2, 2, 2)
    steps = {}
    for unit in ("pixel", "normalised"):
        rules = Boosted(config(epsilon=8 / 255, epsilon_unit=unit))
        gap = (rules.moved(x, model, lens) - x).abs()
        steps[unit] = gap.mean((0, 2, 3)).tolist()
    # 8 levels of 255, over a deviation of 1/4 and 1/2.
    assert steps["pixel"] == pytest.approx([32 / 255, 16 / 255], rel=1e-4)
    assert steps["normalised"] == pytest.approx([8 / 255, 8 / 255], rel=1e-4)


def test_weights_move_by_the_sign_of_the_gradient():
    before = torch.tensor([0.5, 0.5], dtype=torch.float64)
    w = before.clone().requires_grad_()
    fused = (w[0] * CLIENTS[0] + w[1] * CLIENTS[1]) / w.sum()
    (gradient,) = torch.autograd.grad(F.cross_entropy(fused, LABELS), w)
    assert gradient.tolist() == pytest.approx([-0.0660193404891683, 0.0660193404891683])
    after = moved_weights(before, CLIENTS, LABELS, 0.01)
    assert after.tolist() == pytest.approx([0.51, 0.49], rel=1e-12)


def test_weights_stay_between_zero_and_one():
    torch.manual_seed(0)
    w = torch.full((4,), 0.25)
    for _ in range(60):
        w = moved_weights(w, torch.randn(4, 8, 3), torch.randint(3, (8,)), 0.2)
        assert w.min() >= 0
        assert w.max() <= 1
        assert w.sum() > 0


def test_weights_that_would_all_be_zero_stay_as_they_were():
    """One client's weight has the gradient 0, but for rounding, which may be above."""
    for seed in range(20):
        torch.manual_seed(seed)
        before = torch.rand(1) * 0.09 + 0.005
        logits, labels = 10 * torch.randn(1, 8, 3), torch.randint(3, (8,))
        assert moved_weights(before, logits, labels, 0.1).sum() > 0


def test_an_ensemble_moves_from_equal_weights_by_a_falling_step():
    rules = Boosted(config(weight_step=0.1, weight_decay_per_epoch=0.5))
    assert torch.equal(rules.fuse(CLIENTS), CLIENTS.mean(0))
    rules.reweigh(CLIENTS, LABELS, epoch=1)
    assert rules.weights_K.tolist() == pytest.approx([0.55, 0.45])
    rules.reweigh(CLIENTS, LABELS, epoch=2)
    assert rules.weights_K.tolist() == pytest.approx([0.575, 0.425])
    expected = 0.575 * CLIENTS[0] + 0.425 * CLIENTS[1]
    torch.testing.assert_close(rules.fuse(CLIENTS), expected)


def test_weights_start_to_move_in_the_second_epoch():
    one = {**SHORT, "synthesis": {**SHORT["synthesis"], "epochs": 1}}
    assert run("coboosting", one).state.stage.shares_K is None
    shares = run("coboosting", SHORT).state.stage.shares_K
    assert shares.shape == (3,)
    assert shares.min() >= 0
    assert shares.max() <= 1
    assert len(shares.unique()) > 1


def test_images_that_weights_learn_from_are_counted():
    """In each of two epochs after the first, of batches of 8: the pool's 8 or 16 in 2."""
    boosted = {**SHORT, "weight_decay_per_epoch": 1.0}
    ours = run("coboosting", boosted).metrics["server_examples"]
    still = run("coboosting", {**SHORT, "weight_step": 0.0}).metrics["server_examples"]
    assert ours - still == 2 * 2 * 8


def test_the_measured_ensemble_has_the_learnt_weights():
    federation = testing.toy_federation()
    strategy, _ = REGISTRY.strategy("coboosting", SHORT)
    protocol = testing.toy_protocol(1)
    state = simulate(strategy, federation, protocol, seed=3).state
    server = Sides(federation, protocol, 3).server()
    ensemble = strategy.predictors(state, server)["ensemble"]
    logits = torch.randn(3, 4, 3)
    expected = mean_by(state.stage.shares_K)(logits)
    assert torch.equal(ensemble.fuse(logits), expected)
    assert not torch.equal(expected, logits.mean(0))


def test_it_and_dense_need_the_same():
    strategy, _ = REGISTRY.strategy("coboosting", {})
    assert strategy.requires == Dense().requires


def test_the_student_may_have_an_architecture_of_its_own():
    result = run("coboosting", SHORT, models=("mlp", "cnn"), rounds=2)
    assert all(v.isfinite().all() for v in result.state.weights.values())
    assert result.state.receivers == (0, 2)


def test_the_preset_has_the_released_amounts():
    strategy, _ = REGISTRY.strategy("coboosting-code", {})
    how, student = strategy.config.synthesis, strategy.config.distil
    assert (how.epochs, how.generator_steps, how.batch_size) == (200, 30, 128)
    assert (how.inversion_weight, how.difficulty, how.clip_norm) == (0, 1, 10)
    assert (how.width, how.reinitialise) == (64, True)
    assert (how.adversarial_mask, how.adversarial_temperature) == (False, 3)
    assert (student.passes, student.lr, student.temperature) == (1, 0.01, 4)
    assert (student.weight_decay, student.cosine, student.clip_norm) == (1e-4, True, 10)
    assert strategy.config.epsilon_unit == "normalised"
    assert how.pool_images >= 200 * 128
