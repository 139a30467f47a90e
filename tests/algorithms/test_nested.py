"""Any average of weights can ride on nested widths."""

import pytest
import torch

from fedkd import testing
from fedkd.errors import ConfigError
from fedkd.party import ModelSpec
from fedkd.payload import decode, encode, seal
from fedkd.plugins.registry import load_registry
from fedkd.simulation.sides import Sides
from fedkd.simulation.simulator import simulate
from fedkd.strategy import Requires, Round, read_weights

REGISTRY = load_registry()
WIDTHS = (1.0, 0.5, 0.25)
SCHEMES = ["static", "rolling", "rolling-back", "random"]
AVERAGES = ["fedavg", "fedprox", "fedrs"]


def family(name="cnn", widths=WIDTHS, **options):
    return [
        ModelSpec(name, {**options, "width": w} if w != 1 else options) for w in widths
    ]


def run(name, options, models, **protocol):
    strategy, _ = REGISTRY.strategy(name, options)
    federation = testing.toy_federation(models=models)
    return simulate(strategy, federation, testing.toy_protocol(2, **protocol), seed=3)


def server_of(models, **protocol):
    federation = testing.toy_federation(models=models)
    return Sides(federation, testing.toy_protocol(**protocol), 0).server()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", AVERAGES)
def test_every_average_of_weights_trains_nested_widths(name, scheme):
    result = run(name, {"aggregate": scheme}, family())
    rows = result.history[-1]["clients"]
    sizes = [rows[key]["bytes_up"] for key in sorted(rows)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[2] < sizes[1] < sizes[0]
    assert [rows[key]["bytes_down"] for key in sorted(rows)] == sizes


@pytest.mark.parametrize("weights", ["examples", "uniform"])
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", AVERAGES)
@pytest.mark.parametrize("participation", [1.0, 2])
def test_at_width_1_it_is_the_plain_average_bit_for_bit(
    name, scheme, weights, participation
):
    nested = run(
        name,
        {"aggregate": scheme, "weights": weights},
        ["cnn"],
        participation=participation,
    )
    plain = run(name, {"weights": weights}, ["cnn"], participation=participation)
    for entry, value in plain.state.weights.items():
        assert torch.equal(nested.state.weights[entry], value), entry


def test_uniform_weights_differ_from_sample_counts():
    federation = testing.toy_federation()
    federation.clients[0] = federation.clients[0].subset(
        torch.arange(len(federation.clients[0])) < 5
    )
    states = [
        simulate(
            REGISTRY.strategy("fedavg", {"weights": w})[0],
            federation,
            testing.toy_protocol(1),
            0,
        ).state.weights
        for w in ("examples", "uniform")
    ]
    assert any(not torch.equal(states[0][n], states[1][n]) for n in states[0])


@pytest.mark.parametrize("buffers", ["average", "local", "reestimate"])
def test_static_widths_go_with_every_buffer_policy(buffers):
    result = run("fedavg", {"aggregate": "static"}, family(), buffers=buffers)
    assert result.metrics["global_accuracy"] is not None


def test_moving_windows_do_not_go_with_statistics_of_clients_own():
    with pytest.raises(ConfigError, match="buffer policies average, reestimate"):
        run("fedavg", {"aggregate": "rolling"}, family(), buffers="local")


def test_a_state_with_sub_models_survives_a_checkpoint():
    state = run("fedavg", {"aggregate": "random"}, family()).state
    again = decode(encode(state))
    assert encode(again) == encode(state)
    got = again.nested.broadcast(again.weights, 1, 5)
    expected = state.nested.broadcast(state.weights, 1, 5)
    assert all(torch.equal(got[name], value) for name, value in expected.items())


def test_coordinates_outside_of_the_round_s_windows_keep_their_bits():
    from fedkd.algorithms.nested import nest

    models = [*family(widths=(0.5, 0.25))]
    federation = testing.toy_federation(models=models)
    federation.server_model = ModelSpec("cnn")
    server = Sides(federation, testing.toy_protocol(), 0).server()
    nested = nest(server, "rolling")
    down = nested.broadcast(server.initial, 0, 3)
    up = {name: value + 1 for name, value in down.items()}
    after = nested.average(server.initial, {0: up}, {0: 9}, 3)
    assert nested.rates == (0.5, 0.25)
    entry = "body.0.weight"  # 16 channels, of which 3..10 were sent
    held = torch.zeros(16, dtype=torch.bool)
    held[3:11] = True
    before = server.initial[entry]
    assert torch.equal(after[entry][~held], before[~held])
    assert torch.equal(after[entry][held], up[entry])


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {"aggregate": "rolling"}) for name in AVERAGES),
        ("fedrolex", {"rows": "all"}),
    ],
)
def test_what_a_client_sends_back_goes_where_it_came_from(name, options):
    """A client alone in round 3: its next sub-model of that round is its own."""
    sides = Sides(testing.toy_federation(models=family()), testing.toy_protocol(), 0)
    strategy, _ = REGISTRY.strategy(name, options)
    state = strategy.init(sides.server())
    turn = Round(3, 9, (1,))
    client = sides.client(1, sides.protocol.training)
    up = strategy.local(strategy.broadcast(state, 1, turn), client)
    after = strategy.aggregate(state, {1: up}, sides.server(), turn)
    again = strategy.broadcast(after, 1, turn)
    assert all(torch.equal(again.weights[n], v) for n, v in up.weights.items())


