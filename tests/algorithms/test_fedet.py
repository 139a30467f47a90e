"""Fed-ET: its equations by hand, its whole loop by hand, its limits and its traffic."""

import numpy as np
import pytest
import replaying as by_hand
import torch
import torch.nn.functional as F
from torch import nn

from fedkd import ConfigError, PublicData, testing
from fedkd.algorithms.mixed.fedet import (
    FedET,
    FedETConfig,
    confidence,
    diverging,
    ensemble_loss,
)
from fedkd.base.randomness import torch_stream
from fedkd.party import ModelSpec
from fedkd.plugins.registry import load_registry
from fedkd.simulation.federation import Federation
from fedkd.simulation.simulator import simulate

REGISTRY = load_registry()

# Two images: on the first, two of three diverge from class 0; on the second nobody does.
TEACHERS = torch.tensor(
    [
        [[2, 0, -2], [0, 1, -1]],
        [[-0.3, 0, 0.3], [0, 2, -2]],
        [[0, 0.6, -0.6], [0, 3, -3]],
    ],
    dtype=torch.float64,
)
STUDENT = torch.tensor([[0, 0, 0], [np.log(2), 0, 0]], dtype=torch.float64)
CROSS_ENTROPY = 1.242453324894  # ln 3 and ln 4, of which the mean
DIVERGENCE = 0.068694783085  # of [-.06, .48, -.42] from evenness, on one image


def test_confidence_is_the_share_of_the_variance():
    """Variances 4 and 0.09; 1, 4 and 9."""
    pair = torch.tensor([[[2, 0, -2]], [[0.3, 0, -0.3]]]).double()
    assert confidence(pair).flatten().tolist() == pytest.approx(
        [0.97799511, 0.02200489]
    )
    assert confidence(TEACHERS)[:, 1].tolist() == pytest.approx(
        [1 / 14, 4 / 14, 9 / 14]
    )


def test_all_are_trusted_alike_where_nobody_prefers_a_class():
    assert confidence(torch.ones(4, 2, 3)).tolist() == [[0.25] * 2] * 4


def test_those_who_diverge_share_what_confidence_they_have():
    """0.09 and 0.36 of 0.45, and nobody on the second image."""
    shares = diverging(TEACHERS, confidence(TEACHERS), torch.tensor([0, 1]))
    assert shares[:, 0].tolist() == pytest.approx([0, 0.2, 0.8])
    assert shares[:, 1].tolist() == [0, 0, 0]


def test_the_loss_by_hand():
    assert ensemble_loss(TEACHERS, STUDENT, 0.0).item() == pytest.approx(CROSS_ENTROPY)
    loss = ensemble_loss(TEACHERS, STUDENT, 0.5).item()
    assert loss == pytest.approx(CROSS_ENTROPY + 0.5 * DIVERGENCE / 2)


def test_equal_teachers_leave_the_cross_entropy_with_what_they_say():
    alike = TEACHERS[:1].expand(3, 2, 3)
    expected = F.cross_entropy(STUDENT, torch.tensor([0, 1]))
    assert ensemble_loss(alike, STUDENT, 0.5).item() == pytest.approx(expected.item())


# The whole

WIDTHS = (1.0, 0.5, 1.0)
LARGE = 1.5
STEPS, LR, MOMENTUM, DIVERSITY = 3, 0.05, 0.7, 0.4
OPEN = np.array([34, 35, *range(0, 16, 2)])
SHARDS = [np.array(s) for s in by_hand.SHARDS]


