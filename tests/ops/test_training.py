"""Local training: amounts, rates and refusals."""

import pytest
import torch

from fedkd import testing
from fedkd.config import build
from fedkd.errors import ConfigError
from fedkd.ops.training import TrainingConfig, train


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
    with pytest.raises(ConfigError, match=r"training.lr: found -1.*greater than 0"):
        build(TrainingConfig, {"local_steps": 1, "lr": -1}, "training")
