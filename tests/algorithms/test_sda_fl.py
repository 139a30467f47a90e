"""SDA-FL: its labels and its pool by hand, a whole run replayed, FedAvg in the limit."""

import pytest
import torch
import torch.nn.functional as F
from replaying import (
    MIDDLE,
    PIXEL,
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
    network,
    run,
    shown,
    size_of,
    state_of,
)

from fedkd import load_registry, testing
from fedkd.algorithms.averaging import Update
from fedkd.algorithms.sda_fl import Pool, Said, pooled, pseudo_labels
from fedkd.base.randomness import torch_stream
from fedkd.data.images import ImageInfo
from fedkd.simulation.sides import Sides
from fedkd.simulation.simulator import Run

REGISTRY = load_registry()
GAN = {"steps": 3, "batch_size": 8, "latent_size": 5, "width": 2}
IMAGES, THRESHOLD, WEIGHT = 6, 0.4, 0.5


def finished(name, options, **changes):
    strategy, _ = REGISTRY.strategy(name, options)
    return run(strategy, **changes)


class Fixed:
    """A server whose model has the image's pixels, over 10, as logits."""

    device = torch.device("cpu")
    images = ImageInfo((1, 1, 2), 2, (0.0,), (1 / 255,))

    def load(self, weights):
        return torch.nn.Sequential(torch.nn.Flatten(), Tenth())


class Tenth(torch.nn.Module):
    def forward(self, x):
        return x / 10


def test_a_label_is_the_likeliest_class_if_it_is_sure():
    """Logits (10, 0), (1, 0), (0, 2): .99995, .73 and .88 of the likeliest class."""
    images = torch.tensor([[100, 0], [10, 0], [0, 20]], dtype=torch.uint8)
    images = images.view(3, 1, 1, 2)
    assert pseudo_labels(Fixed(), {}, images, 0.95).tolist() == [0, -1, -1]
    assert pseudo_labels(Fixed(), {}, images, 0.8).tolist() == [0, -1, 1]
    assert pseudo_labels(Fixed(), {}, images, 0.0).tolist() == [0, 0, 1]


def test_new_images_join_the_pool_in_the_order_of_clients():
    def block(pixel):
        return torch.full((2, 1, 1, 1), pixel, dtype=torch.uint8)

    old = Pool(block(7), torch.tensor([1, -1], dtype=torch.int16), (4,), {4: 0, 9: 1})

    def said(images, has):
        return Update({}, 5, besides=Said(images, has))

    ups = {2: said(block(8), 2), 4: said(None, 2), 6: said(block(9), 2)}
    pool = pooled(old, ups)
    assert pool.images.flatten().tolist() == [7, 7, 8, 8, 9, 9]
    assert pool.labels.tolist() == [1, -1, -1, -1, -1, -1]
    assert pool.labels.dtype == torch.int16
    assert (pool.owners, pool.block(2)) == ((4, 2, 6), slice(2, 4))
    assert pool.sent == {4: 2, 9: 1, 2: 2, 6: 2}
    # From a round before others that have arrived: 4 has its second look at 2 images.
    late = pooled(pool, {4: said(block(5), 0), 9: said(None, 2)})
    assert torch.equal(late.images, pool.images)
    assert (late.owners, late.sent) == (pool.owners, pool.sent | {9: 2})


LOST = {"drop": 0.4, "late": {"share": 0.4, "rounds": 2}}


def test_after_lost_and_late_answers_a_client_has_the_images_of_the_labels():
    """Every label is sure, so an image that is there twice or not at all is noticed."""
    options = {"images": 2, "threshold": 0, "generator": {**GAN, "steps": 1}}
    strategy, _ = REGISTRY.strategy("sda-fl", options)
    protocol = testing.toy_protocol(8, 4, participation=3, faults=LOST)
    sides = Sides(testing.toy_federation(4, ["mlp"]), protocol, 1)
    running, pool = Run(strategy, sides, "it"), torch.zeros(0, 1, 8, 8)
    for round in running.rounds(None, 0, lambda _: None):
        for k in round.clients:
            assert torch.equal(sides.memories.recall(k)["pool"], pool)
        pool = running.state.besides.images
    assert len(pool) == 4 * 2, "of each client once"
    hit = {kind for line in running.lines for kind in line["faults"]}
    assert hit == {"drop", "late", "arrived"}


def test_without_images_it_is_fedavg_bit_for_bit():
    ours, theirs = finished("sda-fl", {"images": 0})[0], finished("fedavg", {})[0]
    for name, value in theirs.state.weights.items():
        assert torch.equal(ours.state.weights[name], value)
    for line, other in zip(ours.history, theirs.history, strict=True):
        assert line["bytes_up"] == other["bytes_up"]
        assert line["client_examples"] == other["client_examples"]


