"""Replayed steps: the numbers of the eager ones, from memory that stays where it is."""

import contextlib
import gc
import weakref

import pytest
import torch
from torch import nn

from fedkd import testing
from fedkd.data.images import Augmentation
from fedkd.engines import replayed_training
from fedkd.engines.replay import WARM_UPS, Replay
from fedkd.engines.replayed_training import KEPT, Replayer
from fedkd.engines.static_sgd import StaticSgd
from fedkd.errors import DivergedError
from fedkd.ops.sgd import FastSgd
from fedkd.ops.training import TrainingConfig, train
from fedkd.simulation.precision import arithmetic

CPU = torch.device("cpu")


def world(name="cnn", **images):
    """Return a model and the data of two clients."""
    data = testing.toy_images(**images)
    federation = testing.toy_federation(2, [name], data)
    return federation.build_spec(federation.server_model, 0), federation.clients


def state_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def after(trainer, settings, *, rounds=1, name="cnn", precision="fp32", **images):
    """Return the model's states after each turn of each client, and the reports."""
    model, clients = world(name, **images)
    start = state_of(model)
    states, reports = [], []
    torch.manual_seed(0)
    for index in range(rounds):
        for data in clients:
            model.load_state_dict(start)
            with arithmetic(precision, CPU):
                reports.append(trainer(model, data, settings.at_round(index)))
            states.append(state_of(model))
    return states, reports


def assert_equal(first, second, tolerance=0.0):
    states, reports = first
    others, found = second
    assert [(r.steps, r.examples) for r in reports] == [
        (r.steps, r.examples) for r in found
    ]
    for one, two in zip(reports, found, strict=True):
        assert one.loss == pytest.approx(two.loss, rel=tolerance, abs=0)
    for one, two in zip(states, others, strict=True):
        torch.testing.assert_close(one, two, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("name", ["cnn", "cnn-plain"])
def test_without_momentum_the_bits_are_those_of_the_eager_steps(name, ahead):
    settings = TrainingConfig(local_steps=12, batch_size=8, lr=0.1, lr_decay=0.5)
    eager = after(train, settings, rounds=2, name=name)
    assert_equal(eager, after(Replayer(ahead), settings, rounds=2, name=name))


def test_momentum_starts_anew_at_each_call_and_agrees_to_rounding():
    settings = TrainingConfig(local_steps=6, batch_size=8, lr=0.05, momentum=0.9)
    eager = after(train, settings, rounds=2)
    assert_equal(eager, after(Replayer(), settings, rounds=2), 1e-5)


def test_short_batches_are_taken_as_they_come():
    settings = TrainingConfig(local_epochs=2, batch_size=7, lr=0.1)
    assert_equal(after(train, settings), after(Replayer(), settings))


def test_a_client_with_less_than_a_batch_trains_on_all_it_has():
    settings = TrainingConfig(local_steps=3, batch_size=500, lr=0.1)
    assert_equal(after(train, settings), after(Replayer(), settings))


def test_bf16_steps_are_those_of_the_eager_loop():
    settings = TrainingConfig(local_steps=4, batch_size=8, lr=0.1)
    first, second = (
        after(trainer, settings, precision="bf16") for trainer in (train, Replayer())
    )
    assert_equal(first, second)


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("how", [Augmentation(1, flip=True), Augmentation(flip=True)])
def test_augmentation_is_drawn_as_ever(how, ahead, monkeypatch):
    from dataclasses import replace

    real = testing.toy_images
    monkeypatch.setattr(
        testing, "toy_images", lambda: replace(real(), augmentation=how)
    )
    settings = TrainingConfig(local_steps=4, batch_size=8, lr=0.1)
    assert_equal(after(train, settings), after(Replayer(ahead), settings))


def test_one_step_serves_every_client_round_and_rate():
    settings = TrainingConfig(local_steps=2, batch_size=8, lr=0.1, lr_decay=0.5)
    replayer = Replayer()
    after(replayer, settings, rounds=3)
    assert len(replayer._steps) == 1


def test_other_settings_and_other_arithmetic_are_other_steps():
    model, (data, _) = world()
    replayer = Replayer()
    plain = {"local_steps": 1, "batch_size": 8, "lr": 0.1}
    for change in ({}, {"momentum": 0.9}, {"batch_size": 9}, {"weight_decay": 0.0}):
        replayer(model, data, TrainingConfig(**(plain | change)))
    with arithmetic("bf16", CPU):
        replayer(model, data, TrainingConfig(**plain))
    assert len(replayer._steps) == 5


def test_a_model_whose_tensors_were_exchanged_is_captured_anew():
    model, (data, _) = world("cnn-plain")
    settings = TrainingConfig(local_steps=1, batch_size=8, lr=0.1)
    replayer = Replayer()
    replayer(model, data, settings)
    (old,) = replayer._steps.values()
    replayer(model, data, settings)
    assert list(replayer._steps.values()) == [old]
    layer = next(m for m in model.modules() if isinstance(m, nn.Linear))
    layer.weight = nn.Parameter(layer.weight.detach().clone())
    before = layer.weight.detach().clone()
    replayer(model, data, settings)
    (new,) = replayer._steps.values()
    assert new is not old
    assert not torch.equal(layer.weight, before), "the new weights were not trained"


def test_throwaway_models_do_not_pile_up():
    federation = testing.toy_federation(1)
    settings = TrainingConfig(local_steps=1, batch_size=8, lr=0.1)
    replayer = Replayer()
    for _ in range(KEPT + 3):
        replayer(federation.build("cnn-plain"), federation.clients[0], settings)
    assert len(replayer._steps) == KEPT
    graphs = [weakref.ref(step._replay) for step in replayer._steps.values()]
    gc.collect()
    gc.disable()
    replayer.clear()
    left = [graph for graph in graphs if graph() is not None]
    gc.enable()
    assert not replayer._steps
    assert not left, "memory waits for the collector"


def test_what_is_not_plain_runs_as_ever(monkeypatch):
    def refuse(*_):
        raise AssertionError("a step was replayed")

    monkeypatch.setattr(replayed_training.PlainStep, "replay", refuse)
    settings = TrainingConfig(local_steps=2, batch_size=8, lr=0.1)
    model, (data, _) = world()
    replayer = Replayer()
    replayer(model, data, settings, loss=nn.functional.cross_entropy)
    replayer(model, data, settings, penalty=lambda m: next(m.parameters()).sum())
    replayer(model, data, settings.model_copy(update={"clip_norm": 1.0}))
    handle = model.register_forward_hook(lambda *_: None)
    replayer(model, data, settings)
    handle.remove()
    with pytest.raises(AssertionError, match="was replayed"):
        replayer(model, data, settings)


def test_frozen_and_unused_parameters_stay():
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.used = nn.Linear(64, 3)
            self.frozen = nn.Linear(3, 3).requires_grad_(False)
            self.unused = nn.Linear(3, 3)

        def forward(self, x):
            return self.frozen(self.used(x.flatten(1)))

    _, (data, _) = world()
    settings = TrainingConfig(local_steps=3, batch_size=8, lr=0.1, momentum=0.5)
    states = []
    for trainer in (train, Replayer()):
        torch.manual_seed(0)
        model = Half()
        trainer(model, data, settings)
        states.append(state_of(model))
    torch.testing.assert_close(*states, rtol=1e-5, atol=1e-6)


def test_divergence_is_divergence():
    model, (data, _) = world("cnn-plain")
    settings = TrainingConfig(local_steps=30, batch_size=8, lr=1e9)
    with pytest.raises(DivergedError, match="lower the"):
        Replayer()(model, data, settings)


def test_a_step_that_cannot_be_captured_is_said_once_and_taken(monkeypatch):
    class Stubborn:
        tries = 0

        def __init__(self, *_):
            Stubborn.tries += 1
            raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(replayed_training, "Replay", Stubborn)
    settings = TrainingConfig(local_steps=5, batch_size=8, lr=0.1)
    eager = after(train, settings, rounds=2)
    replayer = Replayer()
    with pytest.warns(RuntimeWarning, match="not permitted when stream is") as caught:
        found = after(replayer, settings, rounds=2)
    assert_equal(eager, found)
    assert len(caught) == Stubborn.tries == 1
    assert "not permitted" in replayer.reason


def test_the_static_optimiser_takes_gradients_of_other_strides():
    """The strides of a dimension of size one mean nothing, but the kernel compares them."""
    p = torch.randn(4, 1, 3, 3).to(memory_format=torch.channels_last)
    other = p.detach().clone().requires_grad_()
    p.requires_grad_()
    grad = torch.randn(4, 1, 3, 3)
    p.grad = grad.as_strided(grad.shape, (9, 77, 3, 1))
    other.grad = grad.clone()
    static = StaticSgd([p], 0.0, 0.1)
    static.start(0.5)
    static.step()
    FastSgd([other], 0.5, 0.0, 0.1).step()
    torch.testing.assert_close(p.detach(), other.detach(), rtol=1e-6, atol=1e-6)


@pytest.fixture
def fake_cuda(monkeypatch):
    """Let the capture of :class:`Replay` run on the CPU; return what was captured."""
    runs = []

    class Graph:
        def replay(self):
            runs[-1]()

    class Stream:
        def __init__(self, *_):
            pass

        def wait_stream(self, other):
            pass

    seen = []

    @contextlib.contextmanager
    def block(*arguments, **options):
        seen.append(options)
        yield

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", block)
    monkeypatch.setattr(torch.cuda, "graph", block)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda *_: torch.zeros(1))
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda *_: None)
    return runs


