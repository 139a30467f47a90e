"""FML and FedKD, whose clients train two networks: by hand, replayed, in the limit."""

import math

import pytest
import torch
import torch.nn.functional as F
from replaying import (
    SHARDS,
    TESTS,
    accuracy,
    agree,
    clients_of,
    descend,
    initial,
    mean,
    net,
    run,
    size_of,
    state_of,
)

from fedkd import testing
from fedkd.algorithms.mixed.fml import mutual_loss
from fedkd.plugins.registry import load_registry
from fedkd.simulation.simulator import simulate

REGISTRY = load_registry()
WIDTHS = (1.0, 0.5)
"""The server's network is as wide as those of clients 0 and 2."""


def strategy(name, options=None):
    return REGISTRY.strategy(name, options or {})[0]


def own_models():
    return {k: net(initial(WIDTHS[k % 2]), WIDTHS[k % 2]) for k in range(3)}


def same_bits(ours, theirs):
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[n], theirs[n]) for n in theirs)


def memories(sides):
    return [sides.memories.recall(k)["weights"] for k in range(3)]


# FML


def test_the_mutual_loss_by_hand():
    """CE(y = 0) = ln 2; KL((3/4, 1/4) || (1/2, 1/2)) = ln 2 - H(1/4)."""
    logits, peer = torch.zeros(1, 2), torch.tensor([[math.log(3), 0.0]])
    y = torch.tensor([0])
    entropy = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    expected = 0.25 * math.log(2) + 0.75 * (math.log(2) - entropy)
    assert mutual_loss(logits, peer, y, 0.25).item() == pytest.approx(expected)
    # The other way round, KL((1/2, 1/2) || (3/4, 1/4)) = ln 2 of (2 / sqrt 3).
    expected = 0.25 * -math.log(0.75) + 0.75 * math.log(2 / math.sqrt(3))
    assert mutual_loss(peer, logits, y, 0.25).item() == pytest.approx(expected)


def test_a_peer_does_not_learn_from_the_others_loss():
    logits, peer = torch.zeros(1, 2, requires_grad=True), torch.ones(1, 2)
    peer.requires_grad_()
    mutual_loss(logits, peer, torch.tensor([0]), 0.5).backward()
    assert peer.grad is None
    assert logits.grad is not None


def mutual(alpha, beta):
    def objective(networks, x, y):
        own, meme = networks["own"](x), networks["meme"](x)

        def loss(f, g, share):
            q = g.detach().softmax(1)
            kl = (q * (q.log() - f.log_softmax(1))).sum() / len(y)
            return share * F.cross_entropy(f, y) + (1 - share) * kl

        return loss(own, meme, alpha), loss(meme, own, beta)

    return objective


@pytest.mark.parametrize("weights", ["examples", "uniform"])
def test_fml_is_fork_learn_and_merge(weights):
    options = {"alpha": 0.3, "beta": 0.6, "weights": weights}
    result, sides = run(strategy("fml", options), widths=WIDTHS)
    own, shared = own_models(), initial()
    for t, clients in enumerate(clients_of(result)):
        memes, losses = [], []
        for k in clients:
            pair = torch.nn.ModuleDict({"own": own[k], "meme": net(shared)})
            apart = ("own", "meme")
            losses.append(descend(pair, k, t, mutual(0.3, 0.6), apart=apart))
            memes.append(state_of(pair["meme"]))
        n = [len(SHARDS[k]) if weights == "examples" else 1 for k in clients]
        shared = mean(memes, n)
        line = result.history[t]
        assert line["train_loss"] == pytest.approx(sum(losses) / 2, abs=1e-5)
        traffic = 2 * (t + 1) * size_of(shared)
        assert (line["bytes_down"], line["bytes_up"]) == (traffic, traffic)
        assert line["global_accuracy"] == pytest.approx(accuracy(net(shared)))
        for k, model in own.items():
            expected = accuracy(model, TESTS[k])
            assert line["local_accuracy_by_client"][k] == pytest.approx(expected)
    agree(result.state.weights, shared)
    for kept, model in zip(memories(sides), own.values(), strict=True):
        agree(kept, state_of(model))


@pytest.mark.parametrize("buffers", ["average", "local"])
def test_without_mutual_learning_fml_is_local_training_and_fedavg(buffers):
    """Bit for bit: own models are those of ``local``, the mean meme FedAvg's model."""
    ours, sides = run(strategy("fml", {"alpha": 1.0, "beta": 1.0}), buffers=buffers)
    alone, others = run(strategy("local"), buffers=buffers)
    fedavg, averaging = run(strategy("fedavg"), buffers=buffers)
    same_bits(ours.state.weights, fedavg.state.weights)
    for mine, theirs in zip(memories(sides), memories(others), strict=True):
        same_bits(mine, theirs)
    if buffers == "local":  # the statistics of memes stay, and go on
        for k in range(3):
            kept = sides.memories.recall(k)["shared buffers"]
            same_bits(kept, averaging.memories.recall(k)["private"])
    for k, line in enumerate(ours.history):
        assert line["bytes_up"] == fedavg.history[k]["bytes_up"]
        assert line["local_accuracy"] == alone.history[k]["local_accuracy"]
        source = fedavg if buffers == "average" else alone
        assert line["global_accuracy"] == source.history[k]["global_accuracy"]


OPTIONS = {"fml": {}, "fedkd-wu": {"energy_start": 1.0, "energy_end": 1.0}}


@pytest.mark.parametrize("name", OPTIONS)
def test_an_image_counts_in_each_of_two_networks(name):
    ours, fedavg = (run(strategy(one))[0].metrics for one in (name, "fedavg"))
    assert ours["client_examples"] == 2 * fedavg["client_examples"] > 0


@pytest.mark.parametrize("name", OPTIONS)
def test_statistics_that_stay_do_not_cross(name):
    world = testing.toy_federation(3, ["cnn", "mlp"])
    told = {
        buffers: simulate(
            strategy(name, OPTIONS[name]),
            world,
            testing.toy_protocol(2, buffers=buffers),
            0,
        )
        for buffers in ("average", "local")
    }
    up = {b: result.metrics["bytes_up"] for b, result in told.items()}
    model = world.build_spec(world.server_model, 0)
    size = sum(b.numel() * b.element_size() for b in model.buffers())
    assert up["average"] - up["local"] == 2 * 3 * size > 0
