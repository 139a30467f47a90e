"""FjORD: ordered dropout, by the numbers."""

import math
from pathlib import Path

import pytest
import torch

from fedkd import testing
from fedkd.algorithms import fjord
from fedkd.algorithms.fjord import prefix
from fedkd.algorithms.fjord_dropout import OrderedDropout, soft_cross_entropy
from fedkd.errors import ConfigError
from fedkd.party import ModelSpec
from fedkd.plugins.registry import load_registry
from fedkd.simulation.sides import Sides
from fedkd.simulation.simulator import simulate
from fedkd.strategy import Round

REGISTRY = load_registry()
FAMILY = [ModelSpec("cnn"), *(ModelSpec("cnn", {"width": w}) for w in (0.5, 0.25))]


def build(width=1.0, name="cnn"):
    return REGISTRY.model(name)((1, 8, 8), 3, width=width)


def dropout(distil=False, name="cnn"):
    prefixes = {w: build(w, name) for w in (0.5, 0.25)}
    return OrderedDropout(build(name=name), prefixes, distil)


def run(options, models=FAMILY, data=None, rounds=2, **protocol):
    strategy, _ = REGISTRY.strategy("fjord", options)
    federation = testing.toy_federation(models=models, data=data)
    return simulate(strategy, federation, testing.toy_protocol(rounds, **protocol), 3)


def test_soft_cross_entropy_has_no_temperature():
    """Teacher (3/4, 1/4), student (1/2, 1/2): ln 2; teacher = student: the entropy."""
    teacher = torch.tensor([[3.0, 1.0]], dtype=torch.float64).log()
    even = torch.zeros(1, 2, dtype=torch.float64)
    torch.testing.assert_close(
        soft_cross_entropy(even, teacher).item(), math.log(2), rtol=1e-12, atol=0
    )
    torch.testing.assert_close(
        soft_cross_entropy(teacher, teacher).item(),
        0.5623351446188083,
        rtol=1e-12,
        atol=0,
    )


@pytest.mark.parametrize("name", ["cnn", "mlp", "resnet18", "mobilenet", "vit"])
def test_a_prefix_uses_the_first_channels_only(name):
    """Noise in all the other coordinates changes nothing, and they get no gradient."""
    net = dropout(name=name).eval()
    x = torch.randn(5, 1, 8, 8)
    before = net.narrow(1, x)
    before.sum().backward()
    shapes = {n: p.shape for n, p in net._prefixes[1].named_parameters()}
    for entry, p in net.model.named_parameters():
        inside = torch.zeros(p.shape, dtype=torch.bool)
        inside[tuple(slice(size) for size in shapes[entry])] = True
        assert not p.grad[~inside].any()
        p.data[~inside] += 1
    assert torch.equal(net.narrow(1, x), before)


def test_parameters_of_a_narrower_prefix_are_among_those_of_a_wider_one():
    net = dropout()
    small, large = net._prefixes
    wide = dict(large.named_parameters())
    for entry, p in small.named_parameters():
        assert all(a <= b for a, b in zip(p.shape, wide[entry].shape, strict=True))


def test_only_the_widest_network_s_parameters_are_trained():
    net = dropout()
    assert [p.data_ptr() for p in net.parameters()] == [
        p.data_ptr() for p in net.model.parameters()
    ]


def test_every_width_is_drawn_and_keeps_statistics_of_its_own():
    net = dropout().train()
    torch.manual_seed(0)
    for _ in range(60):
        net(torch.randn(4, 1, 8, 8))
    steps = [
        int(m.get_buffer("body.1.num_batches_tracked"))
        for m in (*net._prefixes, net.model)
    ]
    assert sum(steps) == 60
    assert min(steps) > 10


def test_with_distillation_the_widest_network_answers_and_the_drawn_one_learns_of_it():
    net = dropout(distil=True).eval()
    x = torch.randn(4, 1, 8, 8)
    torch.manual_seed(0)
    drawn = int(torch.randint(3, ()))
    torch.manual_seed(0)
    logits = net(x)
    assert torch.equal(logits, net.model(x))
    narrow = net.narrow(drawn, x) if drawn < 2 else logits
    torch.testing.assert_close(
        net.distillation(net), soft_cross_entropy(narrow, logits.detach())
    )


