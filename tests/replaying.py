"""What replays of whole runs share: a small world in float64, and training by hand.

A replay is a method's loop, written from its paper without the code that it checks: only
the random streams are the same. Everything is float64 and the images are normalised
without rounding, so that both agree far below 1e-6. The world is uneven on purpose: few
and many images, a class that is missing, a client that sits out, batch normalisation,
momentum, weight decay, clipping, rates that change, crops and flips.
"""

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from fedkd import testing
from fedkd.base.randomness import torch_stream
from fedkd.data.images import Augmentation
from fedkd.ops.training import TrainingConfig
from fedkd.party import ModelSpec
from fedkd.plugins.registry import load_registry
from fedkd.simulation.federation import Federation
from fedkd.simulation.protocol import Protocol
from fedkd.simulation.requirements import fitted
from fedkd.simulation.sides import Sides
from fedkd.simulation.simulator import Run

SEED = 4
ROUNDS = 3
STEPS, SIZE, MOMENTUM, DECAY, CLIP = 4, 8, 0.9, 0.01, 0.5
RATES = (0.1, 0.05, 0.075)  # 0.1, halved, and from round 2 on 0.3, halved twice
SHARDS = (
    [12, 13, 24, 25, 26],  # no image of class 0; one short batch a pass
    [0, 1, 2, 3, *range(27, 32)],  # none of class 1; 8 images, and one that is left out
    [*range(4, 12), *range(14, 24), 32, 33],  # all classes; 8, 8 and 4 images
)
TESTS = (range(5), range(5, 21), [35])
PIXEL, MIDDLE = 64 / 255, 96 / 255  # normalised: pixel / 64 - 1.5, exactly


