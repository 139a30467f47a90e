"""Three whole rounds of FedGen against a loop that is written out once more."""

import copy
import math

import numpy as np
import pytest
import torch
from replaying import divergence

from fedkd import testing
from fedkd.ops.training import draws_of
from fedkd.party import ModelSpec
from fedkd.plugins.registry import load_registry
from fedkd.simulation.federation import Federation
from fedkd.simulation.sides import Sides
from fedkd.strategy import Round

REGISTRY = load_registry()
CLASSES, ROUNDS, BATCH = 3, 3, 5
SHARDS = [np.arange(0, 24), np.arange(8, 30, 2), np.arange(20, 36, 3)]
ALIKE = (ModelSpec("cnn"),)
MIXED = (ModelSpec("cnn", {"features": 6}), ModelSpec("mlp", {"features": 6}))
QUICK = {"steps": 4, "hidden": 7, "batch_size": 6, "latent_size": 5, "lr": 0.02}


pytestmark = pytest.mark.usefixtures("double")


class Doubled:
    """A client's data whose images are in double precision."""

    def __init__(self, data):
        self._data = data

    def __len__(self):
        return len(self._data)

    def __getattr__(self, name):
        return getattr(self._data, name)

    def made(self, draw):
        x, y = self._data.made(draw)
        return x.double(), y


class World:
    """Both sides of three unequal clients, which train with momentum."""

    def __init__(self, specs):
        tests = [np.arange(k, 36, 3) for k in range(3)]
        data = testing.toy_images()
        federation = Federation(data, SHARDS, tests, list(specs), REGISTRY.model)
        self.sides = Sides(federation, testing.toy_protocol(ROUNDS), 0)
        self.memories = {k: {} for k in range(3)}
        self.server = self.sides.server()

    def client(self, k):
        how = {"local_steps": 4, "momentum": 0.9, "lr": 0.05, "batch_size": BATCH}
        training = self.sides.protocol.training.model_copy(
            update={**how, "weight_decay": 0.01}
        )
        client = self.sides.client(k, training, self.memories[k])
        client.data = Doubled(client.data)
        return client


def counted(k):
    labels = testing.toy_images().y_train[SHARDS[k]]
    return torch.bincount(labels, minlength=CLASSES)


def cross_entropies(logits, labels):
    return -logits.softmax(1)[torch.arange(len(labels)), labels].log()


def spread(noise, features):
    """Return exp(-mean_ij |n_i - n_j|^2/Z |f_i - f_j|_1/D), pair by pair."""
    total = 0
    for n, f in zip(noise, features, strict=True):
        for m, g in zip(noise, features, strict=True):
            total = total + (n - m).pow(2).mean() * (f - g).abs().mean()
    return torch.exp(-total / len(noise) ** 2)


