"""Sub-models: which channels, cut out and averaged back, with literal numbers."""

import copy
import functools

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fedkd.ops.averaging import weighted_average
from fedkd.ops.axes import Axes, Axis, find_axes
from fedkd.ops.submodels import (
    IndexMap,
    Part,
    class_averages,
    extract,
    index_map,
    partial_average,
)
from fedkd.ops.widths import kept_channels, width_budgets
from fedkd.plugins.registry import load_registry

REGISTRY = load_registry()
SHAPE = (3, 16, 16)
FAMILIES = {
    "mlp": {"hidden": [24, 20]},
    "cnn": {"channels": [12, 16], "hidden": 24},
    "cnn-plain": {"channels": [12, 16], "hidden": 24},
    "lenet4": {"width": 0.25},
    "resnet18": {"width": 0.25},
    "resnet50": {"width": 0.25},
    "vgg11": {"width": 0.25},
    "mobilenet": {},
    "vit": {"dim": 16, "heads": 2, "depth": 2},
}
SCHEMES = ["static", "rolling", "rolling-back", "random"]
LINE = Axes((4,), {"w": (Axis(0),)}, {}, -1, {})
EIGHT = Axes((8,), {"w": (Axis(0),)}, {}, -1, {})


def held(axes, sizes, scheme, round=0, seeds=()):
    (kept,) = index_map(axes, sizes, scheme, round, seeds).channels
    return kept.tolist()


def test_a_static_sub_model_holds_the_first_channels_in_every_round():
    assert held(EIGHT, (4,), "static", 0) == [0, 1, 2, 3]
    assert held(EIGHT, (4,), "static", 5) == [0, 1, 2, 3]


def test_a_rolling_window_goes_up_by_one_a_round_and_wraps():
    assert held(EIGHT, (4,), "rolling", 0) == [0, 1, 2, 3]
    assert held(EIGHT, (4,), "rolling", 1) == [1, 2, 3, 4]
    assert held(EIGHT, (4,), "rolling", 6) == [6, 7, 0, 1]
    assert held(EIGHT, (4,), "rolling", 9) == [1, 2, 3, 4]


def test_the_released_code_rolls_the_other_way():
    assert held(EIGHT, (4,), "rolling-back", 1) == [7, 0, 1, 2]
    rolled = torch.roll(torch.arange(8), 3)[:4].tolist()
    assert held(EIGHT, (4,), "rolling-back", 3) == rolled


@pytest.mark.parametrize("scheme", ["rolling", "rolling-back"])
def test_after_as_many_rounds_as_channels_each_was_sent_equally_often(scheme):
    sent = [c for round in range(8) for c in held(EIGHT, (3,), scheme, round)]
    assert [sent.count(c) for c in range(8)] == [3] * 8


def test_random_channels_depend_on_the_round_and_the_seeds_only():
    first = held(EIGHT, (4,), "random", 2, (5, 1))
    assert first == held(EIGHT, (4,), "random", 2, (5, 1))
    assert len(set(first)) == 4
    assert first == sorted(first)
    others = [
        held(EIGHT, (4,), "random", t, (5, k)) for t in range(4) for k in range(4)
    ]
    assert len({tuple(o) for o in others}) > 4


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_whole_model_is_whole_in_every_scheme(scheme):
    assert index_map(EIGHT, (8,), scheme, 3).is_whole


def test_a_flattened_channel_is_a_block_of_positions():
    axes = Axes((3,), {"w": (None, Axis(0, block=2))}, {}, -1, {})
    where = index_map(axes, (2,), "rolling", 2)
    got = extract({"w": torch.arange(12).view(2, 6)}, where)
    assert got["w"].tolist() == [[4, 5, 0, 1], [10, 11, 6, 7]]


def test_fixture_d_of_the_specification_full_ones_and_half_threes():
    """Full client 1s, half client 3s: [2, 2, 1, 1]."""
    full = Part({"w": torch.ones(4)}, index_map(LINE, (4,), "static"), 1)
    half = Part({"w": torch.full((2,), 3.0)}, index_map(LINE, (2,), "static"), 1)
    got = partial_average({"w": torch.zeros(4)}, [full, half])
    assert got["w"].tolist() == [2.0, 2.0, 1.0, 1.0]


def test_weights_count_where_several_hold_a_coordinate():
    full = Part({"w": torch.ones(4)}, index_map(LINE, (4,), "static"), 3)
    half = Part({"w": torch.full((2,), 5.0)}, index_map(LINE, (2,), "rolling", 3), 1)
    got = partial_average({"w": torch.zeros(4)}, [full, half])
    assert got["w"].tolist() == [2.0, 1.0, 1.0, 2.0]