def test_the_whole_model_of_one_client_is_its_own_where_it_has_one():
    from fedkd.algorithms.nested import nest

    server = server_of(family())
    nested = nest(server, "static")
    narrow = nested.broadcast(server.initial, 2, 0)
    changed = {name: value + 1 for name, value in narrow.items()}
    whole = nested.whole(server.initial, 2, changed, 0)
    again = nested.broadcast(whole, 2, 0)
    assert all(torch.equal(again[name], value) for name, value in changed.items())


def test_experts_are_weighted_by_client_and_class():
    from fedkd.algorithms.nested import nest

    server = server_of(family())
    nested = nest(server, "rolling")
    models = {
        k: {n: torch.full_like(v, k + 1) for n, v in down.items()}
        for k in (0, 1)
        for down in [nested.broadcast(server.initial, k, 7)]
    }
    counts_KC = torch.tensor([[30, 0, 2], [10, 20, 0]])
    experts = nested.experts(server.initial, models, counts_KC, 7)
    bias = "body.1.bias"  # 16 channels, of which client 1 held 7..14
    held = torch.zeros(16, dtype=torch.bool)
    held[7:15] = True
    assert experts[0][bias][held].tolist() == [1.25] * 8
    assert experts[0][bias][~held].tolist() == [1.0] * 8
    assert experts[1][bias][held].tolist() == [2.0] * 8
    assert torch.equal(experts[1][bias][~held], server.initial[bias][~held])
    assert experts[2][bias].tolist() == [1.0] * 16


@pytest.mark.parametrize(
    ("models", "reason"),
    [
        (["cnn", "mlp"], "needs one family at nested widths"),
        ([ModelSpec("cnn"), ModelSpec("cnn", {"hidden": 32})], "needs one family"),
        (family(widths=(0.5, 1.0)), "needs the server's model to be the widest"),
    ],
)
def test_models_that_do_not_nest_are_skipped_with_a_reason(models, reason):
    from fedkd.simulation.requirements import reason_to_skip

    federation = testing.toy_federation(models=models)
    found = reason_to_skip(Requires(nested_widths=True), federation, "average")
    assert reason in found


def test_without_widths_different_models_are_refused_as_ever():
    with pytest.raises(ConfigError, match="needs one architecture"):
        run("fedavg", {}, family())


@pytest.fixture(scope="module")
def resnets():
    """Sides of a federation of ResNet-18 at widths 1 and 1/2, 3x32x32, 10 classes."""
    data = testing.toy_images(classes=10, per_class=4, size=32, channels=3)
    models = family("resnet18", (1.0, 0.5))
    federation = testing.toy_federation(2, models, data)
    return Sides(federation, testing.toy_protocol(1, clients=2), 0)


def test_bytes_of_resnet18_are_those_of_its_parameters_and_statistics(resnets):
    """Full: 11,173,962 parameters, 9,600 statistics, 20 counters of 8 bytes."""
    turn = Round(0, 1, (0, 1))
    fedavg, _ = REGISTRY.strategy("fedavg", {})
    state = fedavg.init(resnets.server())
    assert seal(fedavg.broadcast(state, 0, turn), "test") == 44_734_408
    heterofl, _ = REGISTRY.strategy("heterofl", {"rows": "all"})
    state = heterofl.init(resnets.server())
    half = 2_797_610 * 4 + 4_800 * 4 + 20 * 8
    assert half == 11_209_800
    assert seal(heterofl.broadcast(state, 0, turn), "test") == 44_734_408
    assert seal(heterofl.broadcast(state, 1, turn), "test") == half
    client = resnets.client(1, resnets.protocol.training)
    up = heterofl.local(heterofl.broadcast(state, 1, turn), client)
    assert seal(up, "test") == half
    assert sum(p.numel() for p in client.model.parameters()) == 2_797_610
    assert read_weights(client.model).keys() == resnets.server().initial.keys()
