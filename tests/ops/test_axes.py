"""Axes that belong together are found by running the model."""

import pytest
import torch
from torch import nn

from fedkd.errors import ConfigError
from fedkd.ops.axes import Axis, find_axes
from fedkd.ops.widths import kept_channels
from fedkd.plugins.registry import load_registry

REGISTRY = load_registry()
SHAPE = (3, 16, 16)
FAMILIES = {
    "mlp": {"hidden": [12, 10]},
    "cnn": {"channels": [6, 8], "hidden": 10},
    "cnn-plain": {"channels": [6, 8], "hidden": 10},
    "lenet4": {"width": 0.25},
    "resnet18": {"width": 0.25},
    "resnet50": {"width": 0.25},
    "vgg11": {"width": 0.25},
    "mobilenet": {},
    "vit": {"dim": 16, "heads": 2, "depth": 2},
}


def build(name, **options):
    return REGISTRY.model(name)(SHAPE, 10, **options)


def narrower(options, width):
    return {**options, "width": width * options.get("width", 1)}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("width", [0.5, 0.3])
def test_the_groups_of_every_family_explain_its_narrower_models(name, width):
    whole = build(name, **FAMILIES[name])
    part = build(name, **narrower(FAMILIES[name], width))
    axes = find_axes(whole, SHAPE)
    sizes = kept_channels(axes, whole.state_dict(), part.state_dict())
    assert any(kept < full for kept, full in zip(sizes, axes.channels, strict=True))
    assert sizes[axes.output] == 10


def test_a_small_network_has_the_groups_that_one_would_write_down():
    axes = find_axes(build("cnn", **FAMILIES["cnn"]), SHAPE)
    assert axes.channels == (3, 6, 8, 10, 10)
    assert axes.output == 4
    assert axes.of("body.0.weight") == (Axis(1), Axis(0), None, None)
    assert axes.of("body.1.running_var") == (Axis(1),)
    assert axes.of("body.1.num_batches_tracked") == ()
    assert axes.of("body.4.weight") == (Axis(2), Axis(1), None, None)
    assert axes.of("body.9.weight") == (Axis(3), Axis(2, block=16))
    assert axes.of("classifier.weight") == (Axis(4), Axis(3))


def test_residual_additions_make_channels_one_group():
    axes = find_axes(build("resnet18"), SHAPE)
    # Input, four stages of a trunk and two inner layers each, logits.
    assert len(axes.channels) == 1 + 4 * 3 + 1
    first = axes.of("stages.1.0.branch.3.weight")[0]
    assert axes.of("stages.1.0.shortcut.0.weight")[0] == first
    assert axes.of("stages.1.1.branch.3.weight")[0] == first
    assert axes.of("stages.1.1.branch.0.weight")[0] != first


def test_a_depthwise_convolution_keeps_channels_and_has_one_axis():
    class Depthwise(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Conv2d(3, 4, 1)
            self.b = nn.Conv2d(4, 4, 3, groups=4)
            self.c = nn.Linear(4, 10)

        def forward(self, x):
            return self.c(self.b(self.a(x)).mean((2, 3)))

    axes = find_axes(Depthwise(), SHAPE)
    assert axes.of("a.weight")[0] == axes.of("b.weight")[0] == axes.of("c.weight")[1]
    assert axes.of("b.weight")[1:] == (None, None, None)


def test_attention_is_whole_and_only_the_hidden_units_of_its_mlps_shrink():
    whole = build("vit", **FAMILIES["vit"])
    part = build("vit", **FAMILIES["vit"], width=0.5)
    axes = find_axes(whole, SHAPE)
    sizes = kept_channels(axes, whole.state_dict(), part.state_dict())
    less = [g for g, kept in enumerate(sizes) if kept < axes.channels[g]]
    assert [axes.channels[g] for g in less] == [64, 64]


class Small(nn.Module):
    """Two layers and something between them."""

    def __init__(self, units, between, times=1):
        super().__init__()
        self.a = nn.Linear(3 * 16 * 16, units)
        self.b = nn.Linear(units * times, 10)
        self.between = between

    def forward(self, x):
        return self.b(self.between(self.a(x.flatten(1))))


def sizes_of(make):
    whole, part = make(8), make(4)
    axes = find_axes(whole, SHAPE)
    return kept_channels(axes, whole.state_dict(), part.state_dict())


def test_plain_channels_are_found():
    assert sizes_of(lambda units: Small(units, torch.relu)) == (768, 4, 10)


def test_activations_that_work_in_place_are_no_hindrance():
    assert sizes_of(lambda units: Small(units, nn.ReLU(inplace=True))) == (768, 4, 10)


@pytest.mark.parametrize(
    "between",
    [
        lambda h: h.flip(1),
        lambda h: h + h.roll(1, 1),
        lambda h: h - h.mean(1, keepdim=True),
    ],
    ids=["moved", "two at once", "all at once"],
)
def test_channels_that_move_or_mix_between_layers_are_refused(between):
    with pytest.raises(ConfigError, match="moved or mixed"):
        sizes_of(lambda units: Small(units, between))


def test_channels_that_are_doubled_the_wrong_way_round_are_refused():
    with pytest.raises(ConfigError, match="moved or mixed"):
        sizes_of(lambda units: Small(units, lambda h: torch.cat((h, h), 1), 2))


def test_a_parameter_outside_of_known_layers_may_not_shrink():
    class Scaled(Small):
        def __init__(self, units):
            super().__init__(units, lambda h: h * self.scale)
            self.scale = nn.Parameter(torch.ones(units))

    with pytest.raises(ConfigError, match="dimension 0 of 'scale'"):
        sizes_of(Scaled)


def test_models_that_differ_in_more_than_width_are_refused():
    whole = build("mlp", hidden=[12, 10])
    axes = find_axes(whole, SHAPE)
    for other in (
        build("mlp", hidden=[12]),
        build("mlp", hidden=[14, 10]),
        REGISTRY.model("mlp")(SHAPE, 5, hidden=[12, 10]),
    ):
        with pytest.raises(ConfigError, match="nested widths"):
            kept_channels(axes, whole.state_dict(), other.state_dict())


def test_the_model_is_left_as_it_was():
    model = build("cnn", **FAMILIES["cnn"]).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    find_axes(model, SHAPE)
    assert model.training
    assert all(p.requires_grad for p in model.parameters())
    assert all(torch.equal(before[n], v) for n, v in model.state_dict().items())


def test_groups_are_found_where_gradients_are_off_too():
    model = build("cnn", **FAMILIES["cnn"])
    with torch.no_grad():
        assert find_axes(model, SHAPE) == find_axes(model, SHAPE)
        assert find_axes(model, SHAPE).channels == (3, 6, 8, 10, 10)
