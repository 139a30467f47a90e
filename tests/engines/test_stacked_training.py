"""Several models in one batched step: what each would have learnt alone."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from fedkd.base.randomness import torch_stream
from fedkd.data.images import Augmentation, ClientData
from fedkd.engines.stacked_training import (
    PendingTraining,
    _arranged,
    _place,
    _schedule,
    _sizes,
    kind_of,
    stackable,
    train_together,
)
from fedkd.ops.training import TrainingConfig, draws_of, train
from fedkd.plugins.registry import load_registry
from fedkd.testing import toy_images

TOLERANCE = 1e-9
"""Of weights in double precision, relative to the largest of the tensor: in single
precision, rounding alone moves a deep network's gradients by more than a mistake may."""
CPU = torch.device("cpu")
IMAGES = replace(
    toy_images(channels=3, size=16), augmentation=Augmentation(pad=2, flip=True)
)
STEPS = TrainingConfig(local_steps=5, batch_size=6, lr=0.1)
EPOCHS = TrainingConfig(local_epochs=2, batch_size=5, lr=0.1)
MODELS = {
    "mlp": {},
    "cnn": {},
    "resnet18": {"width": 0.125},
    "mobilenet": {"width": 0.125},
}


class Double(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model.double()

    @property
    def classifier(self):
        return self.model.classifier

    def forward(self, x):
        return self.model(x.double())


def built(name, k, **options):
    with torch_stream(0, "model", k):
        build = load_registry().model(name)
        model = build(IMAGES.shape, IMAGES.num_classes, **options)
    return Double(model).to(memory_format=torch.channels_last)


def data_of(sizes):
    order = torch.randperm(36, generator=torch.Generator().manual_seed(3))
    return [ClientData(IMAGES, order[:size]) for size in sizes]


def job_of(model, data, training, k):
    with torch_stream(0, "batches", k):
        return PendingTraining(model, data, tuple(draws_of(data, training)), training)


def alone(model, data, training, k):
    with torch_stream(0, "batches", k):
        return train(model, data, training)


def both(models, sizes, training):
    """Train copies alone and together; return both and what was reported."""
    data = data_of(sizes)
    first, second = copy.deepcopy(models), copy.deepcopy(models)
    given = list(zip(first, data, strict=True))
    reports = [alone(m, d, training, k) for k, (m, d) in enumerate(given)]
    given = list(zip(second, data, strict=True))
    sums = train_together([job_of(m, d, training, k) for k, (m, d) in enumerate(given)])
    return first, second, reports, sums


def worst(first, second):
    """Return the largest difference of entries, relative to the largest value."""
    found = [0.0]
    for a, b in zip(first, second, strict=True):
        state = b.state_dict()
        for name, value in a.state_dict().items():
            far = (value.double() - state[name].double()).abs().max()
            found.append(float(far / value.double().abs().max().clamp(min=1e-3)))
    return max(found)


@pytest.mark.parametrize("name", MODELS)
def test_weights_and_statistics_are_those_of_training_alone(name):
    models = [built(name, k, **MODELS[name]) for k in range(3)]
    # From step to step, deep networks with batch normalisation blow up what rounding has
    # changed: noise of 1e-15 on mobilenet's first weights is 1e-2 after five steps.
    training = STEPS.model_copy(update={"local_steps": 2})
    first, second, reports, sums = both(models, (12, 14, 18), training)
    assert worst(first, second) < TOLERANCE
    assert worst(models, second) > 1e-3, "nothing was learnt"
    assert [(s.examples, s.steps) for s in sums] == [
        (r.examples, r.steps) for r in reports
    ]
    for s, r in zip(sums, reports, strict=True):
        assert s.loss / s.steps == pytest.approx(r.loss, rel=1e-5)


@pytest.mark.parametrize(
    "changes",
    [{}, {"momentum": 0.9}, {"momentum": 0.9, "clip_norm": 0.5}, {"weight_decay": 0.1}],
    ids=str,
)
def test_unequal_amounts_of_data_and_the_optimiser_are_right(changes):
    # Sizes of batches: several passes of 5, 5, 2; of 5, 5; of 3; of 5, 4; of 5, 5, 2.
    models = [built("cnn", k) for k in range(5)]
    training = EPOCHS.model_copy(update=changes)
    first, second, reports, sums = both(models, (12, 10, 3, 9, 12), training)
    assert worst(first, second) < TOLERANCE
    assert [s.steps for s in sums] == [r.steps for r in reports] == [6, 4, 2, 4, 6]


def test_rows_that_are_not_next_to_each_other_are_right():
    # After two steps 5, 5 and three of 5, 2, 5, two rows have a batch of 2; between them
    # is one with a batch of 3.
    training = STEPS.model_copy(
        update={"local_steps": 6, "batch_size": 5, "momentum": 0.9}
    )
    models = [built("cnn", k) for k in range(4)]
    sizes = (12, 7, 13, 10)
    trainings = [
        job_of(m, d, training, 0) for m, d in zip(models, data_of(sizes), strict=True)
    ]
    rows = list(_schedule([_sizes(pending) for pending in _arranged(trainings)[0]]))
    assert any(isinstance(_place(some, CPU), torch.Tensor) for some in rows)
    first, second, *_ = both(models, sizes, training)
    assert worst(first, second) < TOLERANCE


def test_clipping_is_of_each_models_own_gradient():
    calm, wild = built("mlp", 0), built("mlp", 1)
    with torch.no_grad():
        wild.classifier.weight.mul_(100)
    training = STEPS.model_copy(update={"clip_norm": 0.1, "lr": 1.0})
    first, second, *_ = both([calm, wild], (12, 12), training)
    assert worst(first, second) < TOLERANCE


def test_models_keep_their_tensors_and_end_in_train_mode():
    models = [built("cnn", k).eval() for k in range(2)]
    kept = [[v.data_ptr() for v in m.state_dict().values()] for m in models]
    trainings = [job_of(m, data_of([9])[0], STEPS, k) for k, m in enumerate(models)]
    train_together(trainings)
    assert kept == [[v.data_ptr() for v in m.state_dict().values()] for m in models]
    assert all(m.training for m in models)
    assert all(p.grad is None for m in models for p in m.parameters())
    counts = [v for n, v in models[1].state_dict().items() if "num_batches" in n]
    assert counts
    assert all(int(v) == 5 for v in counts)


def test_what_is_frozen_or_unused_stays_as_it_is():
    models = [built("mlp", k) for k in range(2)]
    for model in models:
        model.classifier.bias.requires_grad_(False)
        model.spare = nn.Linear(2, 2)
    before = [copy.deepcopy(m.spare.state_dict()) for m in models]
    training = STEPS.model_copy(update={"weight_decay": 0.5})
    first, second, *_ = both(models, (12, 12), training)
    assert worst(first, second) < TOLERANCE
    for model, spare, start in zip(second, before, models, strict=True):
        assert torch.equal(model.spare.weight, spare["weight"])
        assert torch.equal(model.classifier.bias, start.classifier.bias)


def test_one_that_diverges_leaves_the_others_alone():
    models = [built("cnn", k) for k in range(3)]
    with torch.no_grad():
        models[1].classifier.weight.fill_(float("inf"))
    data = data_of((12, 12, 12))
    second = copy.deepcopy(models)
    trainings = [job_of(second[k], data[k], STEPS, k) for k in range(3)]
    sums = train_together(trainings)
    assert not sums[1].loss < float("inf")
    for k in (0, 2):
        alone(models[k], data[k], STEPS, k)
        assert worst([models[k]], [second[k]]) < TOLERANCE


def test_a_layer_that_cannot_be_batched_changes_no_model():
    class Odd(nn.Module):
        def forward(self, x):
            return x * 2 if bool(x.sum() > 0) else x

    models = [nn.Sequential(Odd(), built("mlp", k)) for k in range(2)]
    before = copy.deepcopy(models)
    data = data_of((12, 12))
    trainings = [job_of(models[k], data[k], STEPS, k) for k in range(2)]
    with pytest.raises(RuntimeError, match="vmap"):
        train_together(trainings)
    assert worst(before, models) == 0


def test_dropout_and_hooks_are_not_stacked():
    plain = nn.Sequential(nn.Dropout(0.0), nn.Linear(2, 2))
    assert stackable(plain)
    assert not stackable(nn.Sequential(nn.Dropout(0.1)))
    assert not stackable(nn.Sequential(nn.Dropout2d(0.1)))
    plain[1].register_forward_hook(lambda *_: None)
    assert not stackable(plain)


def test_a_weight_with_two_names_is_not_stacked():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    assert stackable(model)
    assert not stackable(nn.Sequential(model, model[0]))
    model[1].weight = model[0].weight
    assert not stackable(model)


def test_kinds_tell_models_settings_and_data_sets_apart():
    data = data_of((9, 12))
    of = [kind_of(job_of(built("cnn", k), data[k], STEPS, k)) for k in range(2)]
    assert of[0] == of[1]
    other = STEPS.model_copy(update={"lr": 0.2})
    longer = STEPS.model_copy(update={"local_steps": 9})
    frozen = built("cnn", 1)
    frozen.classifier.bias.requires_grad_(False)
    elsewhere = ClientData(toy_images(channels=3, size=16), torch.arange(9))
    assert kind_of(job_of(built("cnn", 1), data[1], longer, 1)) == of[0]
    for pending in (
        job_of(built("cnn", 1), data[1], other, 1),
        job_of(built("cnn", 1, hidden=32), data[1], STEPS, 1),
        job_of(built("mlp", 1), data[1], STEPS, 1),
        job_of(frozen, data[1], STEPS, 1),
        job_of(built("cnn", 1), elsewhere, STEPS, 1),
    ):
        assert kind_of(pending) != of[0]


def test_full_batches_go_together_and_short_ones_first():
    sizes = [[5, 5, 2], [5, 5], [3, 3]]
    assert list(_schedule(sizes)) == [[2], [2], [0, 1], [0, 1], [0]]
    # After its short batch a row waits for nobody and is waited for.
    assert list(_schedule([[5, 5], [2, 5]])) == [[1], [0, 1], [0]]


def test_rows_with_most_full_batches_come_first():
    data = data_of((3, 10, 14))
    model = built("mlp", 0)
    trainings = [job_of(model, d, EPOCHS, k) for k, d in enumerate(data)]
    arranged, row_of = _arranged(trainings)
    assert [len(pending.data) for pending in arranged] == [14, 10, 3]
    assert row_of == [2, 1, 0]