def test_what_nobody_holds_keeps_its_bits_and_what_one_holds_gets_its_bits():
    before = torch.randn(4)
    value = torch.randn(2)
    half = Part({"w": value}, index_map(LINE, (2,), "rolling", 1), 7)
    got = partial_average({"w": before}, [half])["w"]
    assert torch.equal(got[[1, 2]], value)
    assert torch.equal(got[[0, 3]], before[[0, 3]])


def test_a_part_of_weight_zero_is_no_holder():
    whole = {"w": torch.zeros(4)}
    full = Part({"w": torch.ones(4)}, index_map(LINE, (4,), "static"), 0)
    half = Part({"w": torch.full((2,), 3.0)}, index_map(LINE, (2,), "static"), 2)
    assert partial_average(whole, [full, half])["w"].tolist() == [3.0, 3.0, 0.0, 0.0]


@pytest.mark.parametrize("weights", [[0.0, 0.0], [1.0, -1.0], [1.0, float("nan")]])
def test_weights_that_cannot_be_normalised_are_refused(weights):
    parts = [
        Part({"w": torch.ones(4)}, index_map(LINE, (4,), "static"), w) for w in weights
    ]
    with pytest.raises(ValueError, match="cannot average"):
        partial_average({"w": torch.zeros(4)}, parts)


def test_rows_of_the_last_layer_come_from_those_who_speak_for_the_class():
    axes = Axes((3,), {"w": (Axis(0), None)}, {}, 0, {})
    where = index_map(axes, (3,), "static")
    one = Part({"w": torch.ones(3, 2)}, where, 1, torch.tensor([True, True, False]))
    two = Part(
        {"w": torch.full((3, 2), 3.0)}, where, 1, torch.tensor([True, False, False])
    )
    got = partial_average({"w": torch.zeros(3, 2)}, [one, two])["w"]
    assert got.tolist() == [[2.0, 2.0], [1.0, 1.0], [0.0, 0.0]]


def test_coordinates_that_all_hold_get_the_bits_of_the_plain_average():
    torch.manual_seed(0)
    weights = [107, 3, 41, 88]
    values = [torch.randn(4), torch.randn(2), torch.randn(2), torch.randn(4)]
    parts = [
        Part({"w": v}, index_map(LINE, (len(v),), "static"), w)
        for v, w in zip(values, weights, strict=True)
    ]
    got = partial_average({"w": torch.zeros(4)}, parts)["w"]
    first = weighted_average([{"w": v[:2]} for v in values], weights)["w"]
    last = weighted_average([{"w": values[i][2:]} for i in (0, 3)], [107, 88])["w"]
    assert torch.equal(got, torch.cat([first, last]))


def test_whole_numbers_are_averaged_as_ever():
    axes = Axes((4,), {"w": (Axis(0),), "n": ()}, {}, -1, {})
    parts = [
        Part(
            {"w": torch.ones(r), "n": torch.tensor(n)},
            index_map(axes, (r,), "static"),
            1,
        )
        for r, n in ((4, 7), (2, 4))
    ]
    got = partial_average({"w": torch.zeros(4), "n": torch.tensor(0)}, parts)
    assert got["n"].tolist() == 5
    assert got["n"].dtype == torch.int64


def build(name, width=1.0):
    torch.manual_seed(1)
    options = {**FAMILIES[name], "width": width * FAMILIES[name].get("width", 1)}
    return randomised(REGISTRY.model(name)(SHAPE, 10, **options))


def randomised(model):
    """Draw weights that let signals live, and statistics that show a wrong channel."""
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
        if isinstance(layer, _BatchNorm):
            layer.running_mean.uniform_(-0.2, 0.2)
            layer.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.uniform_(layer.bias, -0.2, 0.4)
    return model.double().eval()


@functools.cache
def axes_of(name):
    return find_axes(build(name), SHAPE)


def nested_pair(name, width, scheme, round):
    whole, part = build(name), build(name, width)
    axes = axes_of(name)
    sizes = kept_channels(axes, whole.state_dict(), part.state_dict())
    return whole, part, index_map(axes, sizes, scheme, round, (3,))


