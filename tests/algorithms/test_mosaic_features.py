"""Mosaic in feature space: a run replayed by hand, its losses with numbers, its traffic."""

import copy
import math

import pytest
import replaying as world
import torch
from torch import nn
from torch.nn.functional import cross_entropy, one_hot

from fedkd import testing
from fedkd.algorithms.mosaic.features.clients import ClassMoments, Discriminator
from fedkd.algorithms.mosaic.features.config import GeneratorConfig
from fedkd.algorithms.mosaic.features.server import ExpertHeads, FeatureSource, Sent
from fedkd.base.randomness import torch_stream
from fedkd.errors import NotApplicableError
from fedkd.party import ModelSpec
from fedkd.plugins.registry import load_registry
from fedkd.simulation.federation import Federation
from fedkd.simulation.sides import Sides
from fedkd.simulation.simulator import simulate

REGISTRY = load_registry()
C, Z, HIDDEN, SIZE = 3, 5, 7, 48
OPTIONS = {
    "warmup": 1,
    "finetune_lr": world.RATES[2],
    "head": {"steps": 5, "batch_size": 4, "momentum": 0.5, "weight_decay": 0.1},
    "generator": {
        "steps": 4,
        "batch_size": 6,
        "latent_size": Z,
        "hidden": HIDDEN,
        "adversarial_weight": 0.7,
        "moment_weight": 1.3,
        "ema_decay": 0.6,
    },
    "teacher": {"steps": 4, "samples_per_client": 9, "batch_size": 6},
    "distil": {"steps": 4, "batch_size": 10, "temperature": 2.0},
}
QUICK = {
    "generator": {"steps": 2, "hidden": 8, "batch_size": 8},
    "teacher": {"steps": 3, "samples_per_client": 8},
    "distil": {"steps": 2, "batch_size": 8},
}


def strategy(**options):
    return REGISTRY.strategy("mosaic-features", options)[0]


