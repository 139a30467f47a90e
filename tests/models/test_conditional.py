"""Generators that are told a label."""

import pytest
import torch
from torch import nn

from fedkd.errors import ConfigError
from fedkd.models.conditional import (
    AcganGenerator,
    FeatureGenerator,
    UpsamplingGenerator,
)

MERGES = ("mul", "add", "cat", "cat_naive", "none")
SIDES = (8, 16, 28, 32, 64)
LABELS = torch.tensor([0, 3, 9])


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def test_all_have_their_published_size():
    assert parameters(AcganGenerator.build((3, 32, 32), 10)) == 3_448_552
    assert parameters(UpsamplingGenerator.build((3, 32, 32), 10)) == 682_499
    assert parameters(FeatureGenerator.build((1, 28, 28), 10)) == 19_744


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("network", [AcganGenerator, UpsamplingGenerator])
def test_every_size_has_a_generator(side, channels, network):
    shape = (channels, side, side)
    generator = network.build(shape, 10, latent_size=7, width=4)
    assert generator(torch.randn(3, 7), LABELS).shape == (3, *shape)


def test_stages_halve_the_channels_up_to_eight_times_the_width():
    def widths(side):
        model = AcganGenerator.build((3, side, side), 10, width=4)
        layers = [m for m in model.modules() if isinstance(m, nn.ConvTranspose2d)]
        return [m.out_channels for m in layers]

    assert widths(8) == [8, 3]
    assert widths(16) == [16, 8, 3]
    assert widths(28) == widths(32) == [32, 16, 8, 3]
    assert widths(64) == [32, 16, 8, 4, 3]


def test_the_first_map_has_no_batch_normalisation():
    layers = list(AcganGenerator.build((3, 32, 32), 10, width=2).layers)
    assert isinstance(layers[1], nn.ReLU)
    assert isinstance(layers[3], nn.BatchNorm2d)


def test_noise_and_label_merge_as_they_are_told_to():
    z = torch.randn(3, 5)
    merged = {}
    for how in MERGES:
        torch.manual_seed(0)
        generator = AcganGenerator.build(
            (1, 8, 8), 10, latent_size=5, width=2, merge=how
        )
        merged[how] = generator.merge(z, LABELS)
        if how in ("mul", "add", "cat"):
            generator.embedding.weight.data = torch.arange(50.0).view(10, 5)
            merged[how] = generator.merge(z, LABELS)
    label = torch.arange(50.0).view(10, 5)[LABELS]
    assert torch.equal(merged["mul"], z * label)
    assert torch.equal(merged["add"], z + label)
    assert torch.equal(merged["cat"], torch.cat([z, label], 1))
    assert torch.equal(merged["none"], z)
    assert merged["cat_naive"].shape == (3, 15)
    assert merged["cat_naive"][:, 5:].argmax(1).tolist() == LABELS.tolist()
    assert merged["cat_naive"][:, 5:].sum(1).tolist() == [1, 1, 1]


@pytest.mark.parametrize("how", MERGES)
def test_the_label_changes_the_image_unless_it_is_left_out(how):
    generator = AcganGenerator.build(
        (1, 8, 8), 10, latent_size=5, width=2, merge=how
    ).eval()
    z = torch.randn(1, 5)
    images = [generator(z, torch.tensor([c])) for c in (1, 2)]
    assert torch.equal(*images) == (how == "none")


@pytest.mark.parametrize("how", MERGES)
def test_every_parameter_of_every_merge_gets_a_gradient(how):
    generator = AcganGenerator.build((1, 8, 8), 4, latent_size=5, width=2, merge=how)
    generator(torch.randn(4, 5), torch.arange(4)).square().sum().backward()
    assert all(p.grad is not None for p in generator.parameters())


def test_the_embedding_starts_as_standard_noise_and_the_rest_as_dcgans():
    torch.manual_seed(0)
    model = AcganGenerator.build((3, 32, 32), 100)
    assert model.embedding.weight.std().item() == pytest.approx(1, rel=0.05)
    assert model.layers[0].weight.std().item() == pytest.approx(0.02, rel=0.01)


def test_upsampled_images_are_standardised_by_channel():
    torch.manual_seed(0)
    generator = UpsamplingGenerator.build((3, 8, 8), 4, latent_size=5, width=4).train()
    images = generator(torch.randn(64, 5), torch.arange(64) % 4)
    assert images.mean((0, 2, 3)).abs().max() < 1e-5
    torch.testing.assert_close(
        images.var((0, 2, 3), correction=0), torch.ones(3), atol=5e-2, rtol=0
    )


def test_the_upsampling_generator_is_told_the_label():
    generator = UpsamplingGenerator.build((1, 8, 8), 4, latent_size=5, width=2).eval()
    z = torch.randn(1, 5)
    merged = generator.merge(z, torch.tensor([2]))
    assert torch.equal(merged, torch.cat([z, torch.eye(4)[2:3]], dim=1))
    others = [generator(z, torch.tensor([c])) for c in (1, 2)]
    assert not torch.equal(*others)


@pytest.mark.parametrize("embedding", [True, False])
def test_the_feature_generator_makes_features_of_the_label(embedding):
    generator = FeatureGenerator.build(
        (1, 8, 8), 10, feature_size=6, latent_size=4, hidden=8, embedding=embedding
    ).eval()
    z = torch.rand(1, 4).expand(3, -1)
    made = generator(z, LABELS)
    assert made.shape == (3, 6)
    assert not torch.equal(made[0], made[1])
    assert ("embedding.weight" in generator.state_dict()) == embedding


def test_a_misspelt_merge_gets_a_suggestion():
    with pytest.raises(
        ConfigError, match=r"merge: found 'mull'\. .*Did you mean 'mul'"
    ):
        AcganGenerator.build((1, 8, 8), 10, merge="mull")


@pytest.mark.parametrize(
    ("network", "options"),
    [
        (AcganGenerator, {"latent_size": 0}),
        (AcganGenerator, {"width": 1.5}),
        (UpsamplingGenerator, {"width": "64"}),
        (UpsamplingGenerator, {"latent_size": 0}),
        (FeatureGenerator, {"feature_size": 0}),
        (FeatureGenerator, {"hidden": 2.0}),
    ],
)
def test_options_that_cannot_be_used_are_refused(network, options):
    ((name, value),) = options.items()
    what = "1 or more" if value == 0 else "a whole number"
    with pytest.raises(ConfigError, match=f"{name}: found .*Expected {what}"):
        network.build((1, 8, 8), 10, **options)


def test_features_are_cut_at_zero_where_they_are_never_to_be_negative():
    torch.manual_seed(0)
    plain = FeatureGenerator.build((1, 8, 8), 10)
    cut = FeatureGenerator.build((1, 8, 8), 10, nonnegative=True)
    cut.load_state_dict(plain.state_dict())
    noise, labels = torch.rand(16, 32), torch.arange(16) % 10
    features = plain(noise, labels)
    assert 0.2 < (features < 0).double().mean() < 0.8
    assert torch.equal(cut(noise, labels), features.clamp(min=0))
