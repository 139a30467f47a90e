"""HeteroFL, by the numbers."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fedkd import testing
from fedkd.algorithms.heterofl import masked_cross_entropy, masked_loss, scaled_outputs
from fedkd.party import ModelSpec
from fedkd.plugins.registry import load_registry
from fedkd.simulation.sides import Sides
from fedkd.simulation.simulator import simulate
from fedkd.strategy import Round

REGISTRY = load_registry()
FAMILY = [ModelSpec("cnn"), *(ModelSpec("cnn", {"width": w}) for w in (0.5, 0.25))]
PLAIN = {"masked": False, "rows": "all"}


def digits():
    dataset, _ = REGISTRY.dataset("digits", {})
    return dataset.load(Path())


def run(name, options, models=FAMILY, data=None, **protocol):
    strategy, _ = REGISTRY.strategy(name, options)
    federation = testing.toy_federation(models=models, data=data)
    return simulate(strategy, federation, testing.toy_protocol(2, **protocol), seed=3)


def test_absent_classes_have_logit_zero_and_get_no_gradient():
    """CE of [ln 3, 0, 0] at class 0: -ln(3/5)."""
    logits = torch.tensor([[3.0, 1.0, 7.0]], dtype=torch.float64).log()
    logits.requires_grad_()
    absent = torch.tensor([False, True, True])
    loss = masked_cross_entropy(logits, torch.tensor([0]), absent)
    torch.testing.assert_close(loss.item(), 0.5108256237659907, rtol=1e-12, atol=0)
    loss.backward()
    expected = torch.tensor([[-0.4, 0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(logits.grad, expected, rtol=1e-12, atol=1e-15)


def test_a_client_with_every_class_has_the_plain_loss():
    assert masked_loss(torch.tensor([3, 1]), torch.device("cpu")) is None
    assert masked_loss(torch.tensor([3, 0]), torch.device("cpu")) is not None


def test_outputs_are_divided_by_the_width_in_training_only():
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    x = torch.randn(4, 2)
    plain = model[0](x)
    with scaled_outputs(model, ["0"], 0.25):
        torch.testing.assert_close(model[0].train()(x), plain * 4)
        assert torch.equal(model[0].eval()(x), plain)
    assert torch.equal(model[0].train()(x), plain)


def test_at_width_1_there_is_no_scaler():
    model = nn.Sequential(nn.Linear(2, 3))
    with scaled_outputs(model, ["0"], 1.0):
        assert not model[0]._forward_hooks


def test_scaled_are_narrowed_layers_without_batchnorm_and_not_the_classifier():
    federation = testing.toy_federation(models=FAMILY)
    server = Sides(federation, testing.toy_protocol(), 0).server()
    strategy, _ = REGISTRY.strategy("heterofl", {})
    state = strategy.init(server)
    turn = Round(0, 1, (0, 1, 2))
    down = [strategy.broadcast(state, k, turn) for k in range(3)]
    assert down[0].besides.narrowed == ()
    assert down[1].besides.narrowed == ("body.12",)
    assert [d.besides.rate for d in down] == [1.0, 0.5, 0.25]


@pytest.mark.parametrize("key", ["scaler", "masked", "rows"])
def test_every_option_does_something(key):
    other = "all" if key == "rows" else False
    first = run("heterofl", {}).state.weights
    second = run("heterofl", {key: other}).state.weights
    assert any(not torch.equal(first[n], second[n]) for n in first)


def test_rows_of_a_class_come_from_the_clients_that_have_it():
    """Client k of the toy federation lacks class k; here only client 0 takes part."""
    federation = testing.toy_federation(models=["cnn"])
    sides = Sides(federation, testing.toy_protocol(), 0)
    strategy, _ = REGISTRY.strategy("heterofl", {})
    state = strategy.init(sides.server())
    turn = Round(0, 1, (0,))
    client = sides.client(0, sides.protocol.training)
    up = strategy.local(strategy.broadcast(state, 0, turn), client)
    assert up.besides.tolist() == [0, 1, 1]
    after = strategy.aggregate(state, {0: up}, sides.server(), turn)
    for entry in ("classifier.weight", "classifier.bias"):
        assert torch.equal(after.weights[entry][0], state.weights[entry][0])
        assert torch.equal(after.weights[entry][1:], up.weights[entry][1:])


@pytest.mark.parametrize("weights", ["uniform", "examples"])
@pytest.mark.parametrize("name", ["heterofl", "fedrolex"])
def test_at_rate_1_on_digits_it_is_fedavg_bit_for_bit(name, weights):
    data = digits()
    ours = run(name, {**PLAIN, "weights": weights}, ["cnn"], data)
    fedavg = run("fedavg", {"weights": weights}, ["cnn"], data)
    assert ours.state.weights.keys() == fedavg.state.weights.keys()
    for entry, value in fedavg.state.weights.items():
        assert torch.equal(ours.state.weights[entry], value), entry
    for mine, theirs in zip(ours.history, fedavg.history, strict=True):
        assert mine["global_accuracy"] == theirs["global_accuracy"]


@pytest.mark.parametrize("buffers", ["average", "local", "reestimate"])
def test_widths_train_under_every_buffer_policy(buffers):
    assert run("heterofl", {}, buffers=buffers).metrics["global_accuracy"] is not None


def test_masked_cross_entropy_of_no_absent_class_is_the_plain_one():
    logits, y = torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1])
    absent = torch.zeros(3, dtype=torch.bool)
    assert torch.equal(
        masked_cross_entropy(logits, y, absent), F.cross_entropy(logits, y)
    )
