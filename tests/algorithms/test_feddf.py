"""FedDF: its three losses by hand, its whole loop by hand, and what it is without steps."""

from dataclasses import replace

import numpy as np
import pytest
import replaying as by_hand
import torch

from fedkd import PublicData, load_registry, testing
from fedkd.algorithms.fedavg import FedAvg
from fedkd.algorithms.local import OWN, Local
from fedkd.algorithms.mixed.feddf import FedDF, FedDFConfig, distance
from fedkd.base.randomness import torch_stream
from fedkd.data.images import Augmentation
from fedkd.simulation.federation import Federation
from fedkd.simulation.simulator import simulate

TEACHERS = torch.tensor([[[2, 0, -1], [0, 1, 0]], [[0, 1, 0], [1, 0, 2]]]).double()
STUDENT = torch.tensor([[0, 1, 0], [0.5, 0, 1]]).double()
STEPS, LR, CLIP = 3, 0.01, 0.05  # a bound that gradients do exceed
OPEN = np.array([34, 35, *range(0, 16, 2)])


@pytest.mark.parametrize(
    ("scheme", "value"),
    [
        ("avg_logits", 0.14503270012464106),
        ("avg_probs", 0.15121631812932212),
        ("avg_losses", 0.3400703250923108),
    ],
)
def test_what_is_averaged(scheme, value):
    assert distance(TEACHERS, STUDENT, scheme).item() == pytest.approx(value, abs=1e-14)


@pytest.mark.parametrize("scheme", ["avg_logits", "avg_probs", "avg_losses"])
def test_teachers_that_say_what_the_student_says_teach_nothing(scheme):
    student = STUDENT.clone().requires_grad_()
    loss = distance(STUDENT.expand(3, 2, 3), student, scheme)
    (gradient,) = torch.autograd.grad(loss, student)
    assert loss.item() == pytest.approx(0, abs=1e-15)
    torch.testing.assert_close(gradient, torch.zeros(2, 3).double())


WIDTHS = (1.0, 0.5, 1.0)
"""The width of each client."""


def world(widths=WIDTHS, clients=3):
    """Return the uneven world with a few images, seen before, as public data."""
    # They come as another data set: what is public matters here, not whose it was.
    public = PublicData(by_hand.IMAGES.x_train[OPEN], by_hand.IMAGES)
    there = MAKE(widths)
    return Federation(
        by_hand.IMAGES,
        SHARDS[:clients],
        TESTS[:clients],
        there.client_models,
        by_hand.network,
        public=public,
    )


MAKE = by_hand.federation
SHARDS = [np.array(s) for s in by_hand.SHARDS]
TESTS = [np.array(t) for t in by_hand.TESTS]


def teach(model, teachers, parts):
    """Take the steps of Adam (b1 0.9, b2 0.999) on KL(mean teacher || student)."""
    parameters = list(model.parameters())
    m, v = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
    model.train()
    for t in range(STEPS):
        x, _ = next(parts)
        with torch.no_grad():
            goal = sum(teacher(x) for teacher in teachers) / len(teachers)
        loss = by_hand.divergence(goal, model(x)).mean()
        gradients = torch.autograd.grad(loss, parameters)
        norm = sum(g.pow(2).sum() for g in gradients).sqrt()
        share = min(1.0, CLIP / (norm.item() + 1e-6))
        rate = LR * (1 + np.cos(np.pi * t / STEPS)) / 2
        with torch.no_grad():
            for i, (p, g) in enumerate(zip(parameters, gradients, strict=True)):
                m[i] = 0.9 * m[i] + 0.1 * share * g
                v[i] = 0.999 * v[i] + 0.001 * (share * g) ** 2
                up, low = m[i] / (1 - 0.9 ** (t + 1)), v[i] / (1 - 0.999 ** (t + 1))
                p.sub_(rate * up / (low.sqrt() + 1e-8))


