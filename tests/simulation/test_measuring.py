"""Measuring with models whose answers depend on their mode, and shards of one image."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from fedkd import testing
from fedkd.metrics.classification import ClassAccuracy, Loss
from fedkd.metrics.fairness import ClientSpread, WorstClient
from fedkd.party import ModelSpec
from fedkd.simulation.evaluate import predictions
from fedkd.simulation.federation import Federation
from fedkd.simulation.simulator import simulate
from fedkd.strategy import Strategy

IMAGES = testing.toy_images()  # test images: 12 of each class, in this order
SHARDS = ([0, 1, 12], [35], [24])


class Sayer(nn.Module):
    """Says ``classes`` of the images in eval mode, of each by its first pixels; else 2.

    Its BatchNorm would take up whatever it sees in train mode.
    """

    def __init__(self, classes):
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.classes = classes
        self.seen = []

    def forward(self, x):
        self.norm(x)
        self.seen.append(x)
        if self.training:
            return torch.eye(3)[[2] * len(x)] * 3
        every = [self.classes[known(image)] for image in x]
        return torch.eye(3)[every] * 3


def known(image):
    """Return which test image a normalised one is."""
    pixels = ((image * 0.25 + 0.3) * 255).round().to(torch.uint8)
    same = (IMAGES.x_test == pixels).flatten(1).all(1)
    (position,) = same.nonzero().flatten().tolist()
    return position


@dataclass(frozen=True)
class Nothing:
    pass


class Said(Strategy):
    """Trains nothing; its models, which it leaves in train mode, are given."""

    def __init__(self, whole, own=()):
        super().__init__()
        self.whole = whole
        self.own = dict(own)

    def init(self, server):
        return Nothing()

    def broadcast(self, state, client_id, round):
        return Nothing()

    def local(self, down, client):
        return Nothing()

    def aggregate(self, state, ups, server, round):
        return Nothing()

    def predictors(self, state, server):
        return {} if self.whole is None else {"global": self.whole.train()}

    def personal(self, state, client):
        model = self.own.get(client.id)
        return None if model is None else model.train()


def measured(whole, own=()):
    shards = [np.array([k]) for k in range(3)]
    tests = [np.array(t) for t in SHARDS]
    world = Federation(IMAGES, shards, tests, [ModelSpec("mlp")], testing.toys._model)
    protocol = testing.toy_protocol(1, evaluation={"batch_size": 7})
    metrics = {
        "loss": Loss(),
        "class_accuracy": ClassAccuracy(),
        "worst": WorstClient(),
        "spread": ClientSpread(),
    }
    return simulate(Said(whole, own), world, protocol, 0, metrics=metrics).metrics


def says(right):
    """Return what a model says that is right of these images only, elsewhere one off."""
    truth = IMAGES.y_test.tolist()
    return [c if i in right else (c + 1) % 3 for i, c in enumerate(truth)]


def test_a_model_answers_in_eval_mode_and_keeps_its_mode_and_statistics():
    model = Sayer(IMAGES.y_test.tolist())
    for mode in (True, False):
        model.train(mode)
        said = predictions(model, IMAGES, 7)
        assert torch.equal(said.predicted, IMAGES.y_test)
        assert model.training is mode
    assert model.norm.num_batches_tracked.item() == 0
    assert not model.norm.running_mean.any()


def test_the_test_images_are_measured_normalised_and_each_once():
    model = Sayer([0] * 36)
    predictions(model, IMAGES, 7)
    seen = torch.cat(model.seen)
    assert [len(x) for x in model.seen] == [7, 7, 7, 7, 7, 1]
    torch.testing.assert_close(seen, (IMAGES.x_test / 255 - 0.3) / 0.25)


def test_a_part_of_the_test_images_is_measured_in_the_order_given():
    said = predictions(Sayer(says({35, 0})), IMAGES, 2, torch.tensor([35, 0, 12]))
    assert said.labels.tolist() == [2, 0, 1]
    assert said.predicted.tolist() == [2, 0, 2]


def test_a_global_model_has_each_client_s_accuracy_on_its_own_shard():
    """Right of images 0, 12, 24: 3 of 36; 2 of 3, 0 of 1 and 1 of 1 in the shards."""
    line = measured(Sayer(says({0, 12, 24})))
    assert line["global_accuracy"] == pytest.approx(300 / 36)
    by_client = {0: 200 / 3, 1: 0.0, 2: 100.0}
    assert line["local_accuracy_by_client"] == pytest.approx(by_client)
    assert line["local_accuracy"] == pytest.approx((200 / 3 + 0 + 100) / 3)
    assert line["worst"] == 0
    assert line["spread"] == pytest.approx(41.573970964154906)
    # Logit 3 is of the class that is said, 0 of the two others.
    right, wrong = 0.09494, 3.09494
    expected = ((2 * right + wrong) / 3 + wrong + right) / 3
    assert line["local_loss"] == pytest.approx(expected, abs=1e-4)
    assert line["global_loss"] == pytest.approx((3 * right + 33 * wrong) / 36, abs=1e-4)
    assert line["global_class_accuracy"] == pytest.approx([100 / 12] * 3)
    # Class 0 is in the first shard only, of class 1 one image, 35 and 24 are of class 2.
    assert line["local_class_accuracy"] == pytest.approx([50, 100, 50])


def test_an_own_model_is_measured_in_place_of_the_global_one():
    own = {0: Sayer(says({1})), 1: Sayer(says({35}))}
    line = measured(Sayer(says({0, 12, 24})), own)
    assert line["global_accuracy"] == pytest.approx(300 / 36)
    by_client = {0: 100 / 3, 1: 100.0, 2: 100.0}
    assert line["local_accuracy_by_client"] == pytest.approx(by_client)
    assert line["local_loss"] == pytest.approx(
        ((0.09494 + 2 * 3.09494) / 3 + 2 * 0.09494) / 3, abs=1e-4
    )


def test_without_a_global_model_each_own_one_answers_for_the_whole_set_and_its_shard():
    own = {0: Sayer(says({0})), 1: Sayer(says({35, 0, 1})), 2: Sayer(says({0, 35}))}
    line = measured(None, own)
    assert line["global_accuracy"] == pytest.approx((1 + 3 + 2) / 3 / 36 * 100)
    by_client = {0: 100 / 3, 1: 100.0, 2: 0.0}
    assert line["local_accuracy_by_client"] == pytest.approx(by_client)


def test_a_model_that_is_trained_on_after_being_measured_was_not_touched():
    federation = testing.toy_federation()
    model = federation.build_spec(federation.server_model, 0).train()
    before = {n: v.clone() for n, v in model.state_dict().items()}
    predictions(model, replace(federation.data), 5)
    assert model.training
    assert all(m.training for m in model.modules())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