class Net(nn.Module):
    """Convolution, BatchNorm, convolution, flattened map, head; ``rate`` is a replay's."""

    rate = 1.0

    def __init__(self, shape, classes, width=1.0):
        super().__init__()
        a, b = round(8 * width), round(12 * width)
        self.first = nn.Conv2d(shape[0], a, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(a)
        self.second = nn.Conv2d(a, b, 3, padding=1)
        self.feature_size = 4 * b
        self.head = nn.Linear(4 * b, classes)
        self.double()

    def features(self, x):
        x = self.norm(self.first(x.to(self.head.weight.dtype))).relu()
        x = self.second(x)
        x = x / self.rate if self.training else x
        return F.avg_pool2d(x.relu(), 2).flatten(1)

    def forward(self, x):
        return self.head(self.features(x))


def images():
    found = testing.toy_images(channels=2)
    facts = {"mean": (MIDDLE,) * 2, "std": (PIXEL,) * 2}
    return replace(found, **facts, augmentation=Augmentation(pad=1, flip=True))


IMAGES = images()


def federation(widths=(1.0,)):
    specs = [ModelSpec("net", {} if w == 1 else {"width": w}) for w in widths]
    shards = [np.array(s) for s in SHARDS]
    tests = [np.array(t) for t in TESTS]
    return Federation(IMAGES, shards, tests, specs, network)


def network(name):
    """Return the network of this world, or one that is registered: a generator."""
    if name == "net":
        return Net
    if name != "acgan-generator":
        return load_registry().model(name)

    def normed(shape, classes, **options):
        """Build one with BatchNorm, which it lacks at 8x8."""
        generator = load_registry().model(name)(shape, classes, **options)
        channels = generator.layers[0].out_channels
        generator.layers.insert(1, nn.BatchNorm2d(channels))
        return generator

    return normed


def run(strategy, widths=(1.0,), **changes):
    """Run a strategy; return its result and its sides."""
    training = TrainingConfig(
        local_steps=STEPS,
        batch_size=SIZE,
        lr=0.1,
        momentum=MOMENTUM,
        weight_decay=DECAY,
        clip_norm=CLIP,
        lr_decay=0.5,
        lr_from_round={2: 0.3},
    )
    settings = {
        "rounds": ROUNDS,
        "clients": 3,
        "participation": 2,
        "training": training,
    }
    protocol = Protocol(**{**settings, **changes})
    world, protocol = fitted(strategy, federation(widths), protocol, SEED, "it")
    sides = Sides(world, protocol, SEED)
    return Run(strategy, sides, "it").execute(None, 0, lambda _: None), sides


def clients_of(result):
    """Return the clients of each round, which are drawn and not replayed."""
    every = [list(line["clients"]) for line in result.history]
    assert {k for each in every for k in each} == {0, 1, 2}
    assert len(set(map(tuple, every))) > 1
    return every


def initial(width=1.0):
    """Return the initial weights of a width, as the run draws them."""
    (spec,) = federation((width,)).specs
    model = federation((width,)).build_spec(spec, SEED)
    return {n: v.detach().clone() for n, v in model.state_dict().items()}


def net(weights, width=1.0):
    model = Net((2, 8, 8), 3, width)
    model.load_state_dict(weights)
    return model


def state_of(model):
    return {n: v.detach().clone() for n, v in model.state_dict().items()}


def shown(pixels):
    """Return normalised images, float64."""
    return (pixels.double() / 255 - MIDDLE) / PIXEL


def batches(positions):
    """Yield batches for ever; draws the order of a pass, then crops and flips of each."""
    while True:
        order = [positions[i] for i in torch.randperm(len(positions)).tolist()]
        for start in range(0, len(order), SIZE):
            chosen = order[start : start + SIZE]
            if len(chosen) > 1:
                tops, lefts = torch.randint(0, 3, (2, len(chosen))).tolist()
                flips = (torch.rand(len(chosen)) < 0.5).tolist()
                moves = zip(chosen, tops, lefts, flips, strict=True)
                pixels = torch.stack([moved(*move) for move in moves])
                yield shown(pixels), IMAGES.y_train[chosen]


def moved(position, top, left, flip):
    black = torch.zeros(2, 10, 10, dtype=torch.uint8)
    black[:, 1:9, 1:9] = IMAGES.x_train[position]
    cut = black[:, top : top + 8, left : left + 8]
    return cut.flip(2) if flip else cut


class Descent:
    """SGD with clipping, weight decay and momentum, as its equations are."""

    def __init__(self, lr):
        self.lr = lr
        self.velocity = {}

    @torch.no_grad()
    def step(self, parameters, gradients):
        norm = sum(g.pow(2).sum() for g in gradients.values()).sqrt()
        share = min(1.0, CLIP / (norm.item() + 1e-6))
        for name, gradient in gradients.items():
            p = parameters[name]
            change = share * gradient + DECAY * p
            self.velocity[name] = MOMENTUM * self.velocity.get(name, 0) + change
            p -= self.lr * self.velocity[name]


def train(model, k, t, loss=F.cross_entropy, *, pull=None, frozen=(), work=None):
    """Train a client's model in round ``t``; return its mean loss without the pull."""

    def objective(model, x, y):
        return loss(model(x), y), 0.0 if pull is None else pull(model)

    return descend(model, k, t, objective, frozen=frozen, work=work)


def descend(model, k, t, objective, *, frozen=(), work=None, apart=()):
    """Train by an objective, whose first part is returned; ``apart``: clipped apart."""
    positions, steps = work or (SHARDS[k], STEPS)
    groups = [f"{name}." for name in apart] or [""]
    descents, total = [Descent(RATES[t]) for _ in groups], 0.0
    parameters = {n: p for n, p in model.named_parameters() if n not in frozen}
    model.train()
    with torch_stream(SEED, "client", t, k):
        source = batches(positions)
        for _ in range(steps):
            value, term = objective(model, *next(source))
            total += value.item()
            gradients = torch.autograd.grad(value + term, list(parameters.values()))
            named = dict(zip(parameters, gradients, strict=True))
            for group, descent in zip(groups, descents, strict=True):
                own = {n: g for n, g in named.items() if n.startswith(group)}
                descent.step(parameters, own)
    return total / steps


def images_of(k):
    """Return the images that a client's steps of a round see."""
    return (4 * 5, 4 * 8, 8 + 8 + 4 + 8)[k]


def mean(states, shares):
    """Return the weighted mean; of whole numbers, without what is behind the point."""
    total = sum(shares)
    result = {}
    for name, first in states[0].items():
        value = sum(s[name].double() * w for s, w in zip(states, shares, strict=True))
        whole = not first.is_floating_point()
        value = value / total
        result[name] = (value + 1e-9).long() if whole else value
    return result


def accuracy(model, positions=range(36)):
    """Return the share of test images, in percent, that a model in eval mode gets."""
    chosen = list(positions)
    with torch.no_grad():
        said = model.eval()(shown(IMAGES.x_test[chosen])).argmax(1)
    return 100 * (said == IMAGES.y_test[chosen]).double().mean().item()


def divergence(p_logits, q_logits, t=1.0):
    """Return KL(p || q) of each image, both at temperature t."""
    p, q = (p_logits / t).softmax(1), (q_logits / t).softmax(1)
    return (p * (p.log() - q.log())).sum(1)


def agree(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(
            ours[name], value, rtol=0, atol=1e-9, msg=lambda m, n=name: f"{n}: {m}"
        )


def size_of(weights):
    return 8 * sum(v.numel() for v in weights.values())  # float64 and int64
