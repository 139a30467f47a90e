"""Whole runs of DFRD against a loop that is written out once more, from its equations."""

import copy
import itertools

import pytest
import torch
import torch.nn.functional as F
from replaying import (
    IMAGES,
    MIDDLE,
    PIXEL,
    SEED,
    SHARDS,
    clients_of,
    divergence,
    initial,
    mean,
    net,
    network,
    run,
    state_of,
    train,
)

from fedkd.base.randomness import torch_stream
from fedkd.plugins.registry import load_registry

REGISTRY = load_registry()
SIZES = [len(shard) for shard in SHARDS]
SEARCH = {"width": 2, "latent_size": 4, "steps": 3, "lr": 0.02}
LESSON = {"steps": 3, "batch_size": 9, "lr": 0.05}
VARIED = {
    "generator": {
        **SEARCH,
        "merge": "cat",
        "diversity": "norms",
        "transferability_weight": 0.7,
        "diversity_weight": 0.3,
    },
    "distil": {
        **LESSON,
        "momentum": 0.5,
        "weight_decay": 0.1,
        "temperature": 2.0,
        "global_steps": 3,
        "labels": "uniform",
        "ema_weight": 0.8,
        "ema_decay": 0.3,
    },
}


pytestmark = pytest.mark.usefixtures("double")


def spread(h, x, how):
    """Return exp(-mean of the products of distances), pair by pair."""
    i, j = torch.tensor(list(itertools.permutations(range(len(h)), 2))).T
    a, b = (h[i] - h[j]).flatten(1), (x[i] - x[j]).flatten(1)
    far = a.norm(dim=1) * b.norm(dim=1)
    if how == "l2":
        far = a.pow(2).mean(1) * b.pow(2).mean(1)
    return torch.exp(-far.sum() / len(h) ** 2)