class Replay:
    """What a run does, from its description; counts are n_kc by client."""

    def __init__(self, kind):
        self.kind = kind
        self.counts = [
            torch.bincount(world.IMAGES.y_train[s], minlength=C) for s in world.SHARDS
        ]

    def run(self, clients):
        """Yield the global weights after each round."""
        weights = world.initial()
        for t, chosen in enumerate(clients):
            if t == 1:
                weights = self.round_of_features(weights, chosen)
            else:
                states = []
                for k in chosen:
                    model = world.net(weights)
                    world.train(model, k, t)
                    states.append(world.state_of(model))
                sizes = [len(world.SHARDS[k]) for k in chosen]
                weights = world.mean(states, sizes)
            yield weights

    def round_of_features(self, weights, chosen):
        sent = {}
        for k in chosen:
            model = world.net(weights).eval()
            with torch_stream(world.SEED, "client", 1, k):
                sent[k] = self.turn(model, k)
        head = world.net(weights).head
        with torch_stream(world.SEED, "server", 1):
            taught = self.lesson(head, sent)
        return {**weights, **{f"head.{name}": w for name, w in taught.items()}}

    def turn(self, model, k):
        """Return a client's generator and its head's state."""
        shard = world.SHARDS[k]
        with torch.no_grad():
            f = model.features(world.shown(world.IMAGES.x_train[shard]))
        y = world.IMAGES.y_train[shard]
        generator = self.generator().train()
        judge = nn.Sequential(
            nn.Linear(SIZE + C, HIDDEN),
            nn.LeakyReLU(0.2),
            nn.Linear(HIDDEN, HIDDEN),
            nn.LeakyReLU(0.2),
            nn.Linear(HIDDEN, 1),
        )
        adams = [
            torch.optim.Adam(net.parameters(), 1e-3, betas=(0.5, 0.999))
            for net in (generator, judge)
        ]
        trail = []
        for _ in range(4):
            pick = torch.randint(len(y), (6,))
            fake = generator(torch.randn(6, Z), y[pick])
            told = one_hot(y[pick], C).double()
            real = self.belief(judge, f[pick], told)
            loss = -real.log().mean()
            loss = loss - (1 - self.belief(judge, fake.detach(), told)).log().mean()
            self.step(adams[1], loss)
            loss = -0.7 * self.belief(judge, fake, told).log().mean()
            loss = loss + 1.3 * self.apart(fake, y[pick], f, y)
            self.step(adams[0], loss)
            trail.append(world.state_of(generator))
        fade = [0.6**3, 0.6**2, 0.6, 1.0]
        generator.load_state_dict(world.mean(trail, fade))
        head = copy.deepcopy(model.head)
        sgd = torch.optim.SGD(head.parameters(), 0.05, momentum=0.5, weight_decay=0.1)
        done = 0
        while done < 5:
            order = torch.randperm(len(y))
            for start in range(0, len(y), 4):
                if done < 5:
                    pick = order[start : start + 4]
                    self.step(sgd, cross_entropy(head(f[pick]), y[pick]))
                    done += 1
        return generator.eval(), world.state_of(head)

    @staticmethod
    def generator():
        build = REGISTRY.model("feature-generator")
        sizes = {"feature_size": SIZE, "latent_size": Z, "hidden": HIDDEN}
        return build((2, 8, 8), C, **sizes, nonnegative=False)

    @staticmethod
    def belief(judge, features, told):
        return torch.sigmoid(judge(torch.cat([features, told], 1)))

    @staticmethod
    def step(optimiser, loss):
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    @staticmethod
    def apart(fake, made_for, real, of):
        """Return how far moments of generated features are from the client's."""
        total = 0.0
        for c in made_for.unique():
            ours, theirs = fake[made_for == c], real[of == c]
            means = (ours.mean(0) - theirs.mean(0)).pow(2).mean()
            squares = (ours.pow(2).mean(0) - theirs.pow(2).mean(0)).abs().mean()
            total = total + len(ours) / len(made_for) * (means + squares)
        return total / real.var(0, unbiased=False).mean()

    def lesson(self, head, sent):
        """Return the head that the teacher has taught."""
        for _ in sent:
            self.generator()  # those of the server, before they are loaded
        clients = list(sent)
        teach = self.teacher(head, sent)
        student = copy.deepcopy(head)
        adam = torch.optim.Adam(student.parameters(), 3e-3)
        for step in range(4):
            adam.param_groups[0]["lr"] = 3e-3 * (1 + math.cos(math.pi * step / 4)) / 2
            sizes = torch.tensor([float(len(world.SHARDS[k])) for k in clients])
            origin = torch.multinomial(sizes, 10, replacement=True)
            numbers = [int((origin == i).sum()) for i in range(len(clients))]
            f, y = self.drawn([sent[k][0] for k in clients], clients, numbers)
            floor = 1e-3
            prior = ((one_hot(y, C) + floor) / (1 + C * floor)).log()
            with torch.no_grad():
                t = teach(f) + prior
            lost = 4 * world.divergence(t, student(f), 2.0).mean()
            self.step(adam, lost)
        return world.state_of(student)

    def drawn(self, generators, clients, numbers):
        features, labels = [], []
        for generator, k, number in zip(generators, clients, numbers, strict=True):
            if number:
                shares = self.counts[k].double()
                y = torch.multinomial(shares, number, replacement=True)
                with torch.no_grad():
                    features.append(generator(torch.randn(number, Z), y))
                labels.append(y)
        return torch.cat(features), torch.cat(labels)

    def teacher(self, head, sent):
        """Return what teaches: features to logits."""
        if self.kind == "global":
            return head
        held = sum(self.counts[k] for k in sent)
        present = [c for c in range(C) if held[c] > 0]
        experts = []
        for c in present:
            shares = [int(self.counts[k][c]) for k in sent]
            experts.append(world.mean([state for _, state in sent.values()], shares))

        def answers(f):
            return torch.stack([f @ e["weight"].T + e["bias"] for e in experts])

        if self.kind == "experts":
            return lambda f: answers(f).mean(0)
        f, y = self.drawn([g for g, _ in sent.values()], list(sent), [9] * len(sent))
        tilt = torch.zeros(C, len(present))
        for e, c in enumerate(present):
            tilt[c, e] = 2.0
        meta = [tilt, torch.tensor(1.0), torch.zeros(C)]
        meta = [p.requires_grad_(True) for p in meta]

        def fused(logits, meta):
            tilt, gain, shift = meta
            return gain * (tilt.softmax(1).T[:, None] * logits).sum(0) + shift

        kept = torch.randperm(len(y))[int(0.2 * len(y)) :]
        adam = torch.optim.Adam(meta, 1e-2)
        trail = []
        for _ in range(4):
            pick = kept[torch.randperm(len(kept))[:6]]
            self.step(adam, cross_entropy(fused(answers(f[pick]), meta), y[pick]))
            trail.append([p.detach().clone() for p in meta])
        fade = [0.99 ** (3 - i) for i in range(4)]
        means = [
            sum(w * step[i] for w, step in zip(fade, trail, strict=True)) / sum(fade)
            for i in range(3)
        ]
        return lambda f: fused(answers(f), means)