def without_others(model, where):
    """Return a copy with zeros wherever a weight touches a channel that is not held."""
    copied = copy.deepcopy(model)
    for entry, value in copied.state_dict().items():
        for i, kept in enumerate(where.positions(entry)):
            if kept is not None:
                mask = torch.zeros(value.shape[i])
                mask[kept] = 1
                value.mul_(mask.view([-1 if j == i else 1 for j in range(value.ndim)]))
    return copied


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize(
    ("scheme", "round"), [("static", 0), ("rolling", 3), ("rolling", 60), ("random", 1)]
)
@torch.no_grad()
def test_a_sub_model_computes_what_the_whole_one_does_with_other_channels_at_zero(
    name, scheme, round
):
    whole, part, where = nested_pair(name, 0.5, scheme, round)
    part.load_state_dict(extract(whole.state_dict(), where))
    x = torch.randn(4, *SHAPE, dtype=torch.float64)
    expected = without_others(whole, where)(x)
    assert expected.std(0).max() > 1e-3
    torch.testing.assert_close(part(x), expected, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_putting_back_what_was_cut_out_changes_no_bit(name):
    whole, _, where = nested_pair(name, 0.3, "rolling", 5)
    state = whole.state_dict()
    got = partial_average(state, [Part(extract(state, where), where, 2)])
    assert all(torch.equal(got[entry], value) for entry, value in state.items())


def test_whole_models_are_averaged_bit_for_bit_as_ever():
    axes = find_axes(build("cnn"), SHAPE)
    where = index_map(axes, axes.channels, "rolling", 3)
    states = []
    for seed in range(3):
        torch.manual_seed(seed)
        model = REGISTRY.model("cnn")(SHAPE, 10, **FAMILIES["cnn"])
        states.append(model.state_dict())
    parts = [Part(s, where, n) for s, n in zip(states, (7, 30, 5), strict=True)]
    expected = weighted_average(states, [7, 30, 5])
    got = partial_average(states[0], parts)
    assert all(torch.equal(got[entry], value) for entry, value in expected.items())


def test_entries_that_no_part_sends_stay():
    whole = {"w": torch.zeros(4), "mine": torch.ones(1)}
    part = Part({"w": torch.ones(4)}, index_map(LINE, (4,), "static"), 1)
    assert partial_average(whole, [part])["mine"] is whole["mine"]


def test_experts_of_classes_are_averages_over_what_their_clients_hold():
    whole = {"w": torch.full((4,), 9.0)}
    models = [
        ({"w": torch.ones(4)}, index_map(LINE, (4,), "static")),
        ({"w": torch.full((2,), 3.0)}, index_map(LINE, (2,), "static")),
    ]
    counts_KC = torch.tensor([[30, 0, 0], [10, 20, 0]])
    got = class_averages(whole, models, counts_KC)
    assert list(got) == [0, 1]
    assert got[0]["w"].tolist() == [1.5, 1.5, 1.0, 1.0]
    assert got[1]["w"].tolist() == [3.0, 3.0, 9.0, 9.0]


def test_experts_of_whole_models_are_the_plain_ones_bit_for_bit():
    states = [{"w": torch.randn(4)} for _ in range(3)]
    counts_KC = torch.tensor([[30, 0, 10], [10, 20, 1], [3, 3, 5]])
    where = index_map(LINE, (4,), "static")
    got = class_averages({"w": torch.zeros(4)}, [(s, where) for s in states], counts_KC)
    expected = {c: weighted_average(states, counts_KC[:, c]) for c in range(3)}
    assert got.keys() == expected.keys()
    assert all(torch.equal(got[c]["w"], expected[c]["w"]) for c in got)


@pytest.mark.parametrize(
    ("rho", "sigma", "expected"),
    [
        (5, 4, [1, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125, 0.0625, 0.0625, 0.0625]),
        (10, 4, [0.5, 0.25, 0.125, *[0.0625] * 7]),
        (20, 4, [0.25, *[0.0625] * 9]),
        (2, 2, [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.5, 0.25]),
        (0, 4, [1] * 10),
    ],
)
def test_width_budgets_are_the_published_tables(rho, sigma, expected):
    assert width_budgets(10, rho, sigma) == expected


def test_sub_models_of_resnet18_have_the_published_numbers_of_parameters():
    resnet18 = functools.partial(REGISTRY.model("resnet18"), (3, 32, 32), 10)
    whole = resnet18()
    axes = find_axes(whole, (3, 32, 32))
    names = {name for name, _ in whole.named_parameters()}

    def parameters(width):
        part = resnet18(width=width).state_dict()
        sizes = kept_channels(axes, whole.state_dict(), part)
        cut = extract(whole.state_dict(), index_map(axes, sizes, "rolling", 100))
        return sum(v.numel() for n, v in cut.items() if n in names)

    found = {width: parameters(width) for width in (1, 0.5, 0.25, 0.125)}
    assert found == {1: 11_173_962, 0.5: 2_797_610, 0.25: 701_466, 0.125: 176_402}


def test_a_map_says_nothing_of_entries_that_are_whole():
    where = IndexMap(LINE, (None,))
    assert where.positions("w") == ()
    assert where.positions("unknown") == ()
