"""Whole runs of FedFTG against a loop that is written out once more, in all its forms."""

import copy
import itertools
import math

import pytest
import torch
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
COUNTS = torch.stack([torch.bincount(IMAGES.y_train[s], minlength=3) for s in SHARDS])
SEARCH = {"width": 2, "latent_size": 4, "steps": 2}
LESSON = {"steps": 3, "batch_size": 9}
WEIGHTS = {
    "class_weight": 0.7,
    "discrepancy_weight": 0.4,
    "diversity_weight": 1.6,
    "beta1": 0.4,
    "lr": 0.02,
}
VARIED = {
    "generator": {**SEARCH, **WEIGHTS},
    "distil": {**LESSON, "lr_decay": 0.5, "weight_decay": 0.1, "lr": 0.05},
}


pytestmark = pytest.mark.usefixtures("double")


def cross_entropies(logits, labels):
    return -logits.softmax(1)[torch.arange(len(labels)), labels].log()


def spread(z, x, power):
    """Return exp(-mean_ij mean (z_i - z_j)^2 mean |x_i - x_j|^power), pair by pair."""
    i, j = torch.tensor(list(itertools.permutations(range(len(z)), 2))).T
    far = (z[i] - z[j]).pow(2).mean(1)
    far = far * (x[i] - x[j]).abs().pow(power).flatten(1).mean(1)
    return torch.exp(-far.sum() / len(z) ** 2)


