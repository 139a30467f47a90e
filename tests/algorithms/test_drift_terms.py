"""MOON, FedNTD and FedSAM: by hand, replayed whole, and FedAvg in the limit.

A replay is a loop of this file's own, written from the paper, in the uneven world of
``replaying``: normalisation, momentum, decay, clipping, crops, a client that sits out.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from replaying import (
    RATES,
    SEED,
    SHARDS,
    STEPS,
    Descent,
    agree,
    batches,
    clients_of,
    images_of,
    initial,
    mean,
    net,
    run,
    size_of,
    state_of,
)

from fedkd import load_registry
from fedkd.algorithms.drift.fedntd import not_true, not_true_distillation
from fedkd.algorithms.drift.fedsam import sharpen
from fedkd.algorithms.drift.moon import contrastive
from fedkd.base.randomness import torch_stream
from fedkd.errors import ConfigError
from fedkd.models.cnn import Cnn

REGISTRY = load_registry()


def finished(name, **options):
    strategy, _ = REGISTRY.strategy(name, options)
    return run(strategy)


def descended(model, k, t, gradients_of):
    """Take a client's steps of a round by ``gradients_of(model, x, y)``; its losses."""
    descent, losses = Descent(RATES[t]), []
    parameters = dict(model.named_parameters())
    model.train()
    with torch_stream(SEED, "client", t, k):
        source = batches(SHARDS[k])
        for _ in range(STEPS):
            x, y = next(source)
            gradients, loss = gradients_of(model, x, y)
            descent.step(parameters, dict(zip(parameters, gradients, strict=True)))
            losses.append(loss.item())
    return sum(losses) / STEPS


def replayed(result, turn):
    """Average what ``turn(weights, k, t)`` returns; return it, and each round's loss."""
    weights, losses = initial(), []
    for t, clients in enumerate(clients_of(result)):
        done = [turn(weights, k, t) for k in clients]
        weights = mean([state for state, _ in done], [len(SHARDS[k]) for k in clients])
        losses.append(sum(loss for _, loss in done) / len(done))
    return weights, losses


def check(result, weights, losses, passes=1):
    """Hold a run against its replay: weights, losses, images and bytes."""
    agree(result.state.weights, weights)
    seen = sent = 0
    for line, clients, loss in zip(
        result.history, clients_of(result), losses, strict=True
    ):
        seen += passes * sum(images_of(k) for k in clients)
        sent += len(clients) * size_of(initial())
        assert line["train_loss"] == pytest.approx(loss, abs=1e-5)
        assert line["client_examples"] == seen
        assert (line["bytes_down"], line["bytes_up"]) == (sent, sent)


def same(ours, theirs):
    return all(torch.equal(ours[n], value) for n, value in theirs.items())


@pytest.mark.parametrize(
    ("name", "options"), [("moon", {"mu": 0}), ("fedntd", {"beta": 0})]
)
def test_without_its_term_it_is_fedavg_bit_for_bit(name, options):
    ours, theirs = finished(name, **options)[0], finished("fedavg")[0]
    assert same(ours.state.weights, theirs.state.weights)
    for line, other in zip(ours.history, theirs.history, strict=True):
        assert line["train_loss"] == other["train_loss"]
        assert line["client_examples"] == other["client_examples"]


# MOON


def test_the_contrastive_loss_by_hand():
    """z = (1, 0): cos 45 degrees to (1, 1) and 0 to (0, 1); ln(1 + e^(-sqrt 2))."""
    z = torch.tensor([[1.0, 0.0]]).double()
    near, last = (
        torch.tensor([[1.0, 1.0]]).double(),
        torch.tensor([[0.0, 1.0]]).double(),
    )
    assert contrastive(z, near, last, 0.5).item() == pytest.approx(0.21762172158174375)
    both = contrastive(
        z.repeat(2, 1), torch.cat([near, near]), torch.cat([last, near]), 1
    )
    assert both.item() == pytest.approx(
        (math.log(1 + math.exp(-math.sqrt(0.5))) + math.log(2)) / 2
    )


