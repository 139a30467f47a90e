"""FedMD: by hand, its whole loop by hand, its traffic, and local training in the limit."""

import numpy as np
import pytest
import replaying as by_hand
import torch
from torch.nn.functional import cross_entropy, l1_loss

from fedkd import PublicData, testing
from fedkd.algorithms.mixed.fedmd import FedMD, FedMDConfig, batches, consensus
from fedkd.base.randomness import torch_stream
from fedkd.plugins.registry import load_registry
from fedkd.simulation.federation import Federation
from fedkd.simulation.simulator import simulate

REGISTRY = load_registry()
ONE = torch.tensor([[2, 0, -1], [0, 1, 0]], dtype=torch.float64)
TWO = torch.tensor([[0, 1, 0], [1, 0, 2]], dtype=torch.float64)
STUDENT = torch.tensor([[0, 1, 0], [0.5, 0, 1]], dtype=torch.float64)


def result(name, clients=3, models=("cnn",), **options):
    strategy = REGISTRY.strategy(name, options)[0]
    world = testing.toy_federation(clients, models)
    return simulate(strategy, world, testing.toy_protocol(2, clients), 0)


def test_the_consensus_and_its_mean_absolute_error_by_hand():
    mean = consensus([ONE, TWO])
    assert mean.tolist() == [[1, 0.5, -0.5], [0.5, 0.5, 1]]
    assert torch.equal(mean, consensus([TWO, ONE]))
    assert l1_loss(STUDENT, mean).item() == pytest.approx(0.4166666666666667)


def test_without_a_digest_it_is_local_training():
    ours, local = result("fedmd", epochs=0), result("local")
    assert [line["train_loss"] for line in ours.history] == [
        line["train_loss"] for line in local.history
    ]


def test_scores_and_places_cross_and_no_model():
    """12 public images: 8 bytes a place, 4 bytes a score, to and from three clients."""
    first, second = result("fedmd").history
    scores = 3 * 12 * 4 * testing.toy_images().num_classes
    assert (first["bytes_down"], first["bytes_up"]) == (3 * 96, scores)
    down = 3 * (96 + 192) + scores  # of both rounds together
    assert (second["bytes_down"], second["bytes_up"]) == (down, 2 * scores)


def test_one_client_digests_what_it_says_itself():
    """Without BatchNorm it says in training what it has said: no loss but rounding."""
    digest = {"images": 8, "batch_size": 4}
    (alone,) = result("fedmd", 1, ("mlp",), **digest).metrics["clients"].values()
    assert alone["logged"]["digest_loss"] < 1e-6
    many = result("fedmd", 3, ("mlp",), **digest).metrics["clients"].values()
    assert all(row["logged"]["digest_loss"] > 1e-3 for row in many)


@pytest.mark.parametrize(
    ("number", "sizes"), [(9, [4, 4]), (10, [4, 4, 2]), (4, [4]), (1, [2])]
)
def test_no_batch_of_a_digest_has_one_image(number, sizes):
    parts = batches(number, 4)
    assert [len(part) for part in parts] == sizes
    assert {int(i) for part in parts for i in part} <= set(range(number))


@pytest.mark.parametrize(("share", "some"), [(1.0, False), (0.5, True)])
def test_late_scores_are_of_other_images_and_left_out(share, some):
    """A consensus is the mean of those that were made for its own draw of images."""
    told = {}

    class Watched(FedMD):
        def aggregate(self, state, ups, server, round):
            after = super().aggregate(state, ups, server, round)
            told[round.index] = state, ups, after
            return after

    faults = {"late": {"share": share, "rounds": 1}}
    protocol = testing.toy_protocol(6, 3, faults=faults)
    simulate(Watched(FedMDConfig(images=5)), testing.toy_federation(3), protocol, 4)
    late = set()
    for before, ups, after in told.values():
        timely = [up.scores for up in ups.values() if up.draw == before.draw]
        late |= {len(timely) > 0} if len(timely) < len(ups) else set()
        if timely:
            assert torch.equal(after.scores, consensus(timely))
            assert torch.equal(after.places, before.ask)
        else:
            assert after is before
    assert some in late


# The whole

WIDTHS = (1.0, 0.5, 1.0)
OPEN = np.array([34, 35, *range(0, 16, 2)])
IMAGES, EPOCHS, SIZE, LR = 7, 2, 3, 0.02  # in a pass 3, 3, and one that is left out
MAKE = by_hand.federation