class Replay:
    """FedFTG, round by round."""

    def __init__(self, config):
        self.config, self.search, self.kd = config, config.generator, config.distil
        self.variant = config.variant
        self.student = net(initial())
        with torch_stream(SEED, "server", "init"):
            self.generator = self.new()
        self.losses = []

    def new(self):
        sizes = {"latent_size": self.search.latent_size, "width": self.search.width}
        if self.search.kind == "acgan-generator":
            sizes["merge"] = self.search.merge
        return network(self.search.kind)((2, 8, 8), 3, **sizes)

    def round(self, t, clients):
        self.members = [net(self.student.state_dict()) for _ in clients]
        for k, member in zip(clients, self.members, strict=True):
            train(member, k, t)
        states = [state_of(member) for member in self.members]
        self.student = net(mean(states, [SIZES[k] for k in clients])).eval()
        with torch_stream(SEED, "server", t):
            self.new()  # for the weights of the round before: only its draws are left
            for member in self.members:
                member.eval()
            self.tune(COUNTS[list(clients)], t)

    def tune(self, counts, t):
        self.tau = counts / counts.sum(0).clamp(min=1)
        self.losses.append({"student": [], "class": [], "diversity": []})
        fall = self.kd.lr_decay**t
        sgd = torch.optim.SGD(
            self.student.parameters(),
            self.kd.lr * fall,
            weight_decay=self.kd.weight_decay,
        )
        for number, labels in enumerate(self.labels(counts.sum(0))):
            if number == 0 or self.variant == "lightfed":
                weights, betas = self.generator.parameters(), (self.search.beta1, 0.999)
                adam = torch.optim.Adam(weights, self.search.lr * fall, betas=betas)
            z = torch.randn(len(labels), self.search.latent_size)
            for _ in range(self.search.steps):
                for loss in self.searches(z, labels):
                    adam.zero_grad()
                    loss.backward()
                    adam.step()
            self.learn(z, labels, sgd)

    def labels(self, of_class):
        number, size = self.kd.steps * self.kd.batch_size, self.kd.batch_size
        if self.kd.labels == "deck":
            deck, total, running = [], int(of_class.sum()), 0
            for c, n in enumerate(of_class.tolist()):
                running += n
                deck += [c] * (math.floor(running * number / total) - len(deck))
            drawn = torch.tensor(deck)[torch.randperm(number)]
        else:
            chances = of_class if self.kd.labels == "iid" else of_class > 0
            drawn = torch.multinomial(chances.double(), number, replacement=True)
        return drawn.view(-1, size)

    def images(self, generator, z, labels):
        told = torch.eye(3)[labels]
        if self.search.kind == "acgan-generator":
            h = torch.cat([z, generator.embedding(labels)], 1)
            x = generator.layers(h[:, :, None, None])
        else:
            maps = torch.cat([generator.from_noise(z), generator.from_label(told)], 1)
            x = generator.layers(maps.view(len(z), -1, 2, 2))
        as_is = self.search.output == "as_is"
        return x if as_is else ((x + 1) / 2 - MIDDLE) / PIXEL

    def searches(self, z, labels):
        """Yield the losses of the generator's steps."""
        how, members = self.search, self.members
        each = [[m] for m in range(len(members))]
        if self.variant != "official":
            each = [range(len(members))]
        for asked in each:
            x = self.images(self.generator.train(), z, labels)
            pupil, right, gap = self.student(x), 0, 0
            for m in asked:
                teacher, tau = members[m](x), self.tau[m][labels]
                rows = cross_entropies(teacher, labels)
                if self.variant == "official":
                    right = right + rows.mean() * tau.mean()
                    apart = (pupil - teacher.detach()).abs().mean(1)
                else:
                    right = right + (tau * rows).mean()
                    apart = self.apart(teacher, pupil, searching=True)
                gap = gap + (tau * apart).mean()
            diverse = spread(z, x, 2 if self.variant == "lightfed" else 1)
            if self.variant == "official":
                diverse = diverse / len(members)
            self.losses[-1]["class"].append(right.item())
            self.losses[-1]["diversity"].append(diverse.item())
            loss = how.class_weight * right + how.diversity_weight * diverse
            yield loss - how.discrepancy_weight * gap

    def apart(self, teacher, pupil, *, searching):
        """Return the divergence of each image between a client and the global model."""
        t = self.kd.temperature
        if self.variant == "lightfed":
            if searching:
                return divergence(pupil.detach(), teacher, t) / 3
            return divergence(teacher, pupil, t) / 3
        if self.kd.direction == "global_local":
            return divergence(pupil, teacher, t)
        return divergence(teacher, pupil, t)

    def learn(self, z, labels, sgd):
        maker = copy.deepcopy(self.generator).train(self.variant == "paper")
        with torch.no_grad():
            x = self.images(maker, z, labels)
            answers = [member(x) for member in self.members]
        shares = [tau[labels] for tau in self.tau]
        for _ in range(self.kd.global_steps):
            pupil, loss = self.student(x), 0
            for tau, teacher in zip(shares, answers, strict=True):
                if self.variant == "official":
                    rows = -(teacher.softmax(1) * pupil.softmax(1).log()).mean(1)
                else:
                    rows = self.apart(teacher, pupil, searching=False)
                loss = loss + (tau * rows).mean()
            self.losses[-1]["student"].append(loss.item())
            sgd.zero_grad()
            loss.backward()
            sgd.step()


def close(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(
            ours[name], value, rtol=0, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}"
        )


PLAIN = {"generator": SEARCH, "distil": LESSON}
OTHER = {"kind": "acgan-generator", "merge": "cat", "output": "classifier"}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("fedftg", PLAIN),
        ("fedftg", VARIED),
        (
            "fedftg",
            {
                "generator": {**SEARCH, **OTHER},
                "distil": {**LESSON, "labels": "iid", "temperature": 2.0},
            },
        ),
        ("fedftg-paper", PLAIN),
        ("fedftg-published", PLAIN),
        ("fedftg-official", PLAIN),
        ("fedftg-official", VARIED),
        ("fedftg-lightfed", PLAIN),
        ("fedftg-lightfed", VARIED),
    ],
)
def test_three_rounds_are_those_of_the_equations(name, options):
    strategy, _ = REGISTRY.strategy(name, options)
    result, _ = run(strategy)
    replay = Replay(strategy.config)
    for t, clients in enumerate(clients_of(result)):
        replay.round(t, clients)
    close(result.state.weights, replay.student.state_dict())
    close(result.state.generator, replay.generator.state_dict())
    for line, losses in zip(result.history, replay.losses, strict=True):
        for term, values in losses.items():
            logged = line["logged"][f"{term}_loss"]
            assert logged == pytest.approx(sum(values) / len(values), abs=1e-6)