def test_a_capture_changes_neither_weights_nor_statistics_nor_random_numbers(fake_cuda):
    layer = nn.BatchNorm1d(3)
    calls = []

    def function(x):
        calls.append(torch.rand(()))
        layer(x)
        with torch.no_grad():
            layer.weight.add_(1)

    x = torch.randn(5, 3)
    replay = Replay(function, [x], [])
    calls.clear()
    torch.manual_seed(3)
    before = state_of(layer)
    changed = [*layer.parameters(), *layer.buffers()]
    graph = replay._captured(changed)
    assert len(calls) == WARM_UPS + 1
    torch.testing.assert_close(state_of(layer), before, rtol=0, atol=0)
    assert int(layer.num_batches_tracked) == 0
    # A real capture only records; here its one draw is the first that counts.
    torch.manual_seed(3)
    assert torch.equal(calls[-1], torch.rand(()))
    assert graph is not None


def test_a_failed_capture_changes_nothing_either(fake_cuda):
    weight = torch.zeros(2)

    def function(x):
        weight.add_(x)
        raise RuntimeError("no")

    replay = Replay(function, [torch.ones(2)], [])
    with pytest.raises(RuntimeError, match="no"):
        replay._captured([weight])
    assert weight.tolist() == [0, 0]


def test_inputs_are_copied_to_where_they_always_are():
    seen = []
    replay = Replay(
        lambda x: seen.append((x.data_ptr(), x.clone())), [torch.ones(2)], []
    )
    replay(torch.tensor([1.0, 2.0]))
    replay(torch.tensor([3.0, 4.0]))
    assert seen[0][0] == seen[1][0]
    assert seen[1][1].tolist() == [3, 4]
