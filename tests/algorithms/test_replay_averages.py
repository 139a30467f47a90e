"""Whole runs of FedAvg and its like against loops written from the papers."""

import pytest
import torch
import torch.nn.functional as F
from replaying import (
    SHARDS,
    TESTS,
    accuracy,
    agree,
    clients_of,
    images_of,
    initial,
    mean,
    net,
    run,
    size_of,
    state_of,
    train,
)

from fedkd.plugins.registry import load_registry

REGISTRY = load_registry()
NORM = {"norm.weight", "norm.bias"}
STATISTICS = {"norm.running_mean", "norm.running_var", "norm.num_batches_tracked"}
SIZES = [len(shard) for shard in SHARDS]


def finished(name, options=None, **changes):
    strategy, _ = REGISTRY.strategy(name, options or {})
    return run(strategy, **changes)


def replayed(result, work, shares=SIZES, start=None):
    """Return the model after each round, and each round's training loss."""
    weights = initial() if start is None else start
    models, losses = [], []
    for t, clients in enumerate(clients_of(result)):
        states, values = [], []
        for k in clients:
            model = net(weights)
            values.append(work(model, k, t))
            states.append(state_of(model))
        weights = mean(states, [shares[k] for k in clients])
        models.append(weights)
        losses.append(sum(values) / len(values))
    return models, losses


def check(result, models, losses):
    agree(result.state.weights, models[-1])
    for line, weights, loss in zip(result.history, models, losses, strict=True):
        model = net(weights)
        local = [accuracy(model, shard) for shard in TESTS]
        assert line["global_accuracy"] == pytest.approx(accuracy(model))
        assert line["local_accuracy"] == pytest.approx(sum(local) / 3)
        assert line["train_loss"] == pytest.approx(loss, abs=1e-5)  # summed in float32


def test_fedavg():
    result, _ = finished("fedavg")
    models, losses = replayed(result, train)
    check(result, models, losses)
    one = size_of(initial())
    seen = [sum(map(images_of, clients)) for clients in clients_of(result)]
    for t, line in enumerate(result.history):
        assert line["bytes_up"] == line["bytes_down"] == 2 * one * (t + 1)
        assert line["client_examples"] == sum(seen[: t + 1])
        assert line["server_examples"] == 0


def test_fedavg_with_uniform_weights():
    result, _ = finished("fedavg", {"weights": "uniform"})
    check(result, *replayed(result, train, shares=[1, 1, 1]))


def own_entries(result, work, kept):
    """Return the shared model, and each client's own entries, after all rounds."""
    start = initial()
    shared = {n: v for n, v in start.items() if n not in kept}
    own = {k: {n: v for n, v in start.items() if n in kept} for k in range(3)}
    for t, clients in enumerate(clients_of(result)):
        states = []
        for k in clients:
            model = net({**shared, **own[k]})
            work(model, k, t)
            state = state_of(model)
            own[k] = {n: state.pop(n) for n in kept}
            states.append(state)
        shared = mean(states, [SIZES[k] for k in clients])
    return shared, own


def check_own(result, sides, shared, own):
    trained = {k for clients in clients_of(result) for k in clients}
    for k in trained:
        agree(sides.memories.recall(k)["private"], own[k])
    models = [net({**shared, **own[k]}) for k in range(3)]
    everywhere = [accuracy(model) for model in models]
    local = [accuracy(m, shard) for m, shard in zip(models, TESTS, strict=True)]
    assert result.metrics["global_accuracy"] == pytest.approx(sum(everywhere) / 3)
    assert result.metrics["local_accuracy_by_client"] == pytest.approx(
        dict(enumerate(local))
    )
    assert result.metrics["bytes_up"] == 2 * 3 * size_of(shared)


def test_fedbn():
    result, sides = finished("fedbn")
    shared, own = own_entries(result, train, NORM | STATISTICS)
    agree(result.state.weights, shared)
    check_own(result, sides, shared, own)


def test_fedavg_whose_buffers_stay_local():
    result, sides = finished("fedavg", buffers="local")
    shared, own = own_entries(result, train, STATISTICS)
    sent = {n: v for n, v in result.state.weights.items() if n not in STATISTICS}
    agree(sent, shared)
    check_own(result, sides, shared, own)


def test_fedprox():
    def work(model, k, t):
        anchor = [p.detach().clone() for p in model.parameters()]

        def pull(model):
            pairs = zip(model.parameters(), anchor, strict=True)
            return 0.5 * 0.8 * sum((p - a).pow(2).sum() for p, a in pairs)

        return train(model, k, t, pull=pull)

    result, _ = finished("fedprox", {"mu": 0.8})
    models, losses = replayed(result, work)
    check(result, models, losses)
    plain, _ = replayed(result, train)
    assert (models[-1]["head.weight"] - plain[-1]["head.weight"]).abs().max() > 1e-3


# Images by class: 0 2 3; 4 0 5; 8 10 2.
PAPER = ([0.25, 1, 1], [1, 0.25, 1], [1, 1, 1])
OFFICIAL = ([0.3, 0.3 + 0.7 * 2 / 3, 1], [0.86, 0.3, 1], [0.86, 1, 0.44])


def restricted(scale):
    scale = torch.tensor(scale, dtype=torch.float64)
    return lambda logits, y: F.cross_entropy(logits * scale, y)


def test_fedrs_as_the_paper_has_it():
    result, _ = finished("fedrs", {"alpha": 0.25})
    check(
        result, *replayed(result, lambda m, k, t: train(m, k, t, restricted(PAPER[k])))
    )


def test_fedrs_as_its_authors_code_has_it():
    result, _ = finished("fedrs", {"alpha": 0.3, "variant": "official"})
    start = initial()
    start["head.bias"] = torch.zeros_like(start["head.bias"])

    def work(model, k, t):
        return train(model, k, t, restricted(OFFICIAL[k]), frozen=["head.bias"])

    models, losses = replayed(result, work, start=start)
    for line, loss in zip(result.history, losses, strict=True):
        assert line["train_loss"] == pytest.approx(loss, abs=1e-5)
    # The scale is float32 there.
    for name, value in models[-1].items():
        torch.testing.assert_close(result.state.weights[name], value, rtol=0, atol=1e-6)
    assert not result.state.weights["head.bias"].any()


def test_fedrs_as_mosaics_code_has_it():
    options = {"alpha": 0.1, "variant": "mosaic", "growth": 0.05, "cap": 0.17}
    result, sides = finished("fedrs", options)
    alphas = dict.fromkeys(range(3), 0.1)

    def work(model, k, t):
        alphas[k] = min(0.17, alphas[k] + 0.05 * t)

        def loss(logits, y):
            scale = torch.tensor([1.0 if c in y else alphas[k] for c in range(3)])
            return F.cross_entropy(logits * scale.double(), y)

        return train(model, k, t, loss)

    check(result, *replayed(result, work))
    for k in range(3):
        assert sides.memories.recall(k)["alpha"] == pytest.approx(alphas[k])
    assert len(set(alphas.values())) > 1
