"""FedDistill and its like: by hand, replayed whole, local training in the limit."""

import math

import pytest
import torch
import torch.nn.functional as F
from prototypes_by_hand import accuracy_by_prototypes, features_by_class, towards
from replaying import (
    IMAGES,
    SHARDS,
    TESTS,
    accuracy,
    agree,
    clients_of,
    descend,
    initial,
    net,
    run,
    state_of,
)

from fedkd import testing
from fedkd.algorithms.mixed.feddistill import regulariser
from fedkd.algorithms.mixed.own_models import ByClass
from fedkd.algorithms.mixed.prototypes import NearestPrototype, distance
from fedkd.errors import DivergedError
from fedkd.ops.prototypes import ClassMeans, mean_vectors, table
from fedkd.party import ModelSpec
from fedkd.plugins.registry import load_registry
from fedkd.simulation.simulator import simulate

REGISTRY = load_registry()


def strategy(name, options=None):
    return REGISTRY.strategy(name, options or {})[0]


# What they share: means by class


def test_means_by_class_by_hand():
    means = ClassMeans(3)
    assert means.vectors() == {}
    means.add(torch.tensor([[1.0, 2.0], [3.0, 0.0]]), torch.tensor([2, 0]))
    means.add(torch.tensor([[3.0, 4.0]]), torch.tensor([2]))
    vectors = means.vectors()
    assert list(vectors) == [0, 2]  # ascending, and none of class 1
    assert vectors[0].tolist() == [3.0, 0.0]
    assert vectors[2].tolist() == [2.0, 3.0]
    assert vectors[2].dtype == torch.float32


def test_means_that_are_not_finite_are_refused():
    means = ClassMeans(2)
    means.add(torch.tensor([[math.inf]]), torch.tensor([1]))
    with pytest.raises(DivergedError, match="its model diverged"):
        means.vectors()


def test_means_over_clients_by_hand():
    """0 and 4, by 1 and 3 images: 3; unweighted 2. A class of one client is its own."""
    given = [{0: torch.tensor([0.0])}, {0: torch.tensor([4.0]), 1: torch.tensor([7.0])}]
    weights = [torch.tensor([1, 0]), torch.tensor([3, 9])]
    assert mean_vectors(given, weights) == {0: 3.0, 1: 7.0}
    assert mean_vectors(given) == {0: 2.0, 1: 7.0}
    assert mean_vectors([]) == {}


def test_means_are_float32_where_features_are_shorter():
    """1 + 2^-8 is between two numbers of bfloat16, as the mean of its neighbours."""
    means = ClassMeans(1)
    rows = torch.tensor([[1.0], [1.0078125]]).bfloat16()
    means.add(rows, torch.tensor([0, 0]))
    assert means.vectors() == {0: 1.00390625}
    given = [{0: torch.tensor([1.0, 0.5])}, {0: torch.tensor([1.0078125, 0.5])}]
    with torch.autocast("cpu", torch.bfloat16):
        mean = mean_vectors(given, [torch.tensor([1]), torch.tensor([1])])
    assert mean[0].tolist() == [1.00390625, 0.5]


def test_a_table_says_which_rows_are_there():
    rows, known = table({1: torch.tensor([5.0, 6.0])}, 3, torch.zeros(1).double())
    assert rows.tolist() == [[0, 0], [5, 6], [0, 0]]
    assert rows.dtype == torch.float64
    assert known.tolist() == [False, True, False]


# A replay of a client's rounds: what is the method's own is in the arguments.


def local_accuracy_agrees(line, models):
    ours = line["local_accuracy_by_client"]
    for k, model in models.items():
        assert ours[k] == pytest.approx(accuracy(model, TESTS[k]))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("feddistill", {"gamma": 0.0}),
        ("fedproto", {"lam": 0.0}),
        ("fedtgp", {"lam": 0.0, "server": {"epochs": 1}}),
    ],
)
def test_without_its_term_it_is_local_training_bit_for_bit(name, options):
    """Each client's model is that of ``local``."""
    ours, sides = run(strategy(name, options))
    alone, others = run(strategy("local"))
    assert [line["train_loss"] for line in ours.history] == [
        line["train_loss"] for line in alone.history
    ]
    for k in range(3):
        mine = sides.memories.recall(k)["weights"]
        theirs = others.memories.recall(k)["weights"]
        assert all(torch.equal(mine[n], theirs[n]) for n in theirs)