def test_where_both_others_are_one_the_contrastive_loss_has_no_gradient():
    z = torch.randn(4, 3, requires_grad=True)
    near = torch.randn(4, 3)
    loss = contrastive(z, near, near, 0.5)
    loss.backward()
    assert loss.item() == pytest.approx(0.6931471805599453)
    assert z.grad.abs().max() < 1e-7  # roundings


@pytest.mark.parametrize(("mu", "tau"), [(1.0, 0.5), (3.0, 0.8)])
def test_moon_is_algorithm_1(mu, tau):
    result, sides = finished("moon", mu=mu, temperature=tau)
    last = {k: initial() for k in range(3)}

    def turn(weights, k, t):
        near, before = net(weights).eval(), net(last[k]).eval()

        def gradients_of(model, x, y):
            z, up, down = (m.features(x) for m in (model, near, before))
            rows = []
            for i in range(len(y)):
                pull, push = (
                    torch.exp(z[i] @ other / (z[i].norm() * other.norm()) / tau)
                    for other in (up[i].detach(), down[i].detach())
                )
                rows.append(-torch.log(pull / (pull + push)))
            value = F.cross_entropy(model.head(z), y)
            whole = value + mu * sum(rows) / len(rows)
            return torch.autograd.grad(whole, list(model.parameters())), value

        model = net(weights)
        loss = descended(model, k, t, gradients_of)
        last[k] = state_of(model)
        return last[k], loss

    check(result, *replayed(result, turn))
    for k, weights in last.items():
        agree(sides.memories.recall(k)["previous"], weights)


def test_a_projection_head_has_two_layers_and_belongs_to_the_features():
    model = Cnn.build((1, 8, 8), 3, features=5, projection_units=7)
    x = torch.randn(2, 1, 8, 8)
    first, last = model.projection[0], model.projection[2]
    by_hand = last(first(model.trunk(x)).clamp(min=0))
    torch.testing.assert_close(model.features(x), by_hand)
    assert [p.shape for p in model.projection.parameters()] == [
        (7, 64),
        (7,),
        (5, 7),
        (5,),
    ]
    with pytest.raises(ConfigError, match="projection_units=7 without features; give"):
        Cnn.build((1, 8, 8), 3, projection_units=7)


# FedNTD


def test_not_true_distillation_by_hand():
    """Label 1: (ln 3, ., 0) is (3/4, 1/4), (0, ., 0) is halves: 3/4 ln 3/2 + 1/4 ln 1/2.

    At tau 2 the teacher is (sqrt 3, 1) / (1 + sqrt 3).
    """
    teacher = torch.tensor([[math.log(3), 9.0, 0.0]], dtype=torch.float64)
    student, y = torch.tensor([[0.0, -4.0, 0.0]]).double(), torch.tensor([1])
    assert not_true(teacher, y).tolist() == [[math.log(3), 0.0]]
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert expected == pytest.approx(0.13081203594113694)
    loss = not_true_distillation(teacher, student, y, 1.0)
    assert loss.item() == pytest.approx(expected)
    p = math.sqrt(3) / (1 + math.sqrt(3))
    warm = p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p))
    loss = not_true_distillation(teacher, student, y, 2.0)
    assert loss.item() == pytest.approx(warm)


def test_the_released_loss_is_the_equations_times_tau_squared():
    """tau^2 KLDivLoss over the classes but the label's, as released: at tau 2 four times.

    At tau 1 they are one, to the bit.
    """
    teacher, student = torch.randn(2, 5, 4).unbind()
    y = torch.tensor([0, 3, 1, 1, 2])
    others = torch.tensor([[c for c in range(4) if c != label] for label in y])
    said, learnt = teacher.gather(1, others), student.gather(1, others)
    for tau, times in ((1.0, 1.0), (2.0, 4.0)):
        goal, log = (said / tau).softmax(1), (learnt / tau).log_softmax(1)
        released = tau**2 * F.kl_div(log, goal, reduction="batchmean")
        ours = times * not_true_distillation(teacher, student, y, tau)
        torch.testing.assert_close(ours, released)


def test_the_logit_of_the_label_has_no_part_in_not_true_distillation():
    student = torch.randn(5, 4, requires_grad=True)
    y = torch.tensor([0, 3, 1, 1, 2])
    not_true_distillation(torch.randn(5, 4), student, y, 1.0).backward()
    assert student.grad[range(5), y].abs().max() == 0
    assert (student.grad != 0).sum() == 15
    two = torch.randn(3, 2), torch.randn(3, 2)
    assert not_true_distillation(*two, torch.tensor([0, 1, 1]), 1.0).item() == 0


