"""What a client is given to train with, and what it counts and logs."""

import numpy as np
import pytest
import torch

from fedkd import testing
from fedkd.errors import ContractError
from fedkd.ops.optimisers import Sgd
from fedkd.ops.training import TrainingConfig
from fedkd.simulation.sides import Sides


class Recorder:
    """A trainer that says when it was asked."""

    def __init__(self, trainer):
        self.asked = 0
        self._trainer = trainer

    def __call__(self, *args):
        self.asked += 1
        return self._trainer(*args)


@pytest.fixture
def client():
    protocol = testing.toy_protocol(1)
    side = Sides(testing.toy_federation(), protocol, 0).client(0, protocol.training)
    side.load(side.initial)
    side._trainer = Recorder(side._trainer)
    return side


def test_training_reports_counts_and_logs_the_criterion_alone(client):
    report = client.train(penalty=lambda model: next(model.parameters()).sum() * 0 + 7)
    assert report.penalty == pytest.approx(7.0)
    assert report.loss < 7.0
    assert client.logged == {"train_loss": report.loss}
    assert client.examples == report.examples > report.steps > 0


def test_plain_training_is_the_executors_and_all_other_is_ones_own(client):
    client.train()
    assert client._trainer.asked == 1
    client.train(loss=lambda logits, y: logits.sum())
    client.train(penalty=lambda model: next(model.parameters()).sum())
    client.train(gradient=lambda model: None)
    client.train(optimiser=Sgd(lr=0.1))
    client.train(objective=lambda model, x, y: (model(x).sum(), None))
    client.train(model=client.build("mlp"))
    assert client._trainer.asked == 1


def test_another_model_is_trained_in_place_of_the_working_one(client):
    own = client.build("mlp")
    before = [p.detach().clone() for p in own.parameters()]
    client.train(model=own)
    assert all((a != b).any() for a, b in zip(own.parameters(), before, strict=True))
    weights = client.initial
    assert all((p == weights[n]).all() for n, p in client.model.named_parameters())


@pytest.mark.parametrize("number", [-1, -40, 1.5, 2.0, True, "3", None, np.nan])
def test_examples_are_whole_numbers_from_0_on(client, number):
    with pytest.raises(
        ContractError, match=r"count_examples was given .* whole number"
    ):
        client.count_examples(number)
    assert client.examples == 0


def test_whole_numbers_of_every_type_are_counted(client):
    for number in (2, np.int64(3), torch.tensor(4), 0):
        client.count_examples(number)
    assert client.examples == 9


def test_what_is_counted_and_logged_is_read_only(client):
    with pytest.raises(AttributeError):
        client.examples = 7
    with pytest.raises(TypeError):
        client.logged["a"] = 7


@pytest.mark.parametrize(
    "value", ["high", "3", None, [1.0, 2.0], torch.rand(2), {"a": 1}, 1j, b"1"]
)
def test_what_is_no_number_is_not_logged_and_the_name_is_said(client, value):
    with pytest.raises(
        ContractError, match=r"log was given the name 'mine' and .*one num"
    ):
        client.log("mine", value)
    assert not client.logged


def test_a_name_that_is_no_text_is_not_logged(client):
    with pytest.raises(ContractError, match=r"the name 7 and 1.0; expected a text"):
        client.log(7, 1.0)


def test_what_is_not_finite_is_logged_as_missing(client):
    client.log("loss", float("nan"))
    client.log("rate", torch.tensor(float("inf")))
    client.log("fine", torch.tensor([2.5]))
    assert client.logged == {"loss": None, "rate": None, "fine": 2.5}


def test_images_of_several_trainings_add_up_and_own_settings_are_heeded(client):
    first = client.train()
    once = TrainingConfig(local_steps=1, batch_size=4, lr=0.1)
    second = client.train(training=once)
    client.count_examples(5)
    assert (first.examples, second.examples) == (16, 4)
    assert client.examples == 16 + 4 + 5