class Replay:
    """DFRD, round by round."""

    def __init__(self, config):
        self.config, self.search, self.kd = config, config.generator, config.distil
        self.dfdg = config.variant == "dfdg"
        self.student = net(initial())
        with torch_stream(SEED, "server", "init"):
            self.generator = self.new()
        self.past = None
        self.useful = 0
        self.losses = []

    def new(self):
        sizes = {"latent_size": self.search.latent_size, "width": self.search.width}
        return network("acgan-generator")(
            (2, 8, 8), 3, merge=self.search.merge, **sizes
        )

    def round(self, t, clients):
        members, counts = [], []
        for k in clients:
            model, seen = net(self.student.state_dict()), torch.zeros(3)

            def loss(logits, labels, seen=seen):
                seen += torch.bincount(labels, minlength=3)
                return F.cross_entropy(logits, labels)

            train(model, k, t, loss)
            if self.config.counts == "static":
                seen = torch.bincount(IMAGES.y_train[SHARDS[k]], minlength=3).double()
            members.append(model)
            counts.append(seen)
        if self.config.start != "previous":
            states = [state_of(model) for model in members]
            self.student = net(mean(states, [SIZES[k] for k in clients]))
        with torch_stream(SEED, "server", t):
            self.distil([m.eval() for m in members], torch.stack(counts))

    def distil(self, members, counts):
        self.new()  # for the weights of the round before: only its draws are left
        if self.past is not None:
            self.new()
        before = state_of(self.generator)
        self.members = members
        self.tau = counts / counts.sum(0).clamp(min=1)
        self.losses.append({"student": [], "fidelity": [], "transferability": []})
        self.student.train(self.config.start == "previous")
        self.begin()
        for labels in self.labels(counts, self.kd.steps):
            if self.dfdg:
                self.begin()
            z = torch.randn(len(labels), self.search.latent_size)
            for _ in range(self.search.steps):
                self.improve(z, labels)
            self.learn(self.lessons(z, labels, counts))
        past = before if self.past is None else self.past
        now, keep = state_of(self.generator), self.kd.ema_decay
        self.past = {
            n: keep * past[n] + (1 - keep) * v if v.is_floating_point() else v
            for n, v in now.items()
        }

    def begin(self):
        weights = self.generator.parameters()
        self.adam = torch.optim.Adam(weights, self.search.lr, betas=(0.5, 0.999))
        decay = {"momentum": self.kd.momentum, "weight_decay": self.kd.weight_decay}
        self.sgd = torch.optim.SGD(self.student.parameters(), self.kd.lr, **decay)

    def labels(self, counts, batches):
        of_class = counts.sum(0)
        share = (of_class > 0).double() if self.kd.labels == "uniform" else of_class
        size = self.kd.batch_size
        drawn = torch.multinomial(share, batches * size, replacement=True)
        return drawn.view(batches, size)

    def ensemble(self, x, labels):
        answers = zip(self.tau, self.members, strict=True)
        return sum(tau[labels][:, None] * member(x) for tau, member in answers)

    def images(self, generator, z, labels):
        if self.search.merge == "cat":
            h = torch.cat([z, generator.embedding(labels)], 1)
        else:
            h = z * generator.embedding(labels)
        x = generator.layers(h[:, :, None, None])
        if self.search.output == "classifier":
            x = ((x + 1) / 2 - MIDDLE) / PIXEL
        return h, x

    def improve(self, z, labels):
        h, x = self.images(self.generator.train(), z, labels)
        teacher, pupil = self.ensemble(x, labels), self.student(x)
        useful = (teacher.argmax(1) == labels) & (pupil.argmax(1) != labels)
        self.useful += int(useful.sum())
        t = self.kd.temperature
        if self.dfdg:
            rows = divergence(pupil.detach(), teacher, t) * useful
            gap = rows.sum() / max(int(useful.sum()), 1)
        else:
            gap = (divergence(teacher, pupil, t) * useful).mean()
        right = teacher.softmax(1)[torch.arange(len(labels)), labels]
        fidelity = -right.log().mean()
        loss = fidelity - self.search.transferability_weight * gap
        apart = spread(h, x, self.search.diversity)
        loss = loss + self.search.diversity_weight * apart
        self.losses[-1]["fidelity"].append(fidelity.item())
        self.losses[-1]["transferability"].append(-gap.item())
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()

    @torch.no_grad()
    def lessons(self, z, labels, counts):
        x = self.shown(self.generator, z, labels)
        taught = [(1, x, self.ensemble(x, labels))]
        if self.kd.ema_weight and len(self.losses) > 1:
            past = copy.deepcopy(self.generator)
            past.load_state_dict(self.past)
            (labels,) = self.labels(counts, 1)
            z = torch.randn(len(labels), self.search.latent_size)
            x = self.shown(past, z, labels)
            taught.append((self.kd.ema_weight, x, self.ensemble(x, labels)))
        return taught

    def shown(self, generator, z, labels):
        """Return images of a copy, whose statistics do not come back."""
        return self.images(copy.deepcopy(generator).train(not self.dfdg), z, labels)[1]

    def learn(self, taught):
        for _ in range(self.kd.global_steps):
            parts = [
                w * divergence(teacher, self.student(x), self.kd.temperature).mean()
                for w, x, teacher in taught
            ]
            self.losses[-1]["student"].append(parts[0].item())
            self.sgd.zero_grad()
            sum(parts).backward()
            self.sgd.step()


def close(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(
            ours[name], value, rtol=0, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dfrd", {"generator": SEARCH, "distil": LESSON}),
        ("dfrd", VARIED),
        ("dfrd", {"start": "previous", "generator": SEARCH, "distil": LESSON}),
        ("dfrd-dfdg", {"generator": SEARCH, "distil": LESSON}),
        ("dfrd-published", {"generator": SEARCH, "distil": LESSON}),
    ],
)
def test_three_rounds_are_those_of_the_equations(name, options):
    strategy, _ = REGISTRY.strategy(name, options)
    result, _ = run(strategy)
    replay = Replay(strategy.config)
    for t, clients in enumerate(clients_of(result)):
        replay.round(t, clients)
    state = result.state
    close(state.weights, replay.student.state_dict())
    close(state.generator, replay.generator.state_dict())
    close(state.averaged, replay.past)
    for line, losses in zip(result.history, replay.losses, strict=True):
        for term, values in losses.items():
            logged = line["logged"][f"{term}_loss"]
            assert logged == pytest.approx(sum(values) / len(values), abs=1e-6)
    assert replay.useful > 0