# FedDistill


def test_the_regulariser_by_hand():
    """Logits 0: log(1/3) each. Teacher of label 0: sums to 1; of label 1: none.

    -(1/2)(log(1/3)) = 0.549306, over two images of which one adds nothing.
    """
    teacher = torch.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    known = torch.tensor([True, False, True])
    value = regulariser(torch.zeros(2, 3), torch.tensor([0, 1]), teacher, known)
    assert value.item() == pytest.approx(math.log(3) / 2)


def test_the_regulariser_with_soft_targets():
    """Soft targets of the mean of two clients' logits, and a student's outputs."""
    ensemble = torch.tensor([[1.0, 0.5, -0.5], [0.5, 0.5, 1.0]]).double()
    student = torch.tensor([[0.0, 1.0, 0.0], [0.5, 0.0, 1.0]]).double()
    known = torch.tensor([True, True])
    y = torch.tensor([0, 1])
    value = regulariser(student, y, ensemble.softmax(1), known)
    assert value.item() == pytest.approx(1.155659176370745, abs=1e-12)


def distilled(k, t, model, teacher, gamma, whole):
    """Return the mean outputs by class of a client's steps; train its model."""
    seen = {}

    def objective(model, x, y):
        logits = model(x)
        term = 0.0
        for row, c in zip(logits, y.tolist(), strict=True):
            output = row.softmax(0) if whole else row
            seen.setdefault(c, []).append(output.detach())
            if c in teacher:
                target = teacher[c] if whole else teacher[c].softmax(0)
                term = term - gamma * (target * row.log_softmax(0)).sum() / len(y)
        return F.cross_entropy(logits, y), term

    loss = descend(model, k, t, objective)
    return {c: sum(rows) / len(rows) for c, rows in seen.items()}, loss


WIDTHS = (1.0, 0.5)


@pytest.mark.parametrize("name", ["feddistill", "feddistill-htfllib"])
def test_feddistill_is_algorithm_1(name):
    """Clients of two widths; who sits out keeps model and vectors."""
    result, sides = run(strategy(name, {"gamma": 0.7}), widths=WIDTHS)
    own = {k: net(initial(WIDTHS[k % 2]), WIDTHS[k % 2]) for k in range(3)}
    given, down, up = {}, 0, 0
    for t, clients in enumerate(clients_of(result)):
        sent, losses = {}, []
        for k in clients:
            kept = [v for j, v in given.items() if j != k or "htfllib" in name]
            teacher = {}
            for c in range(3):
                rows = [v[c] for v in kept if c in v]
                if rows:
                    teacher[c] = sum(rows) / len(rows)
            whole = name == "feddistill"
            sent[k], loss = distilled(k, t, own[k], teacher, 0.7, whole)
            losses.append(loss)
            down += 8 * 3 * len(teacher)
            up += 8 * 3 * len(sent[k])
        given |= sent
        line = result.history[t]
        assert line["train_loss"] == pytest.approx(sum(losses) / 2, abs=1e-5)
        assert (line["bytes_down"], line["bytes_up"]) == (down, up)
        local_accuracy_agrees(line, own)
    assert down, "no teacher was sent"
    for k, model in own.items():
        agree(sides.memories.recall(k)["weights"], state_of(model))
        agree(result.state.of_client[k], given[k])


def test_feddistill_sends_a_hundred_numbers_for_ten_classes():
    data = testing.toy_images(classes=10, per_class=8, size=10)
    world = testing.toy_federation(3, ["cnn", "mlp"], data)
    result = simulate(strategy("feddistill"), world, testing.toy_protocol(2), 0)
    (first, second) = result.history
    held = [len(vectors) for vectors in result.state.of_client.values()]
    assert (first["bytes_down"], first["bytes_up"]) == (0, 40 * sum(held))
    assert second["bytes_down"] == 3 * 400  # all ten classes, of two others


# FedProto