def test_the_whole_loop(monkeypatch):
    monkeypatch.setattr(by_hand, "federation", world)
    config = FedDFConfig(steps=STEPS, batch_size=by_hand.SIZE, lr=LR, clip_norm=CLIP)
    result, _ = by_hand.run(FedDF(config), WIDTHS)
    monkeypatch.setattr(by_hand, "federation", MAKE)
    models = {width: by_hand.initial(width) for width in (1.0, 0.5)}
    for t, clients in enumerate(by_hand.clients_of(result)):
        sent = {}
        for k in clients:
            model = by_hand.net(models[WIDTHS[k]], WIDTHS[k])
            by_hand.train(model, k, t)
            sent[k] = model
        for width in (1.0, 0.5):
            own = [k for k in clients if WIDTHS[k] == width]
            if own:
                states = [by_hand.state_of(sent[k]) for k in own]
                models[width] = by_hand.mean(states, [len(SHARDS[k]) for k in own])
        teachers = [sent[k].eval() for k in clients]
        students = {w: by_hand.net(weights, w) for w, weights in models.items()}
        with torch_stream(by_hand.SEED, "server", t):
            for student in students.values():
                teach(student, teachers, by_hand.batches(OPEN.tolist()))
        models = {w: by_hand.state_of(student) for w, student in students.items()}
    by_hand.agree(result.state.weights[0], models[1.0])
    by_hand.agree(result.state.weights[1], models[0.5])


def test_no_steps_are_fedavg_bit_for_bit(monkeypatch):
    monkeypatch.setattr(by_hand, "federation", lambda widths=(1.0,): world(widths))
    ours, _ = by_hand.run(FedDF(FedDFConfig(steps=0)))
    theirs, _ = by_hand.run(FedAvg())
    for name, value in theirs.state.weights.items():
        assert torch.equal(ours.state.weights[0][name], value), name


def test_no_steps_are_fedavg_in_each_architecture_bit_for_bit(monkeypatch):
    """Clients 0 and 1 average as if they were all; client 2, of another one, is alone."""
    widths = (1.0, 1.0, 0.5)
    monkeypatch.setattr(by_hand, "federation", world)
    ours, _ = by_hand.run(FedDF(FedDFConfig(steps=0)), widths, participation=1.0)
    _, alone = by_hand.run(Local(), widths, participation=1.0)
    monkeypatch.setattr(by_hand, "federation", lambda w: world(w, clients=2))
    pair, _ = by_hand.run(FedAvg(), (1.0,), clients=2, participation=1.0)
    for name, value in pair.state.weights.items():
        assert torch.equal(ours.state.weights[0][name], value), name
    for name, value in alone.memories.recall(2)[OWN].items():
        assert torch.equal(ours.state.weights[1][name], value), name


@pytest.mark.parametrize("name", ["feddf", "fedet"])
@pytest.mark.parametrize("augment", [True, False])
def test_public_images_are_augmented_unless_the_option_says_no(
    monkeypatch, name, augment
):
    data = replace(testing.toy_images(), augmentation=Augmentation(pad=2))
    there, seen, batches = testing.toy_federation(data=data), [], PublicData.batches

    def told(*given, **how):
        for x in batches(*given, **how):
            seen.extend(x)
            yield x

    monkeypatch.setattr(PublicData, "batches", told)
    options = {"steps": 2, "batch_size": 8} | ({} if augment else {"augment": False})
    strategy, _ = load_registry().strategy(name, options)
    simulate(strategy, there, testing.toy_protocol(1), 0)
    stored = there.public.at(torch.arange(len(there.public)))
    as_stored = [any(torch.equal(x, one) for one in stored) for x in seen]
    assert len(as_stored) > 8
    assert all(as_stored) != augment


def test_each_client_gets_and_sends_the_model_of_its_architecture():
    there = testing.toy_federation(models=("cnn", "mlp"))
    strategy = FedDF(FedDFConfig(steps=1, batch_size=8))
    history = simulate(strategy, there, testing.toy_protocol(2), 0).history
    models = [there.build_spec(spec, 0) for spec in there.client_models]
    sizes = [
        sum(v.numel() * v.element_size() for v in model.state_dict().values())
        for model in models
    ]
    assert len(set(sizes)) == 2
    for t, line in enumerate(history):
        assert line["bytes_down"] == line["bytes_up"] == (t + 1) * sum(sizes)
