"""Sizes and shapes of the classifiers."""

import copy

import pytest
import torch
from torch import nn

from fedkd.errors import ConfigError
from fedkd.models.cnn import Cnn, CnnPlain, Lenet4
from fedkd.models.mlp import Mlp
from fedkd.models.resnet import ResNet18, ResNet34, ResNet50
from fedkd.models.vgg import Vgg11

COLOUR = (3, 32, 32)


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def size_in_bytes(model):
    return sum(v.numel() * v.element_size() for v in model.state_dict().values())


def poolings(model):
    return sum(isinstance(layer, nn.MaxPool2d) for layer in model.modules())


@pytest.mark.parametrize(
    ("classes", "number", "weight"),
    [(10, 11_173_962, 44_734_408), (100, 11_220_132, 44_919_088)],
)
def test_resnet18_has_its_published_size(classes, number, weight):
    model = ResNet18.build(COLOUR, classes)
    assert parameters(model) == number
    assert size_in_bytes(model) == weight
    assert model.feature_size == 512


@pytest.mark.parametrize(
    ("network", "number", "features"),
    [(ResNet34, 21_282_122, 512), (ResNet50, 23_520_842, 2048)],
)
def test_the_other_resnets_have_their_usual_size(network, number, features):
    model = network.build(COLOUR, 10)
    assert parameters(model) == number
    assert model.feature_size == features


def test_the_stages_of_a_resnet_halve_the_map_three_times():
    model = ResNet18.build((1, 32, 32), 10, width=0.1)
    x = model.stem(torch.zeros(2, 1, 32, 32))
    sides = [x.shape[-1]]
    for stage in model.stages:
        x = stage(x)
        sides.append(x.shape[-1])
    assert sides == [32, 32, 16, 8, 4]


def test_a_residual_block_adds_its_input():
    block = ResNet18.build((1, 8, 8), 2, width=0.05).stages[0][0].eval()
    for layer in block.branch:
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.zeros_(layer.weight)
    x = torch.rand(2, 4, 8, 8)
    assert torch.equal(block(x), x)
    assert torch.equal(block(-x), torch.zeros_like(x))


def test_the_middle_convolution_of_a_bottleneck_has_the_stride():
    block = ResNet50.build((1, 8, 8), 2, width=0.05).stages[1][0]
    convolutions = [m for m in block.branch if isinstance(m, nn.Conv2d)]
    assert [m.kernel_size[0] for m in convolutions] == [1, 3, 1]
    assert [m.stride[0] for m in convolutions] == [1, 2, 1]


def test_half_a_resnet_weighs_a_quarter():
    half = size_in_bytes(ResNet18.build(COLOUR, 10, width=0.5))
    assert half == pytest.approx(11.2e6, rel=0.01)


def test_lenet4_has_four_convolutions_with_batch_norm_and_a_linear_head():
    model = Lenet4.build(COLOUR, 10)
    convolutions = 64 * 28 + 128 * (64 * 9 + 1) + 256 * (128 * 9 + 1)
    convolutions += 512 * (256 * 9 + 1)
    assert parameters(model) == convolutions + 2 * 960 + 5130
    assert model.feature_size == 512
    assert poolings(model) == 4
    assert torch.equal(model.classifier.bias, torch.zeros(10))