def world(widths):
    """Return the uneven world with a few images, seen before, as public data."""
    there = MAKE(widths)
    return Federation(
        by_hand.IMAGES,
        [np.array(s) for s in by_hand.SHARDS],
        [np.array(t) for t in by_hand.TESTS],
        there.specs,
        by_hand.network,
        # As another data set: what is public matters here, not whose it was.
        public=PublicData(by_hand.IMAGES.x_train[OPEN], by_hand.IMAGES),
    )


def seen(places):
    """Return public images as all see them: as they are stored."""
    return by_hand.shown(by_hand.IMAGES.x_train[OPEN[places.numpy()]])


class Party:
    """A client: its model, and the Adam of its digests."""

    def __init__(self, k):
        self.k, self.images = k, 0
        self.model = by_hand.net(by_hand.initial(WIDTHS[k]), WIDTHS[k])
        self.m = self.v = [0.0 for _ in self.model.parameters()]
        self.steps = 0

    def turn(self, t, lesson, ask):
        with torch_stream(by_hand.SEED, "client", t, self.k):
            self.model.train()
            if lesson is not None:
                self.digest(*lesson)
            self.revisit(t)
        with torch.no_grad():
            return self.model.eval()(seen(ask))

    def digest(self, places, scores):
        for _ in range(EPOCHS):
            order = torch.randperm(IMAGES)
            for i in (0, SIZE):
                chosen = order[i : i + SIZE]
                away = self.model(seen(places[chosen])) - scores[chosen]
                self.adam(away.abs().sum() / away.numel())
                self.images += SIZE

    def adam(self, loss):
        parameters = list(self.model.parameters())
        gradients = torch.autograd.grad(loss, parameters)
        self.steps += 1
        self.m = [0.9 * m + 0.1 * g for m, g in zip(self.m, gradients, strict=True)]
        self.v = [
            0.999 * v + 0.001 * g**2 for v, g in zip(self.v, gradients, strict=True)
        ]
        with torch.no_grad():
            for p, m, v in zip(parameters, self.m, self.v, strict=True):
                up, low = m / (1 - 0.9**self.steps), v / (1 - 0.999**self.steps)
                p.sub_(LR * up / (low.sqrt() + 1e-8))

    def revisit(self, t):
        descent = by_hand.Descent(by_hand.RATES[t])
        named = dict(self.model.named_parameters())
        source = by_hand.batches(by_hand.SHARDS[self.k])
        for _ in range(by_hand.STEPS):
            x, y = next(source)
            gradients = torch.autograd.grad(
                cross_entropy(self.model(x), y), list(named.values())
            )
            descent.step(named, dict(zip(named, gradients, strict=True)))
        self.images += by_hand.images_of(self.k)


def test_the_whole_loop(monkeypatch):
    monkeypatch.setattr(by_hand, "federation", world)
    options = {"images": IMAGES, "epochs": EPOCHS, "batch_size": SIZE, "lr": LR}
    ours, sides = by_hand.run(REGISTRY.strategy("fedmd", options)[0], WIDTHS)
    monkeypatch.setattr(by_hand, "federation", MAKE)
    parties, lesson = [Party(k) for k in range(3)], None
    with torch_stream(by_hand.SEED, "server", "init"):
        ask = torch.randperm(len(OPEN))[:IMAGES]
    for t, clients in enumerate(by_hand.clients_of(ours)):
        said = [parties[k].turn(t, lesson, ask) for k in clients]
        lesson = ask, sum(said) / len(said)
        with torch_stream(by_hand.SEED, "server", t):
            ask = torch.randperm(len(OPEN))[:IMAGES]
        line = ours.history[t]
        assert line["client_examples"] == sum(party.images for party in parties)
        for k, party in enumerate(parties):
            expected = by_hand.accuracy(party.model, by_hand.TESTS[k])
            assert line["local_accuracy_by_client"][k] == pytest.approx(expected)
    torch.testing.assert_close(ours.state.scores, lesson[1], rtol=0, atol=1e-9)
    assert torch.equal(ours.state.places, lesson[0])
    assert torch.equal(ours.state.ask, ask)
    for k, party in enumerate(parties):
        kept = sides.memories.recall(k)["weights"]
        by_hand.agree(kept, by_hand.state_of(party.model))
