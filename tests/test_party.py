"""What a client is given to train with, and what it counts and logs."""

import pytest

from fedkd import testing
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
    assert client._trainer.asked == 1


def test_images_of_several_trainings_add_up_and_own_settings_are_heeded(client):
    first = client.train()
    once = TrainingConfig(local_steps=1, batch_size=4, lr=0.1)
    second = client.train(training=once)
    client.count_examples(5)
    assert (first.examples, second.examples) == (16, 4)
    assert client.examples == 16 + 4 + 5
