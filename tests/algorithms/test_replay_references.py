"""Whole runs of the references against loops written from what they are."""

import pytest
import torch
from replaying import (
    IMAGES,
    ROUNDS,
    SHARDS,
    STEPS,
    TESTS,
    accuracy,
    agree,
    clients_of,
    images_of,
    initial,
    net,
    run,
    shown,
    size_of,
    state_of,
    train,
)

from fedkd.plugins.registry import load_registry

REGISTRY = load_registry()


def finished(name):
    strategy, _ = REGISTRY.strategy(name, {})
    return run(strategy)


def alone(result):
    """Return each client's own model after every round, and each round's losses."""
    models = {k: initial() for k in range(3)}
    history, losses = [], []
    for t, clients in enumerate(clients_of(result)):
        values = []
        for k in clients:
            model = net(models[k])
            values.append(train(model, k, t))
            models[k] = state_of(model)
        history.append(dict(models))
        losses.append(sum(values) / len(values))
    return history, losses


def check_lines(result, losses, up):
    seen = [sum(map(images_of, clients)) for clients in clients_of(result)]
    for t, line in enumerate(result.history):
        assert line["train_loss"] == pytest.approx(losses[t], abs=1e-5)
        assert (line["bytes_up"], line["bytes_down"]) == (up * 2 * (t + 1), 0)
        assert line["client_examples"] == sum(seen[: t + 1])


def test_local():
    result, sides = finished("local")
    history, losses = alone(result)
    check_lines(result, losses, up=0)
    for k, weights in history[-1].items():
        agree(sides.memories.recall(k)["weights"], weights)
    for line, models in zip(result.history, history, strict=True):
        nets = [net(models[k]) for k in range(3)]
        local = [accuracy(m, shard) for m, shard in zip(nets, TESTS, strict=True)]
        everywhere = sum(accuracy(m) for m in nets) / 3
        assert line["global_accuracy"] == pytest.approx(everywhere)
        assert line["local_accuracy_by_client"] == pytest.approx(dict(enumerate(local)))


def test_ensemble():
    result, _ = finished("ensemble")
    history, losses = alone(result)
    check_lines(result, losses, up=size_of(initial()))
    came = set()
    for t, clients in enumerate(clients_of(result)):
        came |= set(clients)
        with torch.no_grad():
            x = shown(IMAGES.x_test)
            logits = [net(history[t][k]).eval()(x) for k in came]
        said = (sum(logits) / len(came)).argmax(1)
        right = (said == IMAGES.y_test).double()
        line = result.history[t]
        assert line["global_accuracy"] == pytest.approx(100 * right.mean().item())
        local = [100 * right[list(shard)].mean().item() for shard in TESTS]
        assert line["local_accuracy_by_client"] == pytest.approx(dict(enumerate(local)))
    assert set(result.state.models) == came
    for k, weights in result.state.models.items():
        agree(weights, history[-1][k])


def test_central():
    result, _ = finished("central")
    every = sorted(position for shard in SHARDS for position in shard)
    model, seen = net(initial()), 0
    for t in range(ROUNDS):
        loss = train(model, 0, t, work=(every, 2 * STEPS))
        seen += 4 * 8 + 2 + 3 * 8  # 34 images are 8, 8, 8, 8 and 2
        line = result.history[t]
        assert line["train_loss"] == pytest.approx(loss, abs=1e-5)
        assert line["client_examples"] == seen
        assert line["global_accuracy"] == pytest.approx(accuracy(model))
        tested = sorted({i for shard in TESTS for i in shard})
        assert line["local_accuracy"] == pytest.approx(accuracy(model, tested))
    agree(result.state.weights, state_of(model))