class Replay:
    """FedGen, Algorithm 1, from its equations."""

    def __init__(self, config, world, *, whole, positive):
        self.config, self.how, self.world = config, config.generator, world
        self.whole, self.positive = whole, positive
        self.models = [world.server.client_model(k) for k in range(3)]
        self.average = copy.deepcopy(world.server.load(world.server.initial)).eval()
        self.generator = self.adam = None
        self.classes = []

    def noise(self, number):
        uniform = self.how.noise == "uniform"
        draw = torch.rand if uniform else torch.randn
        return draw(number, self.how.latent_size)

    def features(self, noise, labels):
        told = torch.eye(CLASSES)[labels]
        if self.how.embedding:
            told = self.generator.embedding(labels)
        linear, norm, relu, last = list(self.generator.layers)[:4]
        made = last(relu(norm(linear(torch.cat([noise, told], 1)))))
        return made.clamp(min=0) if self.positive else made

    def shared(self, model):
        return dict(model.state_dict() if self.whole else self.head(model))

    @staticmethod
    def head(model):
        return model.classifier.named_parameters()

    def train(self, k, round, new_generator):
        client, model = self.world.client(k), self.models[k]
        model.train().requires_grad_(True)
        how = client.training
        names = {"lr": how.lr, "momentum": 0.9, "weight_decay": how.weight_decay}
        sgd = torch.optim.SGD(model.parameters(), **names)
        fade = self.config.fading**round
        a = self.config.label_weight * fade * self.config.batch_size / BATCH
        b = self.config.agreement_weight * fade
        if self.generator is not None:
            new_generator()  # a client makes one for the weights that come: same draws
            self.generator.eval()
        for draw in draws_of(client.data, how):
            x, y = client.data.made(draw)
            logits = model(x)
            loss = cross_entropies(logits, y).mean()
            if self.generator is not None:
                with torch.no_grad():
                    target = model.classifier(self.features(self.noise(len(y)), y))
                loss = loss + b * divergence(target, logits).mean()
                told = torch.randint(len(self.classes), (self.config.batch_size,))
                told = torch.tensor(self.classes)[told]
                made = self.features(self.noise(len(told)), told).detach()
                loss = loss + a * cross_entropies(model.classifier(made), told).mean()
            sgd.zero_grad()
            loss.backward()
            sgd.step()
        model.eval().requires_grad_(False)

    def aggregate(self, round, new_generator):
        counts = torch.stack([counted(k) for k in range(3)])
        shares = counts.sum(1) / counts.sum()
        sent = [self.shared(model) for model in self.models]
        goal = self.shared(self.average)
        with torch.no_grad():
            for name, value in goal.items():
                mean = sum(p * s[name] for p, s in zip(shares, sent, strict=True))
                value.copy_(mean if value.is_floating_point() else (mean + 1e-6).int())
        fresh = new_generator()  # as in every round, for the draws
        if self.generator is None:
            self.generator = fresh
            weights = self.generator.parameters()
            decay = self.how.weight_decay
            self.adam = torch.optim.Adam(weights, self.how.lr, weight_decay=decay)
        self.adam.param_groups[0]["lr"] = self.how.lr * self.how.lr_decay**round
        self.improve(counts)
        self.classes = torch.nonzero(counts.sum(0)).flatten().tolist()

    def improve(self, counts):
        how, tau = self.how, counts / counts.sum(0)
        self.generator.train()
        drawn = torch.multinomial(
            (counts.sum(0) > 0).double(), how.steps * how.batch_size, replacement=True
        )
        for labels in drawn.view(how.steps, how.batch_size):
            noise = self.noise(len(labels))
            made = self.features(noise, labels)
            answers = [model.classifier(made) for model in self.models]
            loss = 0
            for share, logits in zip(tau[:, labels], answers, strict=True):
                rows = cross_entropies(logits, labels)
                pairs = torch.outer(share, rows) if how.released_terms else share * rows
                loss = loss + how.teacher_weight * pairs.mean()
            if how.student_weight:
                taught = zip(tau[:, labels], answers, strict=True)
                teacher = sum(share[:, None] * logits for share, logits in taught)
                gap = divergence(teacher, self.average.classifier(made)).mean()
                parts = CLASSES if how.released_terms else 1
                loss = loss - how.student_weight * gap / parts
            loss = loss + how.diversity_weight * spread(noise, made)
            self.adam.zero_grad()
            loss.backward()
            self.adam.step()

    def send(self, k):
        with torch.no_grad():
            for name, value in self.shared(self.models[k]).items():
                value.copy_(self.shared(self.average)[name])


def close(mine, theirs):
    for name, value in theirs.items():
        torch.testing.assert_close(
            mine[name].to(value.dtype), value, rtol=1e-6, atol=1e-6
        )


VARIED = {
    "student_weight": 0.7,
    "teacher_weight": 1.3,
    "diversity_weight": 0.4,
    "lr_decay": 0.5,
    "weight_decay": 0.1,
}


@pytest.mark.parametrize(
    ("name", "generator", "specs", "positive"),
    [
        ("fedgen", {}, ALIKE, True),
        ("fedgen", {**VARIED, "embedding": True, "noise": "normal"}, ALIKE, True),
        ("fedgen", VARIED, MIXED, False),
        ("fedgen-published", VARIED, ALIKE, True),
        ("fedgen-code", VARIED, ALIKE, False),
        ("fedgen-code", {}, MIXED, False),
    ],
)
def test_three_rounds_are_the_papers_loop(name, generator, specs, positive):
    options = {"batch_size": 7, "fading": 0.6, "generator": {**QUICK, **generator}}
    strategy, _ = REGISTRY.strategy(name, options)
    ours, theirs = World(specs), World(specs)
    whole = len(specs) == 1
    replay = Replay(strategy.config, theirs, whole=whole, positive=positive)
    size = theirs.server.model.feature_size
    how = strategy.config.generator

    def new_generator():
        return theirs.server.build(
            "feature-generator",
            feature_size=size,
            latent_size=how.latent_size,
            hidden=how.hidden,
            embedding=how.embedding,
        )

    state = strategy.init(ours.server)
    for number in range(ROUNDS):
        round = Round(number, ROUNDS, (0, 1, 2))
        ups = {}
        for k in range(3):
            down = strategy.broadcast(state, k, round)
            torch.manual_seed(100 * number + k)
            ups[k] = strategy.local(down, ours.client(k))
            replay.send(k)
            torch.manual_seed(100 * number + k)
            replay.train(k, number, new_generator)
            assert torch.equal(ups[k].label_counts, counted(k).int())
            sent = replay.shared(replay.models[k]).values()
            close(dict(enumerate(ups[k].weights.values())), dict(enumerate(sent)))
        torch.manual_seed(100 * number + 50)
        state = strategy.aggregate(state, ups, ours.server, round)
        torch.manual_seed(100 * number + 50)
        replay.aggregate(number, new_generator)
        close(state.generator, replay.generator.state_dict())
        expected = replay.shared(replay.average).values()
        close(dict(enumerate(state.weights.values())), dict(enumerate(expected)))
    assert state.classes == (0, 1, 2)
    assert math.isfinite(ours.server.logged["generator_loss"])