def test_the_small_network_is_that_of_the_trial():
    model = Cnn.build((1, 28, 28), 10)
    widths = [m.out_channels for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert widths == [16, 32, 64]
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 3
    assert model.feature_size == 64
    convolutions = 9 * (16 + 16 * 32 + 32 * 64) + 2 * 112
    assert parameters(model) == convolutions + 64 * 577 + 650


@pytest.mark.parametrize(
    ("side", "number"), [(2, 0), (3, 0), (4, 1), (8, 2), (16, 3), (28, 3), (32, 3)]
)
def test_maps_are_not_pooled_below_two_by_two(side, number):
    model = Cnn.build((1, side, side), 10)
    assert poolings(model) == number
    assert model(torch.zeros(2, 1, side, side)).shape == (2, 10)


def test_images_need_not_be_square():
    model = Cnn.build((1, 4, 20), 5)
    assert poolings(model) == 1
    assert model(torch.zeros(2, 1, 4, 20)).shape == (2, 5)


def test_the_plain_network_has_biases_and_no_normalisation():
    model = CnnPlain.build((1, 8, 8), 3)
    assert not list(model.buffers())
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert all(m.bias is not None for m in convolutions)
    options = {"channels": [3, 5], "hidden": 7, "width": 0.5}
    model = CnnPlain.build((1, 8, 8), 3, **options)
    other = Cnn.build((1, 8, 8), 3, norm="none", **options)
    shapes = {entry: value.shape for entry, value in model.state_dict().items()}
    assert shapes == {entry: v.shape for entry, v in other.state_dict().items()}


def test_convolutions_before_a_normalisation_have_no_bias():
    for norm in ("batch", "group"):
        convolutions = Cnn.build((1, 8, 8), 3, norm=norm).modules()
        biases = [m.bias for m in convolutions if isinstance(m, nn.Conv2d)]
        assert biases == [None, None, None]


def test_channels_and_features_of_the_small_network_can_be_chosen():
    model = Cnn.build((1, 8, 8), 3, channels=[5], hidden=7, norm="group", width=1)
    assert model.features(torch.zeros(2, 1, 8, 8)).shape == (2, 7)
    assert model.state_dict()["body.0.weight"].shape == (5, 1, 3, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channels": []}, r"channels: found \[\]\. Expected 1 or more entries"),
        ({"channels": 16}, "channels: found 16. Expected a list"),
        ({"channels": "16"}, "channels: found '16'. Expected a list"),
        (
            {"channels": [16, 0]},
            r"channels\.1: found 0\. Expected 1 or more",
        ),
        ({"hidden": 6.4}, "hidden: found 6.4. Expected a whole number"),
        (
            {"norm": "layer"},
            "norm: found 'layer'. Expected 'batch', 'group' or 'none'",
        ),
        ({"width": 2}, "width: found 2. Expected 1 or less"),
    ],
)
def test_options_that_cannot_be_used_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Cnn.build((1, 8, 8), 3, **options)


def test_the_mlp_is_the_2nn():
    model = Mlp.build((1, 28, 28), 10)
    assert parameters(model) == 199_210  # as McMahan et al. 2017, section 3, say
    assert model.feature_size == 200


def test_an_mlp_without_hidden_layers_is_softmax_regression():
    model = Mlp.build((1, 8, 8), 10, hidden=[])
    assert model.feature_size == 64
    assert parameters(model) == 650


def test_an_mlp_is_as_narrow_as_asked():
    model = Mlp.build((1, 8, 8), 10, hidden=[30, 11], width=0.5)
    shapes = [tuple(p.shape) for p in model.parameters() if p.ndim == 2]
    assert shapes == [(15, 64), (6, 15), (10, 6)]


@pytest.mark.parametrize("network", [Cnn, CnnPlain, Lenet4, Vgg11])
def test_pooling_before_relu_is_to_the_bit_relu_before_pooling(network):
    """The published order; coarse pixels make ties, within windows and at zero."""
    torch.manual_seed(0)
    model = network.build((1, 16, 16), 4)
    published = copy.deepcopy(model)
    layers = list(published.body)
    pools = [i for i, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
    for i in pools:
        assert isinstance(layers[i + 1], nn.ReLU)
        layers[i : i + 2] = layers[i + 1], layers[i]
    assert pools
    published.body = nn.Sequential(*layers)
    images = torch.randint(-1, 2, (8, 1, 16, 16)).float()
    for one in (model, published):
        nn.functional.cross_entropy(one(images), torch.arange(8) % 4).backward()
    assert torch.equal(model(images), published(images))
    for here, there in zip(model.parameters(), published.parameters(), strict=True):
        assert torch.equal(here.grad, there.grad)