@pytest.mark.parametrize("kind", ["meta", "experts", "global"])
def test_a_run_is_what_an_independent_loop_makes_of_it(kind, double):
    states = []

    class Rounds(testing.Watcher):
        def around(self, call, proceed):
            result = proceed()
            if call.verb == "aggregate":
                states.append(result.weights)
            return result

    options = {**OPTIONS, "teacher": {**OPTIONS["teacher"], "kind": kind}}
    result, _ = world.run(testing.watched(strategy(**options), Rounds()))
    replay = Replay(kind).run(world.clients_of(result))
    for ours, theirs in zip(states, replay, strict=True):
        world.agree(ours, theirs)


def told(rounds=3, federation=None, **options):
    """Return the metrics of every round of a short run, and its last state."""
    metrics = []
    federation = federation or testing.toy_federation(3)
    protocol = testing.toy_protocol(rounds)
    one = strategy(**{**QUICK, **options})
    result = simulate(one, federation, protocol, 0, on_round=metrics.append)
    return metrics, result.state


def test_class_moments_are_compared_class_by_class():
    """(1/3 (0 + (1 + 1)/2) + 2/3 ((1 + 0)/2 + (3 + 0)/2)) / v, v = (2/3 + 14/9)/2."""
    real = torch.tensor([[0.0, 0.0], [2.0, 2.0], [1.0, 3.0]])
    known = ClassMoments(real, torch.tensor([0, 0, 1]), 3)
    fake = torch.tensor([[1.0, 1.0], [2.0, 3.0], [2.0, 3.0]])
    loss = known.loss(fake, torch.tensor([0, 1, 1]))
    assert loss.item() == pytest.approx(1.5)
    assert known.loss(real, torch.tensor([0, 0, 1])).item() == 0


def test_moments_of_features_that_do_not_differ_have_a_scale():
    known = ClassMoments(torch.ones(1, 2), torch.tensor([1]), 3)
    assert known.loss(torch.full((1, 2), 3.0), torch.tensor([1])).item() == 4 + 8


def test_the_discriminator_is_told_the_class():
    judge = Discriminator(2, 3, 4)
    with torch.no_grad():
        for weights in judge.parameters():
            weights.fill_(0.5)
        judge.layers[0].weight[:, 2:] = torch.tensor([0.0, 1.0, -4.0])
    # 0.5 (1 + 1) + 0.5 = 1.5, and 0, 1 or -4 more: 1.5, 2.5 or 0.2 * -2.5
    first = torch.tensor([1.5, 2.5, -0.5])
    second = 4 * 0.5 * first + 0.5
    wanted = 4 * 0.5 * torch.where(second > 0, second, 0.2 * second) + 0.5
    logits = judge(torch.ones(3, 2), torch.arange(3))
    torch.testing.assert_close(logits, wanted)