class Replay:
    """The run again, in plain torch, with the same draws."""

    def __init__(self, labelled_by):
        self.labelled_by = labelled_by
        self.w = initial()
        self.images = torch.zeros(0, 2, 8, 8, dtype=torch.uint8)
        self.owners, self.labels = [], torch.zeros(0).long()
        self.has = dict.fromkeys(range(3), 0)
        self.up = self.down = self.seen = 0
        self.confident = set()

    def turn(self, k, t):
        model, descent = net(self.w).train(), Descent(RATES[t])
        parameters = dict(model.named_parameters())
        sure = torch.nonzero(self.labels >= 0).flatten()
        self.seen += images_of(k)
        made, total = None, 0.0
        with torch_stream(SEED, "client", t, k):
            source = batches(SHARDS[k])
            for _ in range(STEPS):
                x, y = next(source)
                if len(sure):
                    chosen = sure[torch.randint(0, len(sure), (len(y),))]
                    logits = model(torch.cat([x, shown(self.images[chosen])]))
                    value = F.cross_entropy(logits[: len(y)], y)
                    other = F.cross_entropy(logits[len(y) :], self.labels[chosen])
                    whole = value + WEIGHT * other
                    self.seen += len(y)
                else:
                    whole = value = F.cross_entropy(model(x), y)
                gradients = torch.autograd.grad(whole, list(parameters.values()))
                descent.step(parameters, dict(zip(parameters, gradients, strict=True)))
                total += value.item()
            if k not in self.owners:
                made = self.gan(k)
        return state_of(model), made, total / STEPS

    def gan(self, k):
        generator = network("dcgan-generator")((2, 8, 8), 3, latent_size=5, width=2)
        judge = network("dcgan-discriminator")((2, 8, 8), 3, width=2)
        adams = [
            torch.optim.Adam(m.parameters(), 1e-3, (0.5, 0.999))
            for m in (generator, judge)
        ]
        centre, spread = (torch.full((1, 2, 1, 1), v) for v in (MIDDLE, PIXEL))
        source = batches(SHARDS[k])
        for _ in range(3):
            x, _ = next(source)
            fake = generator(torch.randn(len(x), 5))
            fake = ((fake + 1) / 2 - centre) / spread
            real = -F.logsigmoid(judge(x.float())).mean()
            self.step(adams[1], real - F.logsigmoid(-judge(fake.detach())).mean())
            self.step(adams[0], -F.logsigmoid(judge(fake)).mean())
            self.seen += 3 * len(x)
        torch.randn(512, 5)  # the images that are looked at
        with torch.no_grad():
            images = generator.eval()(torch.randn(IMAGES, 5))
        return ((images + 1) / 2 * 255).round().byte()

    def step(self, adam, loss):
        adam.zero_grad()
        loss.backward()
        adam.step()

    def round(self, t, clients):
        for k in clients:
            new = len(self.images) - self.has[k]
            self.down += size_of(self.w) + 2 * 64 * new + 2 * len(self.labels)
            self.has[k] = len(self.images)
        done = {k: self.turn(k, t) for k in clients}
        self.w = mean([w for w, _, _ in done.values()], [len(SHARDS[k]) for k in done])
        for k, (w, made, _) in done.items():
            self.up += size_of(w)
            if made is not None:
                self.up += 2 * 64 * IMAGES
                self.owners.append(k)
                self.images = torch.cat([self.images, made])
                self.labels = torch.cat([self.labels, torch.full((IMAGES,), -1)])
        for place, k in enumerate(self.owners):
            if self.labelled_by == "own" and k not in done:
                continue
            own = slice(place * IMAGES, (place + 1) * IMAGES)
            labeller = net(done[k][0] if self.labelled_by == "own" else self.w).eval()
            p = labeller(shown(self.images[own])).softmax(1)
            sure = p.max(1).values >= THRESHOLD
            self.labels[own] = torch.where(sure, p.argmax(1), -1)
        self.confident |= set((self.labels >= 0).tolist())
        return sum(loss for _, _, loss in done.values()) / len(done)


@pytest.mark.parametrize("labelled_by", ["own", "global"])
def test_a_run_is_what_an_independent_loop_makes_of_it(labelled_by):
    options = {
        "images": IMAGES,
        "threshold": THRESHOLD,
        "labelled_by": labelled_by,
        "synthetic_weight": WEIGHT,
        "generator": GAN,
    }
    result, sides = finished("sda-fl", options)
    replay = Replay(labelled_by)
    for t, clients in enumerate(clients_of(result)):
        loss = replay.round(t, clients)
        line = result.history[t]
        assert line["train_loss"] == pytest.approx(loss, abs=1e-5)
        assert line["client_examples"] == replay.seen
        assert (line["bytes_up"], line["bytes_down"]) == (replay.up, replay.down)
    agree(result.state.weights, replay.w)
    pool = result.state.besides
    assert pool.owners == tuple(replay.owners)
    assert torch.equal(pool.images, replay.images)
    assert pool.labels.tolist() == replay.labels.tolist()
    assert replay.confident == {True, False}, "all labels are sure, or none"
    for k, number in replay.has.items():
        kept = sides.memories.recall(k)["pool"]
        assert torch.equal(kept, replay.images[:number])
