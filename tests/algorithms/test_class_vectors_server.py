"""FedGH and FedTGP, whose servers train on class means: by hand, and replayed whole."""

import pytest
import torch
import torch.nn.functional as F
from prototypes_by_hand import accuracy_by_prototypes, features_by_class, towards
from replaying import (
    SEED,
    TESTS,
    accuracy,
    agree,
    clients_of,
    descend,
    initial,
    net,
    run,
    state_of,
    train,
)

from fedkd import testing
from fedkd.algorithms.mixed.fedtgp import contrast, spread
from fedkd.algorithms.mixed.own_models import ByClass
from fedkd.base.randomness import torch_stream
from fedkd.errors import DivergedError
from fedkd.party import ModelSpec
from fedkd.plugins.registry import load_registry
from fedkd.simulation.sides import Sides
from fedkd.simulation.simulator import simulate

REGISTRY = load_registry()
MIXED = [ModelSpec("cnn", {"features": 8}), ModelSpec("mlp", {"features": 8})]


def strategy(name, options=None):
    return REGISTRY.strategy(name, options or {})[0]


def passes(pairs, t, epochs, size):
    """Yield the server's batches of round ``t``: rows and classes, shuffled."""
    for _ in range(epochs):
        order = torch.randperm(len(pairs)).tolist()
        for start in range(0, len(order), size):
            chosen = [pairs[i] for i in order[start : start + size]]
            yield torch.stack([row for row, _ in chosen]), [c for _, c in chosen]


def descended(parameters, loss, lr):
    """Take one plain step of SGD."""
    gradients = torch.autograd.grad(loss, parameters)
    with torch.no_grad():
        for p, gradient in zip(parameters, gradients, strict=True):
            p.sub_(lr * gradient)


# FedGH


SERVER = {"epochs": 2, "batch_size": 2, "lr": 0.3}


def test_fedgh_is_algorithm_1():
    result, sides = run(strategy("fedgh", {"server": SERVER}))
    own = {k: net(initial()) for k in range(3)}
    head = torch.nn.Linear(48, 3).double()
    head.load_state_dict(net(initial()).head.state_dict())
    up = 0
    for t, clients in enumerate(clients_of(result)):
        losses, pairs = [], []
        for k in clients:
            own[k].head.load_state_dict(head.state_dict())
            losses.append(train(own[k], k, t))
            pairs += [(row, c) for c, row in features_by_class(own[k], k).items()]
        with torch_stream(SEED, "server", t):
            for rows, classes in passes(pairs, t, 2, 2):
                loss = F.cross_entropy(head(rows), torch.tensor(classes))
                descended(list(head.parameters()), loss, 0.3)
        up += 8 * 48 * len(pairs)
        line = result.history[t]
        assert line["train_loss"] == pytest.approx(sum(losses) / 2, abs=1e-5)
        shared = 8 * (48 * 3 + 3)
        assert (line["bytes_down"], line["bytes_up"]) == (2 * (t + 1) * shared, up)
        for k, model in own.items():
            measured = net(state_of(model))
            measured.head.load_state_dict(head.state_dict())
            expected = accuracy(measured, TESTS[k])
            assert line["local_accuracy_by_client"][k] == pytest.approx(expected)
    agree(result.state.weights, {"0": head.weight.detach(), "1": head.bias.detach()})
    for k, model in own.items():
        agree(sides.memories.recall(k)["weights"], state_of(model))


def test_without_passes_the_head_stays_as_it_was():
    result, _ = run(strategy("fedgh", {"server": {"epochs": 0}}))
    first = net(initial()).head
    assert torch.equal(result.state.weights["0"], first.weight)
    assert torch.equal(result.state.weights["1"], first.bias)


def test_the_head_learns_means_that_can_be_told_apart():
    sides = Sides(testing.toy_federation(2, MIXED), testing.toy_protocol(1, 2), 0)
    method = strategy("fedgh", {"server": {"epochs": 300, "lr": 0.5}})
    server = sides.server()
    means = {c: 3 * torch.eye(8)[c] for c in range(3)}
    state = method.init(server)
    state = method.aggregate(state, {0: ByClass(means)}, server, None)
    assert server.logged["server_loss"] < 0.01
    logits = torch.stack(list(means.values())) @ state.weights["0"].T
    assert (logits + state.weights["1"]).argmax(1).tolist() == [0, 1, 2]


def test_fedgh_works_with_models_that_differ():
    """A head of 10 x 8 and 10 numbers down: 360 bytes; means of 32 bytes up."""
    data = testing.toy_images(classes=10, per_class=8, size=10)
    world = testing.toy_federation(2, MIXED, data)
    result = simulate(strategy("fedgh"), world, testing.toy_protocol(2, 2), 0)
    held = sum(len(set(client.labels.tolist())) for client in world.clients)
    last = result.history[-1]
    assert (last["bytes_down"], last["bytes_up"]) == (4 * 360, 2 * 32 * held)