@pytest.mark.parametrize(("beta", "tau"), [(1.0, 1.0), (2.0, 3.0)])
def test_fedntd_is_section_4(beta, tau):
    result, _ = finished("fedntd", beta=beta, temperature=tau)

    def turn(weights, k, t):
        received = net(weights).eval()

        def gradients_of(model, x, y):
            said, learnt = received(x).detach(), model(x)
            rows = []
            for i, label in enumerate(y.tolist()):
                kept = [c for c in range(3) if c != label]
                q_g, q_l = (torch.exp(z[i][kept] / tau) for z in (said, learnt))
                q_g, q_l = q_g / q_g.sum(), q_l / q_l.sum()
                rows.append((q_g * torch.log(q_g / q_l)).sum())
            value = F.cross_entropy(learnt, y)
            whole = value + beta * sum(rows) / len(rows)
            return torch.autograd.grad(whole, list(model.parameters())), value

        model = net(weights)
        loss = descended(model, k, t, gradients_of)
        return state_of(model), loss

    check(result, *replayed(result, turn))


# FedSAM


class Line(torch.nn.Module):
    """Logits (a x, b y) of an image of two pixels, and a parameter that has no part."""

    def __init__(self):
        super().__init__()
        self.a = torch.nn.Parameter(torch.tensor(1.0, dtype=torch.float64))
        self.b = torch.nn.Parameter(torch.tensor(2.0, dtype=torch.float64))
        self.idle = torch.nn.Parameter(torch.tensor(5.0, dtype=torch.float64))

    def forward(self, x):
        return torch.stack([self.a * x[:, 0], self.b * x[:, 1]], 1)


def test_a_sharpened_gradient_by_hand():
    """x = (3, 4), label 0: g = (p - 1, 0) x at p = sigma(3 a - 4 b), that is e^-5.

    g = (1 - p) (-3, 4), of norm 5 (1 - p): the model moves to (1, 2) + .5 (-.6, .8), which
    is (.7, 2.4), where 3 a - 4 b = -7.5 and the gradient is (1 - sigma(-7.5)) (-3, 4).
    """
    model = Line()
    x, y = torch.tensor([[3.0, 4.0]]).double(), torch.tensor([0])
    F.cross_entropy(model(x), y).backward()
    sharpen(model, x, y, 0.5)
    rest = 1 - 1 / (1 + math.exp(7.5))
    assert model.a.grad.item() == pytest.approx(-3 * rest, abs=1e-12)
    assert model.b.grad.item() == pytest.approx(4 * rest, abs=1e-12)
    assert model.idle.grad is None
    assert [p.item() for p in model.parameters()] == [1.0, 2.0, 5.0]


def test_a_gradient_of_zero_stays_zero():
    model = Line()
    x, y = torch.zeros(1, 2).double(), torch.tensor([0])
    F.cross_entropy(model(x), y).backward()
    sharpen(model, x, y, 0.5)
    assert (model.a.grad.item(), model.b.grad.item()) == (0, 0)


@pytest.mark.parametrize("rho", [0.05, 0.5])
def test_fedsam_is_algorithm_1(rho):
    result, _ = finished("fedsam", rho=rho)

    def turn(weights, k, t):
        # Another network: the statistics of the one that is sent move at w alone.
        model, away = net(weights), net(weights).train()

        def gradients_of(model, x, y):
            value = F.cross_entropy(model(x), y)
            g = torch.autograd.grad(value, list(model.parameters()))
            norm = math.sqrt(sum(float((each**2).sum()) for each in g))
            away.load_state_dict(model.state_dict())
            with torch.no_grad():
                for p, each in zip(away.parameters(), g, strict=True):
                    p.add_(rho * each / norm)
            worst = F.cross_entropy(away(x), y)
            return torch.autograd.grad(worst, list(away.parameters())), value

        loss = descended(model, k, t, gradients_of)
        return state_of(model), loss

    check(result, *replayed(result, turn), passes=2)
