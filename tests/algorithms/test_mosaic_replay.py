"""Mosaic's rounds once more: a loop of its own, in plain torch, with the same draws.

It shares with the strategy the networks, the streams of random numbers and the order in
which they are drawn from. Everything is in float64.
"""

import copy
import math

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from torch import nn
from torch.nn.functional import cross_entropy, one_hot, softmax

from fedkd import testing
from fedkd.base.randomness import torch_stream
from fedkd.data.images import ClientData, ImageSet
from fedkd.ops.training import TrainingConfig
from fedkd.party import ModelSpec
from fedkd.plugins.registry import load_registry
from fedkd.simulation.federation import Federation
from fedkd.simulation.simulator import simulate

REGISTRY = load_registry()
SEED = 5
TRAINING = TrainingConfig(
    local_steps=3, batch_size=8, lr=0.05, momentum=0.9, weight_decay=1e-3
)
GENERATOR = {"steps": None, "epochs": 2, "batch_size": 8, "latent_size": 5, "width": 2}
CASES = {
    "mosaic": {
        "generator": {**GENERATOR, "epochs": None, "steps": 4},
        "teacher": {"steps": 4, "samples_per_client": 9, "batch_size": 6},
        "distil": {"steps": 4, "batch_size": 10},
    },
    "mosaic-origin": {
        "generator": {**GENERATOR, "diversity": "uniform"},
        "teacher": {"kind": "global"},
        "distil": {
            "steps": 4,
            "batch_size": 10,
            "sampling": "equal",
            "temperature": 2.0,
            "overlap_weight": 0.5,
            "overlap": "jensen_shannon",
            "batch_norm": "train",
        },
    },
    "mosaic-paper": {
        "generator": {**GENERATOR, "inversion_below": 20},
        "teacher": {"steps": 4, "per_class": 3, "expansion": 2, "batch_size": 6},
        "distil": {"steps": 4, "batch_size": 4},
    },
    "mosaic-code": {
        "generator": {**GENERATOR, "classifier_epochs": 2},
        "teacher": {"steps": 4, "per_class": 3, "expansion": 2, "prototype_rounds": 2},
        "distil": {"steps": 4, "batch_size": 4},
    },
    "mosaic-code-cifar100": {
        "generator": {**GENERATOR, "classifier_epochs": 1},
        "teacher": {
            "steps": 4,
            "per_class": 3,
            "centres_sent": 2,
            "expansion": 2,
            "prototype_rounds": 1,
            "expert_embedding": True,
        },
        "distil": {"steps": 4, "batch_size": 4},
    },
}


def unequal_federation():
    """Return three clients of 26, 17 and 9 images with skewed labels."""
    data = testing.toy_images(per_class=40)
    labels = data.y_train.numpy()
    of = [np.flatnonzero(labels == c) for c in range(3)]
    shards = [
        np.concatenate([of[0][:12], of[1][:14]]),
        np.concatenate([of[1][14:20], of[2][:11]]),
        np.concatenate([of[0][12:20], of[2][11:12]]),
    ]
    tests = [np.arange(k, len(data.y_test), 3) for k in range(3)]
    return Federation(data, shards, tests, [ModelSpec("cnn")], REGISTRY.model)


def pixels(data, images):
    """Return uint8 images as classifiers see them, in float64."""
    return (images.double() / 255 - data.mean[0]) / data.std[0]