def test_the_distance_by_hand():
    """(1 + 4 + 0 + 4) / 4 = 2.25; an image without a prototype stays in the divisor."""
    features = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    rows = torch.tensor([[0.0, 0.0], [3.0, 2.0]])
    y, known = torch.tensor([0, 1]), torch.tensor([True, True])
    assert distance(features, y, rows, known).item() == 2.25
    half = distance(features, y, rows, torch.tensor([True, False]))
    assert half.item() == 1.25


class Still(torch.nn.Module):
    """Features that are the images."""

    def features(self, x):
        return x


def test_a_class_without_a_prototype_is_never_predicted():
    """Class 1, with zeros in its row, would be the nearest to each of these."""
    rows = torch.tensor([[3.0, 0.0], [0.0, 0.0], [0.0, 4.0]])
    known = torch.tensor([True, False, True])
    logits = NearestPrototype(Still(), rows, known)(torch.tensor([[0.0, 0.0]]))
    assert logits.tolist() == [[-3.0, -5.0, -4.0]]


def proto_round(name, t, clients, own, prototypes, lam):
    """Train a round's clients; return their prototypes, and their mean loss."""
    sent, losses = {}, []
    for k in clients:
        seen = {} if name == "fedproto-code" else None
        losses.append(descend(own[k], k, t, towards(prototypes, lam, seen)))
        sent[k] = features_by_class(own[k], k)
        if seen is not None:
            sent[k] = {c: sum(rows) / len(rows) for c, rows in seen.items()}
    return sent, sum(losses) / len(losses)


@pytest.mark.parametrize("name", ["fedproto", "fedproto-code"])
def test_fedproto_is_algorithm_1(name):
    result, sides = run(strategy(name, {"lam": 0.7}))
    own = {k: net(initial()) for k in range(3)}
    prototypes, down, up = {}, 0, 0
    for t, clients in enumerate(clients_of(result)):
        down += 2 * 8 * 48 * len(prototypes)
        sent, loss = proto_round(name, t, clients, own, prototypes, 0.7)
        for c in sorted({c for vectors in sent.values() for c in vectors}):
            total = weights = 0.0
            for k, vectors in sent.items():
                if c in vectors:
                    n = int((IMAGES.y_train[SHARDS[k]] == c).sum())
                    weight = n if name == "fedproto" else 1
                    total, weights = total + weight * vectors[c], weights + weight
            prototypes[c] = total / weights
        up += sum(8 * 48 * len(vectors) for vectors in sent.values())
        up += 2 * 4 * 3 if name == "fedproto" else 0  # n_kc
        line = result.history[t]
        assert line["train_loss"] == pytest.approx(loss, abs=1e-5)
        assert (line["bytes_down"], line["bytes_up"]) == (down, up)
        for k, model in own.items():
            expected = accuracy_by_prototypes(model, prototypes, TESTS[k])
            assert line["local_accuracy_by_client"][k] == pytest.approx(expected)
    agree(result.state.vectors, prototypes)
    for k, model in own.items():
        agree(sides.memories.recall(k)["weights"], state_of(model))


def test_a_class_that_no_client_of_a_round_has_keeps_its_prototype():
    one, other = torch.tensor([1.0]), torch.tensor([2.0])
    ups = {3: ByClass({1: other}, torch.tensor([0, 4]))}
    after = strategy("fedproto").aggregate(ByClass({0: one, 1: one}), ups, None, None)
    assert after.vectors == {0: one, 1: other}


MIXED = [ModelSpec("cnn", {"features": 8}), ModelSpec("mlp", {"features": 8})]


def test_fedproto_works_with_models_that_differ():
    """10 classes at 8 features: 320 bytes, and counts of 40."""
    data = testing.toy_images(classes=10, per_class=8, size=10)
    world = testing.toy_federation(2, MIXED, data)
    result = simulate(strategy("fedproto"), world, testing.toy_protocol(2, 2), 0)
    held = sum(len(set(client.labels.tolist())) for client in world.clients)
    first, second = result.history
    assert (first["bytes_down"], first["bytes_up"]) == (0, 32 * held + 2 * 40)
    assert second["bytes_down"] == 2 * 320