class Net(by_hand.Net):
    """A network whose first layer is as wide as asked, and whose features are not."""

    def __init__(self, shape, classes, width=1.0):
        super().__init__(shape, classes)
        a = round(8 * width)
        self.first = nn.Conv2d(shape[0], a, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(a)
        self.second = nn.Conv2d(a, 12, 3, padding=1)
        self.double()


def spec(width):
    return ModelSpec("net", {"width": width})


def world(widths, large=LARGE):
    """Return the uneven world with a few images as public data and a larger server."""
    return Federation(
        by_hand.IMAGES,
        SHARDS,
        [np.array(t) for t in by_hand.TESTS],
        [spec(width) for width in widths],
        lambda name: Net,
        server=spec(large),
        # As another data set: what is public matters here, not whose it was.
        public=PublicData(by_hand.IMAGES.x_train[OPEN], by_hand.IMAGES),
    )


def net(weights, width):
    model = Net((2, 8, 8), 3, width)
    model.load_state_dict(weights)
    return model


def run(monkeypatch, widths=WIDTHS, large=LARGE, **options):
    monkeypatch.setattr(by_hand, "federation", lambda w: world(w, large))
    config = FedETConfig(**{"steps": STEPS, "batch_size": by_hand.SIZE, **options})
    return by_hand.run(FedET(config), widths)[0]


def teach(model, teachers):
    """Take the steps of SGD on CE with the consensus and the divergence from others."""
    model.train()
    parameters = list(model.parameters())
    velocity = [0.0] * len(parameters)
    parts = by_hand.batches(OPEN.tolist())
    for _ in range(STEPS):
        x, _ = next(parts)
        with torch.no_grad():
            said = [teacher(x) for teacher in teachers]
        student, loss = model(x), 0.0
        for i in range(len(x)):
            rows = [s[i] for s in said]
            trust = [((r - r.mean()) ** 2).sum() for r in rows]
            y = sum(t * r for t, r in zip(trust, rows, strict=True)).argmax()
            loss = loss - student[i].log_softmax(0)[y]
            others = [
                (t, r)
                for t, r in zip(trust, rows, strict=True)
                if r.argmax().item() != y.item()
            ]
            if others:
                total = sum(t for t, _ in others)
                p = sum(t / total * r for t, r in others).softmax(0)
                away = (p * (p.log() - student[i].log_softmax(0))).sum()
                loss = loss + DIVERSITY * away
        gradients = torch.autograd.grad(loss / len(x), parameters)
        with torch.no_grad():
            for j, (p, g) in enumerate(zip(parameters, gradients, strict=True)):
                velocity[j] = MOMENTUM * velocity[j] + g
                p.sub_(LR * velocity[j])


def head_mean(models):
    return [
        sum(getattr(m.head, name).detach() for m in models) / len(models)
        for name in ("weight", "bias")
    ]


@pytest.mark.parametrize("shared", [True, False])
def test_the_whole_loop(monkeypatch, shared):
    options = {"lr": LR, "momentum": MOMENTUM, "diversity": DIVERSITY}
    representation = "head" if shared else "none"
    result = run(monkeypatch, representation=representation, **options)
    start = world(WIDTHS)
    first = {
        w: by_hand.state_of(start.build_spec(spec(w), by_hand.SEED))
        for w in (1.0, 0.5, LARGE)
    }
    large, small = first.pop(LARGE), first
    for t, clients in enumerate(by_hand.clients_of(result)):
        sent = {}
        for k in clients:
            sent[k] = net(small[WIDTHS[k]], WIDTHS[k])
            by_hand.train(sent[k], k, t)
        for width, before in small.items():
            own = [by_hand.state_of(sent[k]) for k in clients if WIDTHS[k] == width]
            small[width] = by_hand.mean(own, [1] * len(own)) if own else before
        student = net(large, LARGE)
        if shared:
            weight, bias = head_mean(list(sent.values()))
            student.load_state_dict({**large, "head.weight": weight, "head.bias": bias})
        with torch_stream(by_hand.SEED, "server", t):
            teach(student, [sent[k].eval() for k in clients])
        large = by_hand.state_of(student)
        head = {n: v for n, v in large.items() if n.startswith("head") and shared}
        small = {w: {**weights, **head} for w, weights in small.items()}
    by_hand.agree(result.state.large, large)
    by_hand.agree(result.state.small.of(0, 0), small[1.0])
    by_hand.agree(result.state.small.of(1, 0), small[0.5])
    accuracy = by_hand.accuracy(net(large, LARGE))
    assert result.history[-1]["global_accuracy"] == pytest.approx(accuracy)
    for k, width in enumerate(WIDTHS):
        own = by_hand.accuracy(net(small[width], width), by_hand.TESTS[k])
        assert result.history[-1]["local_accuracy_by_client"][k] == pytest.approx(own)


@pytest.mark.parametrize("weights", ["uniform", "examples"])
def test_without_lessons_small_models_are_fedavg_bit_for_bit(monkeypatch, weights):
    options = {"representation": "none", "weights": weights}
    ours = run(monkeypatch, (1.0,), 1.0, steps=0, **options)
    fedavg = REGISTRY.strategy("fedavg", {"weights": weights})[0]
    theirs, _ = by_hand.run(fedavg, (1.0,))
    for name, value in theirs.state.weights.items():
        assert torch.equal(ours.state.small.of(0, 0)[name], value), name
    for name, value in (
        world((1.0,), 1.0).build_spec(spec(1.0), by_hand.SEED).state_dict().items()
    ):
        assert torch.equal(ours.state.large[name], value), name


SMALL = [ModelSpec("cnn", {"features": 8}), ModelSpec("mlp", {"features": 8})]


def toy(server=None, **options):
    base = testing.toy_federation(models=SMALL)
    there = Federation(
        base.data,
        [c.indices.numpy() for c in base.clients],
        [shard.numpy() for shard in base.test_shards],
        SMALL,
        REGISTRY.model,
        server=server or ModelSpec("lenet4", {"features": 8}),
        public=base.public,
    )
    settings = {"steps": 2, "batch_size": 8, **options}
    strategy = REGISTRY.strategy("fedet", settings)[0]
    return simulate(strategy, there, testing.toy_protocol(2), 0), there


def test_small_models_cross_and_the_large_one_never_does():
    result, there = toy()
    sizes = [
        sum(v.numel() * v.element_size() for v in model.state_dict().values())
        for model in (there.build_spec(s, 0) for s in there.client_models)
    ]
    large = there.build_spec(there.server_model, 0).state_dict().values()
    assert max(sizes) < sum(v.numel() * v.element_size() for v in large)
    assert sizes[0] != sizes[1]
    for t, line in enumerate(result.history):
        assert line["bytes_down"] == line["bytes_up"] == (t + 1) * sum(sizes)


def test_a_common_layer_needs_features_of_one_size_and_without_it_any_will_do():
    odd = ModelSpec("lenet4")
    with pytest.raises(ConfigError, match="features of one size"):
        toy(odd)
    assert toy(odd, representation="none")[0].history
