"""The families for heterogeneity, against torchvision's where it has them."""

import pytest
import torch
from torch import nn
from torchvision import models as published

from fedkd.errors import ConfigError
from fedkd.models import CLASSIFIERS, mixes
from fedkd.models.mobilenet import MobileNet
from fedkd.models.shufflenet import ShuffleNet
from fedkd.models.vgg import Vgg11
from fedkd.models.vit import Attention, Vit
from fedkd.plugins.registry import load_registry

RGB = (3, 32, 32)


def count(model):
    return sum(p.numel() for p in model.parameters())


def images(shape=RGB, number=2):
    return torch.randn(number, *shape, generator=torch.Generator().manual_seed(0))


def load_in_order(model, other):
    """Give ``model`` the weights of ``other``, entry by entry in their order."""
    values = list(other.state_dict().values())
    names = list(model.state_dict())
    assert len(names) == len(values)
    model.load_state_dict(dict(zip(names, values, strict=True)))


def settled(model):
    """Return the model with statistics of BatchNorm that are not 0 and 1."""
    with torch.no_grad():
        model.train()(images(number=8))
    return model.eval()


def assert_same(model, other):
    load_in_order(model, settled(other))
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(images()), other(images()))


@pytest.mark.parametrize(
    ("family", "number"),
    [
        (Vgg11, 9_231_114),
        (MobileNet, 2_236_682),
        (ShuffleNet, 1_263_854),
        (Vit, 2_693_578),
    ],
)
def test_models_have_the_published_number_of_parameters(family, number):
    assert count(family.build(RGB, 10)) == number


def test_vgg11_is_that_of_torchvision_with_one_linear_layer():
    other = published.vgg11_bn()
    other.avgpool = nn.AdaptiveAvgPool2d(1)
    other.classifier = nn.Linear(512, 10)
    assert_same(Vgg11.build(RGB, 10), other)


def test_mobilenet_is_that_of_torchvision_with_other_strides():
    stages = [
        [1, 16, 1, 1],
        [6, 24, 2, 1],
        [6, 32, 3, 2],
        [6, 64, 4, 2],
        [6, 96, 3, 1],
        [6, 160, 3, 2],
        [6, 320, 1, 1],
    ]
    other = published.mobilenet_v2(num_classes=10, inverted_residual_setting=stages)
    other.features[0][0].stride = (1, 1)
    other.classifier = other.classifier[1]
    assert_same(MobileNet.build(RGB, 10), other)


def test_shufflenet_is_that_of_torchvision_with_a_stem_for_small_images():
    other = published.shufflenet_v2_x1_0(num_classes=10)
    other.conv1[0].stride = (1, 1)
    other.maxpool = nn.Identity()
    assert_same(ShuffleNet.build(RGB, 10), other)


def test_attention_is_that_of_torch():
    ours, other = Attention(8, 2), nn.MultiheadAttention(8, 2, batch_first=True)
    other.in_proj_weight.data.copy_(ours.inputs.weight.data)
    other.in_proj_bias.data.copy_(ours.inputs.bias.data)
    other.out_proj.load_state_dict(ours.output.state_dict())
    tokens = torch.randn(3, 5, 8)
    expected, _ = other(tokens, tokens, tokens)
    torch.testing.assert_close(ours(tokens), expected)


def test_a_transformer_knows_where_its_patches_are():
    model = Vit.build((1, 8, 8), 4, dim=8, depth=1, heads=2).eval()
    x = images((1, 8, 8))
    turned = x.roll(2, dims=3)  # by one patch: the same patches in other places
    with torch.no_grad():
        assert not torch.allclose(model(x), model(turned), atol=1e-5)
        model.positions.zero_()
        torch.testing.assert_close(model(x), model(turned))


@pytest.mark.parametrize(("side", "patches"), [(8, 16), (28, 49), (32, 64), (64, 64)])
def test_patches_grow_with_the_image(side, patches):
    model = Vit.build((3, side, side), 10, dim=8, heads=2, depth=1)
    assert model.positions.shape == (1, patches + 1, 8)


def test_the_mean_over_patches_needs_no_class_token():
    model = Vit.build(RGB, 10, dim=8, heads=2, depth=1, pool="mean")
    assert "token" not in dict(model.named_parameters())
    tokens = model.patches(images()).flatten(2).transpose(1, 2)
    expected = model.blocks(tokens + model.positions).mean(dim=1)
    torch.testing.assert_close(model.trunk(images()), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 5}, "heads: found 5. Expected a divisor of dim, which is 192"),
        ({"patch": 5}, "patch: found 5 for images of 32x32, expected a divisor"),
        ({"pool": "tokens"}, r"pool: found 'tokens'\. .*Did you mean 'token'"),
    ],
)
def test_a_transformer_names_an_option_that_cannot_be_used(options, message):
    with pytest.raises(ConfigError, match=message):
        Vit.build(RGB, 10, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"channels": (24, 116, 232)},
            r"channels: found \(24, 116, 232\)\. Expected 5 numbers: .* the 3 stages",
        ),
        (
            {"channels": (24, 115, 232, 464, 1024)},
            "channels: .* Found 115 for a stage, expected an even number",
        ),
        ({"blocks": ()}, r"blocks: found \(\)\. Expected 1 or more entries"),
    ],
)
def test_a_shufflenet_names_an_option_that_cannot_be_used(options, message):
    with pytest.raises(ConfigError, match=message):
        ShuffleNet.build(RGB, 10, **options)


def test_packaged_mixes_hold_two_to_five_families_that_can_be_built():
    registry = load_registry()
    for number in (2, 3, 4, 5):
        mix = getattr(mixes, f"MIX_{number}")
        assert len({model["name"] for model in mix}) == len(mix) == number
        for model in mix:
            options = {k: v for k, v in model.items() if k != "name"}
            built = registry.model(model["name"])((1, 8, 8), 10, **options)
            assert built(images((1, 8, 8))).shape == (2, 10)


@pytest.mark.parametrize(
    ("name", "options", "never"),
    [
        *(
            (name, {}, name not in ("vit", "linear"))
            for name in CLASSIFIERS
            if name != "resnet50"
        ),
        *((name, {"features": 9}, False) for name in ("cnn", "vgg11", "mlp")),
        ("mlp", {"hidden": []}, False),
    ],
)
def test_features_are_negative_nowhere_where_a_model_says_so(name, options, never):
    model = load_registry().model(name)((3, 16, 16), 10, **options)
    with torch.no_grad():
        features = model.features(images((3, 16, 16), 8))
    assert model.nonnegative_features == never
    assert bool((features < 0).any()) != never