def test_expert_heads_answer_in_the_place_of_the_models_own():
    model = testing.toy_federation(3).build_spec(ModelSpec("cnn"), 0)
    before = world.state_of(model)
    ones = {"0": torch.ones(3, 64), "1": torch.zeros(3)}
    twos = {"0": torch.zeros(3, 64), "1": torch.tensor([1.0, 2.0, 3.0])}
    logits = ExpertHeads(model, {2: twos, 0: ones})(torch.ones(2, 64))
    assert logits[0].tolist() == [[64.0] * 3] * 2
    assert logits[1].tolist() == [[1.0, 2.0, 3.0]] * 2
    world.agree(world.state_of(model), before)


def test_a_generator_is_asked_for_the_classes_of_its_client():
    server = Sides(testing.toy_federation(3), testing.toy_protocol(2), 0).server()
    config = GeneratorConfig(hidden=4)
    size = server.model.feature_size
    build = REGISTRY.model("feature-generator")
    made = build((1, 8, 8), 3, feature_size=size, hidden=4, nonnegative=True)
    weights = world.state_of(made)
    counts = {1: torch.tensor([0, 5, 0]), 4: torch.tensor([1, 0, 9])}
    source = FeatureSource(Sent({}, {1: weights, 4: weights}, counts), config, server)
    assert source.sizes == [5, 10]
    features, labels = source.draw([3, 200])
    assert features.shape == (203, size)
    assert labels[:3].tolist() == [1, 1, 1]
    assert 160 <= int((labels[3:] == 2).sum()) < 200
    assert not (labels[3:] == 1).any()


def test_the_round_of_features_is_the_last_and_moves_the_head_alone():
    metrics, state = told()
    assert [bool(m["measured"]) for m in metrics] == [False, False, True]
    assert set(metrics[2]["measured"]) == {"before_distillation", "experts", "teacher"}
    before, after = state.stage.before, state.weights
    changed = [name for name in after if not torch.equal(after[name], before[name])]
    assert changed == ["classifier.weight", "classifier.bias"]
    assert (
        metrics[2]["measured"]["before_distillation"] == metrics[1]["global_accuracy"]
    )


@pytest.mark.parametrize(
    ("warmup", "at"), [(1, 1), (0.5, 2), (1.0, 3), (9, 3), (0.01, 1)]
)
def test_the_round_of_features_follows_warmup(warmup, at):
    metrics, state = told(4, warmup=warmup)
    assert [i for i, m in enumerate(metrics) if m["measured"]] == [at]
    assert (state.stage is None) == (at < 3)


def test_a_client_sends_head_counts_and_generator_in_that_round():
    """3 classes, 64 features: 4 (8 (32+3) + 8 + 32 + 64 8 + 64) + 8, 4 (3 64 + 3), 8 3."""
    metrics, _ = told()
    generator = 4 * (8 * 35 + 8 + 4 * 8 + 64 * 8 + 64) + 8
    for client in metrics[2]["clients"].values():
        assert client["bytes_up"] == generator + 4 * (3 * 64 + 3) + 8 * 3
        assert client["bytes_down"] == metrics[0]["clients"][0]["bytes_down"]


def test_a_client_is_charged_for_features_generator_and_head():
    metrics, _ = told(head={"steps": 3, "batch_size": 5})
    sizes = [len(client) for client in testing.toy_federation(3).clients]
    for k, client in metrics[2]["clients"].items():
        # Eight features in batches of five: five, three, five.
        assert client["examples"] == sizes[int(k)] + 3 * 2 * 8 + 13


def test_one_round_is_too_few():
    with pytest.raises(NotApplicableError, match="needs 2 rounds, and the run has 1"):
        told(1)


def test_what_has_no_head_is_skipped():
    class Whole(nn.Module):
        def __init__(self, shape, classes):
            super().__init__()
            self.layer = nn.Linear(math.prod(shape), classes)

        def forward(self, x):
            return self.layer(x.flatten(1))

    toy = testing.toy_federation(3)
    shards = [client.indices.numpy() for client in toy.clients]
    federation = Federation(
        toy.data, shards, shards, [ModelSpec("whole")], lambda name: Whole
    )
    with pytest.raises(
        NotApplicableError, match=r"features and a head, but whole is of"
    ):
        told(3, federation)