@pytest.fixture
def double(monkeypatch):
    """Compute in float64, images included."""

    def made(self, draw):
        source = self._source
        return pixels(source, source.x_train[draw.chosen]), source.y_train[draw.chosen]

    monkeypatch.setattr(ClientData, "made", made)
    monkeypatch.setattr(ImageSet, "normalise", pixels)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class Replay:
    """What a run of Mosaic does, written from its description."""

    def __init__(self, config, federation, rounds):
        self.config = config
        self.federation = federation
        self.data = federation.data
        self.rounds = rounds
        self.weights = self.network(
            federation.build_spec(federation.server_model, SEED)
        )
        self.generators = {}
        self.features = {}
        self.counts = [
            torch.bincount(c.labels, minlength=3) for c in federation.clients
        ]

    @staticmethod
    def network(model):
        return {name: value.clone() for name, value in model.state_dict().items()}

    def model(self, weights):
        model = self.federation.build("cnn")
        model.load_state_dict(weights)
        return model

    def rows(self, k, chosen):
        """Return images and labels of client ``k``."""
        places = self.federation.clients[k].indices[chosen]
        return pixels(self.data, self.data.x_train[places]), self.data.y_train[places]

    def batches(self, k, size, steps=None, epochs=None):
        number, done, passed = len(self.federation.clients[k]), 0, 0
        while done != steps and passed != epochs:
            pieces = torch.randperm(number).split(size)
            for piece in pieces[:-1] if len(pieces[-1]) == 1 else pieces:
                if done == steps:
                    return
                yield self.rows(k, piece)
                done += 1
            passed += 1

    def fit(self, model, k, lr, **amount):
        sgd = torch.optim.SGD(
            model.train().parameters(), lr, momentum=0.9, weight_decay=1e-3
        )
        for x, y in self.batches(k, TRAINING.batch_size, **amount):
            sgd.zero_grad()
            cross_entropy(model(x), y).backward()
            sgd.step()
        return model

    def run(self):
        """Yield the global weights and the generators after each round."""
        before = self.config.warmup
        for round in range(self.rounds):
            ups, left = [], before - round
            for k in range(3):
                with torch_stream(SEED, "client", round, k):
                    ups.append(self.turn(k, left))
            total = sum(int(n.sum()) for n in self.counts)
            shares = [int(n.sum()) / total for n in self.counts]
            self.weights = self.mix(ups, shares)
            if left == 1:
                with torch_stream(SEED, "server", round):
                    self.weights = self.distil(ups)
            yield self.weights, self.generators

    @staticmethod
    def mix(states, shares):
        mixed = {}
        for name, value in states[0].items():
            terms = [s * state[name] for s, state in zip(shares, states, strict=True)]
            mixed[name] = sum(terms) if value.is_floating_point() else value
        return mixed

    def turn(self, k, left):
        teacher = self.config.teacher
        wants = teacher.kind == "meta" and teacher.prototypes == "features"
        model = copy.deepcopy(self.shell)
        if wants and 0 < left <= teacher.prototype_rounds:
            model.load_state_dict(self.weights)
            self.take_features(model.eval(), k)
        model.load_state_dict(self.weights)
        lr = TRAINING.lr if left > 0 else self.config.finetune_lr
        self.fit(model, k, lr, steps=TRAINING.local_steps)
        start = self.config.generator.start
        if k not in self.generators and (left == 1 or (start == "first" and left > 0)):
            self.generators[k] = self.network(self.play(model, k))
        return self.network(model)

    @property
    def shell(self):
        with torch.random.fork_rng(devices=[]):
            return self.federation.build("cnn")

    def take_features(self, model, k):
        teacher, size = self.config.teacher, TRAINING.batch_size
        if teacher.features_of == "batches":
            seen = list(self.batches(k, size, steps=TRAINING.local_steps))
        else:
            seen = [self.rows(k, torch.arange(len(self.federation.clients[k])))]
        with torch.no_grad():
            features = torch.cat([model.features(x) for x, _ in seen])
        labels = torch.cat([y for _, y in seen])
        for c in labels.unique().tolist():
            rows = features[labels == c]
            if len(rows) < teacher.per_class:
                centres = rows.mean(0, keepdim=True)
            else:
                means = KMeans(teacher.per_class, n_init=1, random_state=42)
                centres = torch.from_numpy(means.fit(rows.numpy()).cluster_centers_)
            sent = teacher.centres_sent or len(centres)
            self.features.setdefault(c, []).append(centres[:sent])

    def play(self, model, k):
        """Return the generator that client ``k`` trains against its judge."""
        config = self.config.generator
        scorer = copy.deepcopy(model).eval()
        if config.classifier == "fresh":
            scorer = self.federation.build("cnn")
            self.fit(scorer, k, TRAINING.lr, epochs=config.classifier_epochs)
        options = {"latent_size": config.latent_size, "width": config.width}
        generator = self.federation.build("dcgan-generator", **options).train()
        if config.discriminator == "separate":
            judge = self.federation.build("dcgan-discriminator", width=config.width)
        else:
            judge = copy.deepcopy(model)
        judge.train()
        betas = (0.5, 0.999)
        adam_g = torch.optim.Adam(generator.parameters(), config.lr, betas=betas)
        adam_d = torch.optim.Adam(judge.parameters(), config.lr, betas=betas)
        amount = {"steps": config.steps, "epochs": config.epochs}
        for x, y in self.batches(k, config.batch_size, **amount):
            real = x[y > 0] if config.drop_class_zero else x
            if len(real) == 0:
                continue
            real = torch.cat([real, real]) if len(real) == 1 else real
            fake = self.seen(generator(torch.randn(len(real), config.latent_size)))
            loss_d = -self.belief(judge, real).log().mean()
            loss_d = loss_d - (1 - self.belief(judge, fake.detach())).log().mean()
            adam_d.zero_grad()
            loss_d.backward()
            adam_d.step()
            loss_g = self.game(judge, scorer, fake, k)
            adam_g.zero_grad()
            loss_g.backward()
            adam_g.step()
        return generator

    def belief(self, judge, x):
        """Return the probability that images are real."""
        if self.config.generator.discriminator == "separate":
            return torch.sigmoid(judge(x))
        evidence = judge(x).exp().sum(1)
        return evidence / (evidence + 1)

    def seen(self, images):
        """Return a generator's images as classifiers see them."""
        if self.config.generator.output_range == "tanh":
            return images
        return (images / 2 + 0.5 - self.data.mean[0]) / self.data.std[0]

    def game(self, judge, scorer, fake, k):
        config, gaps = self.config.generator, []

        def watch(layer, inputs):
            x = inputs[0]
            gaps.append((x.mean((0, 2, 3)) - layer.running_mean).norm())
            spread = x.var((0, 2, 3), unbiased=False)
            gaps.append((spread - layer.running_var).norm())

        layers = [m for m in scorer.modules() if isinstance(m, nn.BatchNorm2d)]
        hooks = [layer.register_forward_pre_hook(watch) for layer in layers]
        p = softmax(scorer(fake), 1)
        for hook in hooks:
            hook.remove()
        loss = -config.adversarial_weight * self.belief(judge, fake).log().mean()
        loss = loss - config.entropy_weight * (p * p.log()).sum(1).mean()
        mean = p.mean(0)
        if config.diversity == "uniform":
            spread = (mean * mean.log()).sum()
        else:
            wanted = self.counts[k] / self.counts[k].sum()
            held = wanted > 0
            spread = (wanted[held] * (wanted[held] / mean[held]).log()).sum()
        loss = loss + config.diversity_weight * spread
        if self.counts[k].sum() < config.inversion_below:
            loss = loss + config.inversion_weight * sum(gaps)
        return loss

    def distil(self, ups):
        """Return the student's weights."""
        config = self.config.distil
        options = self.config.generator
        makers = []
        for k in sorted(self.generators):
            maker = self.federation.build(
                "dcgan-generator", latent_size=options.latent_size, width=options.width
            )
            maker.load_state_dict(self.generators[k])
            makers.append(maker.eval())
        student = copy.deepcopy(self.shell)
        student.load_state_dict(self.weights)
        student.train(config.batch_norm == "train")
        teach = self.teacher(ups, makers)
        adam = torch.optim.Adam(student.parameters(), config.lr)
        for step in range(config.steps):
            if config.cosine:
                fall = (1 + math.cos(math.pi * step / config.steps)) / 2
                adam.param_groups[0]["lr"] = config.lr * fall
            x, origin = self.made(makers, self.shares(len(makers)))
            with torch.no_grad():
                t = teach(x) + self.prior(origin)
            adam.zero_grad()
            self.lesson(student(x), t).backward()
            adam.step()
        return self.network(student)

    def shares(self, number):
        config = self.config.distil
        if config.sampling == "each":
            return [config.batch_size] * number
        if config.sampling == "equal":
            lucky = set(torch.randperm(number)[: config.batch_size % number].tolist())
            return [config.batch_size // number + (i in lucky) for i in range(number)]
        sizes = torch.tensor([float(self.counts[k].sum()) for k in range(number)])
        drawn = torch.multinomial(sizes, config.batch_size, replacement=True)
        return [int((drawn == i).sum()) for i in range(number)]

    def made(self, makers, numbers):
        images, origin = [], []
        for i, number in enumerate(numbers):
            if number:
                z = torch.randn(number, self.config.generator.latent_size)
                with torch.no_grad():
                    images.append(self.seen(makers[i](z)))
            origin += [i] * number
        return torch.cat(images), torch.tensor(origin)

    def prior(self, origin):
        teacher = self.config.teacher
        if not teacher.origin_prior:
            return torch.zeros(len(origin), 3)
        rows = torch.stack([n / n.sum() for n in self.counts])
        floor = teacher.origin_epsilon
        return ((rows + floor) / (1 + 3 * floor)).log()[origin]

    def lesson(self, s, t):
        config = self.config.distil
        heat = config.temperature
        p, q = softmax(t / heat, 1), softmax(s / heat, 1)
        loss = config.kl_weight * heat**2 * (p * (p / q).log()).sum(1).mean()
        p, q = softmax(t, 1), softmax(s, 1)
        hard = -q.log().gather(1, t.argmax(1, keepdim=True)).mean()
        loss = loss + config.ce_weight * hard
        if config.overlap == "bhattacharyya":
            apart = -(p * q).sqrt().sum(1).log().mean()
        else:
            half = (p + q) / 2
            both = (p * (p / half).log() + q * (q / half).log()).sum(1)
            apart = both.mean() / 2
        return loss + config.overlap_weight * apart

    def teacher(self, ups, makers):
        """Return what teaches: images to logits."""
        config = self.config.teacher
        if config.kind == "global":
            whole = copy.deepcopy(self.shell)
            whole.load_state_dict(self.weights)
            return whole.eval()
        experts = []
        for c in range(3):
            held = [int(n[c]) for n in self.counts]
            expert = copy.deepcopy(self.shell)
            expert.load_state_dict(self.mix(ups, [n / sum(held) for n in held]))
            experts.append(expert.eval())
        meta = Meta(config, experts=3)
        with torch.no_grad():
            if config.prototypes == "features":
                rows = [torch.cat(self.features[c]) for c in range(3)]
                labels = torch.cat(
                    [torch.full((len(r),), c) for c, r in enumerate(rows)]
                )
                answers = torch.stack([e.classifier(torch.cat(rows)) for e in experts])
            else:
                answers, labels = self.sampled(ups, makers, experts)
        self.learn(meta, answers, labels)
        return lambda x: meta(torch.stack([expert(x) for expert in experts]))

    def sampled(self, ups, makers, experts):
        images, labels = [], []
        for k, weights in enumerate(ups):
            numbers = [0] * len(makers)
            numbers[k] = self.config.teacher.samples_per_client
            x, _ = self.made(makers, numbers)
            own = copy.deepcopy(self.shell)
            own.load_state_dict(weights)
            allowed = torch.where(self.counts[k] > 0, 0.0, -1e9)
            labels.append((own.eval()(x) + allowed).argmax(1))
            images.append(x)
        x = torch.cat(images)
        return torch.stack([expert(x) for expert in experts]), torch.cat(labels)

    def learn(self, meta, answers, labels):
        """Train the meta model in place; it ends as its averaged copy."""
        config = self.config.teacher
        order = torch.randperm(len(labels))
        kept = order[int(config.holdout * len(labels)) :]
        adam = torch.optim.Adam(meta.train().parameters(), config.lr)
        trail = [self.network(meta)]
        for _ in range(config.steps):
            pick = kept[torch.randperm(len(kept))[: config.batch_size]]
            adam.zero_grad()
            cross_entropy(meta(answers[:, pick]), labels[pick]).backward()
            adam.step()
            trail.append(self.network(meta))
        fade = config.ema_decay
        weights = [(1 - fade) * fade ** (config.steps - i) for i in range(len(trail))]
        weights[0] = 0.0 if config.ema_correction else fade**config.steps
        total = sum(weights)
        meta.load_state_dict(self.mix(trail, [w / total for w in weights]))
        meta.eval()


class Meta(nn.Module):
    """The gate, or the transformer, with experts' answers ``[E, B, 3]``."""

    def __init__(self, config, experts):
        super().__init__()
        self.config = config
        self.told = 0.0
        if config.meta == "gate":
            self.tilt = nn.Parameter(config.gate_start * torch.eye(3))
            self.gain = nn.Parameter(torch.tensor(1.0))
            self.shift = nn.Parameter(torch.zeros(3))
            return
        size = 3 * config.expansion
        self.expand = nn.Linear(3, size)
        if config.expert_embedding:
            self.told = nn.Parameter(torch.randn(experts, 1, size))
        self.mixer = nn.Transformer(size, 3, 1, 1, 2048, 0.2)
        self.reduce = nn.Linear(size, 3)

    def forward(self, answers):
        if self.config.meta == "gate":
            mixed = torch.zeros(answers.shape[1:])
            for c in range(3):
                shares = softmax(self.tilt[c], 0)
                speaks = sum(shares[e] * answers[e, :, c] for e in range(3))
                mixed = mixed + speaks.unsqueeze(1) * one_hot(torch.tensor(c), 3)
            return self.gain * mixed + self.shift
        tokens = self.expand(answers) + self.told
        fused = self.mixer(tokens, tokens)
        pooled = fused.sum(0)
        return self.reduce(pooled / 3 if self.config.pooling == "mean" else pooled)


class Rounds(testing.Watcher):
    """Keeps the states after every round."""

    def __init__(self):
        super().__init__()
        self.states = []

    def around(self, call, proceed):
        result = proceed()
        if call.verb == "aggregate":
            self.states.append(result)
        return result


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("name", CASES)
def test_a_run_is_what_an_independent_loop_makes_of_it(name, double):
    strategy, config = REGISTRY.strategy(name, {"warmup": 2, **CASES[name]})
    rounds = Rounds()
    federation = unequal_federation()
    protocol = testing.toy_protocol(4, training=TRAINING)
    simulate(testing.watched(strategy, rounds), federation, protocol, SEED)
    replay = Replay(config, federation, 4)
    for state, (weights, generators) in zip(rounds.states, replay.run(), strict=True):
        assert sorted(state.generators) == sorted(generators)
        pairs = [(state.weights, weights)]
        pairs += [(state.generators[k], generators[k]) for k in generators]
        for ours, theirs in pairs:
            assert set(ours) == set(theirs)
            for entry, value in theirs.items():
                if value.is_floating_point():
                    torch.testing.assert_close(ours[entry], value, rtol=0, atol=1e-6)
