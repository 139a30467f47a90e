"""Local training: amounts, rates and refusals."""

from dataclasses import replace

import pytest
import torch

from fedkd import testing
from fedkd.config import build
from fedkd.data.images import Augmentation
from fedkd.errors import ConfigError, ContractError, DivergedError
from fedkd.ops.optimisers import Adam, AdamW, Sgd
from fedkd.ops.schedules import Schedule
from fedkd.ops.training import TrainingConfig, draws_of, train


def trained(**settings):
    federation = testing.toy_federation(1)
    model = federation.build_spec(federation.server_model, 0)
    return train(model, federation.clients[0], TrainingConfig(**settings))


def test_local_steps_are_optimiser_steps():
    report = trained(local_steps=7, batch_size=6, lr=0.01)
    assert (report.steps, report.examples) == (7, 42)


def test_local_epochs_are_passes_with_a_short_last_batch():
    number = len(testing.toy_federation(1).clients[0])
    report = trained(local_epochs=2, batch_size=9, lr=0.01)
    assert report.examples == 2 * number
    assert report.steps == 2 * -(-number // 9)


def test_short_batches_and_augmentation_are_as_the_settings_say():
    images = replace(testing.toy_images(), augmentation=Augmentation(1, flip=True))
    data = testing.toy_federation(1, data=images).clients[0]
    number = len(data)

    def drawn(**settings):
        training = TrainingConfig(local_epochs=1, batch_size=number - 1, **settings)
        draws = list(draws_of(data, training))
        return [len(draw.chosen) for draw in draws], draws[0].corners is not None

    assert drawn() == ([number - 1], True)
    assert drawn(drop_last="never", augment=False) == ([number - 1, 1], False)
    assert drawn(drop_last="always") == ([number - 1], True)


@pytest.mark.parametrize("both", [{}, {"local_steps": 1, "local_epochs": 1}])
def test_exactly_one_amount_is_expected(both):
    with pytest.raises(ConfigError, match="expected exactly one of local_steps and"):
        build(TrainingConfig, both, "suite x.yaml: training")


def test_the_rate_follows_decay_and_milestones():
    config = TrainingConfig(
        local_steps=1, lr=1.0, lr_decay=0.5, lr_from_round={3: 8.0, 5: 64.0}
    )
    rates = [config.at_round(i).lr for i in range(6)]
    assert rates == [1, 0.5, 0.25, 1, 0.5, 2]


def test_clipping_bounds_the_step():
    federation = testing.toy_federation(1, models=["mlp"])
    model = federation.build_spec(federation.server_model, 0)
    before = torch.cat([p.detach().flatten().clone() for p in model.parameters()])
    config = TrainingConfig(local_steps=1, lr=1.0, weight_decay=0, clip_norm=0.01)
    train(model, federation.clients[0], config)
    after = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert (after - before).norm().item() == pytest.approx(0.01, rel=1e-3)


def test_a_misspelt_key_is_answered_with_the_right_one():
    with pytest.raises(ConfigError, match=r"training.locl_steps.*'local_steps'"):
        build(TrainingConfig, {"locl_steps": 1}, "training")


def test_a_bad_value_names_its_path_and_what_was_found():
    with pytest.raises(ConfigError, match=r"training.lr: found -1.*more than 0"):
        build(TrainingConfig, {"local_steps": 1, "lr": -1}, "training")


class Line(torch.nn.Module):
    """Two logits whose difference is w; no image changes them."""

    def __init__(self, w):
        super().__init__()
        self.w = torch.nn.Parameter(torch.tensor([w]))

    def forward(self, x):
        return torch.stack([torch.zeros_like(self.w), self.w], 1).expand(len(x), 2)


def on_a_line(w, steps=1, clip_norm=None, lr=0.5, **how):
    """Train w by the loss 2 w + 1, whose gradient is 2; return it and the report."""
    model = Line(w)
    config = TrainingConfig(
        local_steps=steps, batch_size=4, lr=lr, weight_decay=0, clip_norm=clip_norm
    )
    data = testing.toy_federation(1).clients[0]
    how.setdefault("loss", lambda logits, y: 2 * logits[0, 1] + 1)
    report = train(model, data, config, **how)
    return model.w.item(), report


def test_the_report_has_the_criterion_and_the_penalty_apart():
    w, report = on_a_line(1.0, steps=2, penalty=lambda m: m.w.pow(2).sum())
    # w: 1, then 1 - 0.5 (2 + 2) = -1, then -1 - 0.5 (2 - 2) = -1
    assert w == -1.0
    assert report.loss == 1.0  # (3 + -1) / 2
    assert report.penalty == 1.0  # (1 + 1) / 2
    assert (report.steps, report.examples) == (2, 8)
    assert on_a_line(1.0)[1].penalty is None


def test_the_hook_on_gradients_comes_before_clipping():
    def scaffold(model):
        model.w.grad += 3.0 - 1.0

    assert on_a_line(1.0, gradient=scaffold)[0] == -1.0  # 1 - 0.5 (2 + 3 - 1)
    clipped, _ = on_a_line(1.0, gradient=scaffold, clip_norm=1.0)
    assert clipped == pytest.approx(0.5, rel=1e-5)


def test_an_objective_gives_the_criterion_and_a_term_beside_it():
    def objective(model, images, labels):
        assert images.shape[1:] == (1, 8, 8)
        assert labels.dtype == torch.int64
        return 3 * model.w.sum(), model.w.pow(2).sum()

    def plain(model, images, labels):
        return model.w.sum(), None

    w, report = on_a_line(1.0, steps=2, loss=None, objective=objective)
    # w: 1, then 1 - 0.5 (3 + 2) = -1.5, then -1.5 - 0.5 (3 - 3) = -1.5
    assert w == -1.5
    assert report.loss == pytest.approx((3 - 4.5) / 2)
    assert report.penalty == pytest.approx((1 + 2.25) / 2)
    assert on_a_line(1.0, loss=None, objective=plain)[1].penalty is None


def test_a_loss_and_an_objective_are_one_too_many():
    with pytest.raises(ContractError, match="a loss and an objective; expected one"):
        on_a_line(1.0, objective=lambda model, x, y: (model.w.sum(), None))


def test_the_hook_sees_the_penaltys_gradient():
    seen = []
    on_a_line(
        1.0,
        penalty=lambda m: m.w.pow(2).sum(),
        gradient=lambda m: seen.append(m.w.grad.item()),
    )
    assert seen == [4.0]


@pytest.mark.parametrize(
    ("optimiser", "expected"),
    [
        (Sgd(lr=0.25), 1 - 0.25 * 2 - 0.25 * 2),
        (Adam(lr=0.1, eps=1e-12), 1 - 0.1 - 0.1),
        (AdamW(lr=0.1, eps=1e-12, weight_decay=0.5), 0.95 * (0.95 - 0.1) - 0.1),
        (Sgd(lr=1.0, schedule=Schedule(cosine=2, per="step")), 1 - 2 - 1),
    ],
)
def test_an_optimiser_replaces_sgd_and_its_rate(optimiser, expected):
    w, _ = on_a_line(1.0, steps=2, lr=99.0, optimiser=optimiser)
    assert w == pytest.approx(expected, rel=1e-5)


def test_the_settings_own_optimiser_is_the_default_to_the_bit():
    model, other = (
        testing.toy_federation(1).build_spec(testing.toy_federation(1).server_model, 0)
        for _ in range(2)
    )
    data = testing.toy_federation(1).clients[0]
    config = TrainingConfig(local_steps=3, batch_size=8, lr=0.1, momentum=0.9)
    for net, how in (
        (model, None),
        (other, Sgd(lr=0.1, momentum=0.9, weight_decay=1e-4)),
    ):
        torch.manual_seed(0)
        train(net, data, config, optimiser=how)
    for a, b in zip(
        model.state_dict().values(), other.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b)


def test_a_penalty_that_explodes_is_seen_where_the_loss_does_not():
    with pytest.raises(DivergedError, match="the penalty became inf within 1 step "):
        on_a_line(1.0, penalty=lambda m: m.w.sum() * torch.inf)


def test_a_loss_that_explodes_names_the_rate_that_was_used():
    def explodes(logits, y):
        return logits.sum() * torch.inf

    with pytest.raises(DivergedError, match=r"training loss became inf.*rate 0.125"):
        on_a_line(1.0, loss=explodes, optimiser=Adam(lr=0.125))


def test_no_gradient_takes_memory_in_a_forward_pass():
    federation = testing.toy_federation(1)
    model = federation.build_spec(federation.server_model, 0)
    left = []
    model.register_forward_pre_hook(
        lambda module, _: left.append([p.grad is None for p in module.parameters()])
    )
    train(model, federation.clients[0], TrainingConfig(local_steps=3, lr=0.01))
    assert len(left) == 3
    assert all(map(all, left))
