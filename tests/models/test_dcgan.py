"""The generator and the discriminator."""

import pytest
import torch
from torch import nn

from fedkd.errors import ConfigError
from fedkd.models.dcgan import Discriminator, Generator

SIDES = (8, 16, 28, 32, 64)


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def size_in_bytes(model):
    return sum(v.numel() * v.element_size() for v in model.state_dict().values())


def test_both_have_their_published_size():
    generator, discriminator = (
        Generator.build((3, 32, 32), 10),
        Discriminator.build((3, 32, 32), 10),
    )
    assert parameters(generator) == 3_573_824
    assert size_in_bytes(generator) == 14_303_008
    assert parameters(discriminator) == 2_759_424


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_size_has_a_generator_and_a_discriminator(side, channels):
    shape = (channels, side, side)
    images = Generator.build(shape, 10, latent_size=7, width=4)(torch.randn(5, 7))
    assert images.shape == (5, *shape)
    assert images.abs().max() <= 1
    assert Discriminator.build(shape, 10, width=4)(images).shape == (5,)


def test_images_stay_in_range_whatever_the_weights():
    generator = Generator.build((1, 8, 8), 10, latent_size=7, width=4)
    with torch.no_grad():
        generator.layers[-2].weight *= 1000
    images = generator(torch.randn(5, 7))
    assert 0.99 < images.abs().max() <= 1


def test_noise_may_have_two_dimensions_more():
    generator = Generator.build((1, 8, 8), 10, latent_size=6, width=2).eval()
    z = torch.randn(3, 6)
    assert torch.equal(generator(z), generator(z.view(3, 6, 1, 1)))


def test_noise_of_another_length_is_refused():
    with pytest.raises(RuntimeError):
        Generator.build((1, 8, 8), 10, latent_size=6, width=2)(torch.randn(3, 5))


def test_28_is_the_centre_of_32():
    torch.manual_seed(0)
    small = Generator.build((1, 28, 28), 10, latent_size=5, width=2).eval()
    large = Generator.build((1, 32, 32), 10, latent_size=5, width=2).eval()
    large.load_state_dict(small.state_dict())
    z = torch.randn(2, 5)
    assert torch.equal(small(z), large(z)[:, :, 2:-2, 2:-2])


def test_a_discriminator_of_28_sees_zeros_around_the_image():
    torch.manual_seed(0)
    small = Discriminator.build((1, 28, 28), 10, width=2).eval()
    large = Discriminator.build((1, 32, 32), 10, width=2).eval()
    large.load_state_dict(small.state_dict())
    x = torch.randn(2, 1, 28, 28)
    padded = nn.functional.pad(x, (2, 2, 2, 2))
    torch.testing.assert_close(small(x), large(padded))


def test_stages_halve_the_channels_up_to_eight_times_the_width():
    def widths(model, kind):
        return [m.out_channels for m in model.modules() if isinstance(m, kind)]

    made = {side: Generator.build((3, side, side), 10, width=4) for side in SIDES}
    judged = {side: Discriminator.build((3, side, side), 10, width=4) for side in SIDES}
    assert widths(made[8], nn.ConvTranspose2d) == [8, 4, 3]
    assert widths(made[16], nn.ConvTranspose2d) == [16, 8, 4, 3]
    assert widths(made[32], nn.ConvTranspose2d) == [32, 16, 8, 4, 3]
    assert widths(made[64], nn.ConvTranspose2d) == [32, 32, 16, 8, 4, 3]
    assert widths(judged[8], nn.Conv2d) == [4, 8, 1]
    assert widths(judged[32], nn.Conv2d) == [4, 8, 16, 32, 1]
    assert widths(judged[64], nn.Conv2d) == [4, 8, 16, 32, 32, 1]


def test_the_discriminator_gives_logits_and_not_probabilities():
    torch.manual_seed(0)
    model = Discriminator.build((1, 8, 8), 10, width=4)
    logits = model(100 * torch.randn(64, 1, 8, 8))
    assert logits.min() < 0
    assert logits.max() > 0
    assert not any(isinstance(m, nn.Sigmoid) for m in model.modules())


@pytest.mark.parametrize("network", [Generator, Discriminator])
def test_initial_weights_are_those_of_dcgan(network):
    torch.manual_seed(0)
    model = network.build((3, 32, 32), 10)
    convolutions = [m for m in model.modules() if hasattr(m, "kernel_size")]
    drawn = torch.cat([m.weight.flatten() for m in convolutions])
    assert drawn.mean().item() == pytest.approx(0, abs=1e-4)
    assert drawn.std().item() == pytest.approx(0.02, rel=0.01)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    scales = torch.cat([m.weight for m in norms])
    assert scales.mean().item() == pytest.approx(1, abs=3e-3)
    assert scales.std().item() == pytest.approx(0.02, rel=0.1)
    assert not any(m.bias.any() for m in norms)


@pytest.mark.parametrize(
    ("network", "options"),
    [
        (Generator, {"latent_size": 0}),
        (Generator, {"width": 1.5}),
        (Discriminator, {"width": "64"}),
        (Discriminator, {"width": 0}),
    ],
)
def test_options_that_cannot_be_used_are_refused(network, options):
    ((name, value),) = options.items()
    what = "1 or more" if value == 0 else "a whole number"
    with pytest.raises(ConfigError, match=f"{name}: found .*Expected {what}"):
        network.build((1, 8, 8), 10, **options)