def test_with_full_width_only_it_is_fedavg_on_digits_bit_for_bit():
    dataset, _ = REGISTRY.dataset("digits", {})
    data = dataset.load(Path())
    ours = run({}, ["cnn"], data)
    strategy, _ = REGISTRY.strategy("fedavg", {})
    federation = testing.toy_federation(models=["cnn"], data=data)
    fedavg = simulate(strategy, federation, testing.toy_protocol(2), 3)
    for entry, value in fedavg.state.weights.items():
        assert torch.equal(ours.state.weights[entry], value), entry
    assert ours.metrics["global_accuracy"] == fedavg.metrics["global_accuracy"]


def test_widths_default_to_the_federation_s_and_clients_draw_up_to_their_own():
    federation = testing.toy_federation(models=FAMILY)
    server = Sides(federation, testing.toy_protocol(), 0).server()
    strategy, _ = REGISTRY.strategy("fjord", {})
    state = strategy.init(server)
    turn = Round(0, 1, (0, 1, 2))
    down = [strategy.broadcast(state, k, turn) for k in range(3)]
    assert [list(d.narrower) for d in down] == [[0.25, 0.5], [0.25], []]
    assert [d.rate for d in down] == [1.0, 0.5, 0.25]


def test_widths_can_be_chosen_and_one_client_family_can_use_them_all():
    result = run({"widths": [0.2, 0.4, 1.0]}, ["cnn"])
    assert sorted(result.state.statistics) == [0.2, 0.4]


def test_statistics_of_a_width_come_from_those_who_trained_it():
    state = run({}, rounds=1).state
    sizes = {p: len(s["body.1.running_mean"]) for p, s in state.statistics.items()}
    assert sizes == {0.25: 4, 0.5: 8}


def test_distillation_changes_what_is_learnt_and_an_image_counts_in_each_width():
    plain, taught = (run({"distil": d}) for d in (False, True))
    first, second = plain.state.weights, taught.state.weights
    assert any(not torch.equal(first[n], second[n]) for n in first)
    rows = zip(*(r.metrics["clients"].values() for r in (plain, taught)), strict=True)
    times = {two["examples"] / one["examples"] for one, two in rows}
    assert times == {1, 2}  # who has the least width has nobody to teach


def test_building_a_prefix_does_not_move_the_random_stream():
    federation = testing.toy_federation(models=FAMILY)
    sides = Sides(federation, testing.toy_protocol(), 0)
    strategy, _ = REGISTRY.strategy("fjord", {})
    down = strategy.broadcast(strategy.init(sides.server()), 0, Round(0, 1, (0,)))
    client = sides.client(0, sides.protocol.training)
    before = torch.get_rng_state()
    prefix(0.5, down, client)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("buffers", ["average", "reestimate"])
def test_it_runs_under_a_buffer_policy(buffers):
    assert run({}, buffers=buffers).metrics["global_accuracy"] is not None


def test_statistics_that_stay_at_clients_are_refused():
    with pytest.raises(ConfigError, match="buffer policies average, reestimate"):
        run({}, buffers="local")


@pytest.mark.parametrize("widths", [[0.0, 1.0], [1.5]])
def test_widths_outside_of_0_to_1_are_refused(widths):
    with pytest.raises(ConfigError, match="widths"):
        REGISTRY.strategy("fjord", {"widths": widths})


def started(widths):
    federation = testing.toy_federation(models=FAMILY)
    server = Sides(federation, testing.toy_protocol(), 0).server()
    strategy, _ = REGISTRY.strategy("fjord", {"widths": widths})
    return strategy.init(server)


def test_two_widths_with_the_same_channels_are_refused_at_the_start():
    with pytest.raises(ConfigError, match=r"widths 0\.24 and 0\.25 have the same chan"):
        started([0.24, 1.0])  # a client has 0.25


def test_a_width_that_leaves_a_layer_without_channels_is_refused_at_the_start(
    monkeypatch,
):
    monkeypatch.setattr(fjord, "kept_channels", lambda axes, *_: (1, 0, 1))
    with pytest.raises(ConfigError, match=r"width 0\.1 leaves a layer of cnn without"):
        started([0.1, 1.0])


def test_looking_at_widths_does_not_move_the_random_stream():
    states = []
    for widths in (None, [0.3, 0.7]):
        torch.manual_seed(0)
        started(widths)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)