def test_a_servers_training_that_diverges_says_what_to_lower():
    sides = Sides(testing.toy_federation(2, MIXED), testing.toy_protocol(1, 2), 0)
    method, server = strategy("fedgh", {"server": {"lr": 1e30}}), sides.server()
    means = {c: 1e30 * torch.eye(8)[c] for c in range(3)}
    with pytest.raises(DivergedError, match=r"lower server\.lr"):
        method.aggregate(method.init(server), {0: ByClass(means)}, server, None)


# FedTGP


def test_the_contrast_by_hand():
    """Distances 0 and sqrt 2, a margin of 1: ln(1 + e^(1 - sqrt 2)); without: - sqrt 2."""
    rows, y = torch.tensor([[1.0, 0.0]]).double(), torch.tensor([0])
    prototypes = torch.eye(2).double()
    wide = contrast(rows, y, prototypes, 1.0).item()
    assert wide == pytest.approx(0.5073354209319911, abs=1e-12)
    plain = contrast(rows, y, prototypes, 0.0).item()
    assert plain == pytest.approx(0.21762172158174375, abs=1e-12)


def test_a_prototype_that_is_met_exactly_gives_no_nan():
    prototypes = torch.eye(2).requires_grad_()
    contrast(torch.eye(2)[:1], torch.tensor([0]), prototypes, 1.0).backward()
    assert torch.isfinite(prototypes.grad).all()


def test_the_margin_by_hand():
    """0, 3 and 10 on a line: the nearest are 3, 3 and 7 away."""
    line = {c: torch.tensor([x, 0.0]) for c, x in enumerate((0.0, 3.0, 10.0))}
    assert spread(line) == 7.0
    assert spread({2: line[2]}) == spread({}) == 0.0


class Prototypes:
    """The server of FedTGP, in the code's own words, in float64."""

    def __init__(self):
        with torch_stream(SEED, "server", "init"):
            self.parts = self.drawn()

    def drawn(self):
        embedding = torch.nn.Embedding(3, 48)
        layers = torch.nn.Linear(48, 48), torch.nn.Linear(48, 48)
        return [m.double() for m in (embedding, *layers)]

    def rows(self):
        embedding, middle, last = self.parts
        return last(F.relu(middle(embedding.weight)))

    def round(self, t, pairs, bound):
        centres = {}
        for c in {c for _, c in pairs}:
            rows = [row for row, label in pairs if label == c]
            centres[c] = sum(rows) / len(rows)
        gaps = [
            min(float((q - p).norm()) for d, p in centres.items() if d != c)
            for c, q in centres.items()
        ]
        self.margin = min(max(gaps), bound)
        parameters = [p for part in self.parts for p in part.parameters()]
        with torch_stream(SEED, "server", t):
            self.drawn()  # a new network, whose weights are then replaced
            for rows, classes in passes(pairs, t, 3, 2):
                made, loss = self.rows(), 0.0
                for row, c in zip(rows, classes, strict=True):
                    apart = torch.stack([(row - p).norm() for p in made])
                    apart = apart + self.margin * F.one_hot(torch.tensor(c), 3).double()
                    loss = loss - (-apart).log_softmax(0)[c] / len(classes)
                descended(parameters, loss, 0.3)
        return dict(enumerate(self.rows().detach()))


@pytest.mark.parametrize("bound", [0.5, 100.0])
def test_fedtgp_is_its_codes_loop(bound):
    options = {"lam": 0.7, "margin_bound": bound}
    server = {"epochs": 3, "batch_size": 2, "lr": 0.3}
    result, sides = run(strategy("fedtgp", {**options, "server": server}))
    own = {k: net(initial()) for k in range(3)}
    trained, prototypes, up = Prototypes(), {}, 0
    for t, clients in enumerate(clients_of(result)):
        losses, pairs = [], []
        for k in clients:
            losses.append(descend(own[k], k, t, towards(prototypes, 0.7)))
            pairs += [(row, c) for c, row in features_by_class(own[k], k).items()]
        prototypes = trained.round(t, pairs, bound)
        up += 8 * 48 * len(pairs)
        line = result.history[t]
        assert line["train_loss"] == pytest.approx(sum(losses) / 2, abs=1e-5)
        assert (line["bytes_down"], line["bytes_up"]) == (2 * t * 3 * 8 * 48, up)
        for k, model in own.items():
            expected = accuracy_by_prototypes(model, prototypes, TESTS[k])
            assert line["local_accuracy_by_client"][k] == pytest.approx(expected)
    assert (trained.margin == 0.5) == (bound == 0.5), "the bound does not bind"
    agree(result.state.prototypes, prototypes)
    for k, model in own.items():
        agree(sides.memories.recall(k)["weights"], state_of(model))
