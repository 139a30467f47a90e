"""Generators and discriminators work at any size from 8 on, on a canvas that is larger."""

import pytest
import torch

from fedkd.errors import ConfigError
from fedkd.models import conditional, dcgan, dense_generator
from fedkd.models.canvas import centre, framed, multiples, power_of_two

SHAPES = [
    (channels, *sides)
    for channels in (1, 3)
    for sides in ((8, 8), (9, 9), (16, 21), (17, 17), (28, 28), (30, 30), (48, 48))
] + [(3, 64, 40), (1, 100, 8)]
GENERATORS = {
    "dcgan": dcgan.Generator,
    "acgan": conditional.AcganGenerator,
    "upsampling": conditional.UpsamplingGenerator,
    "dense": dense_generator.Generator,
}
CONDITIONAL = ("acgan", "upsampling")


def make(name, shape, number=3):
    torch.manual_seed(0)
    generator = GENERATORS[name].build(shape, 5, latent_size=6, width=2)
    z = torch.randn(number, 6)
    labels = torch.arange(number) % 5
    return generator, generator(z, labels) if name in CONDITIONAL else generator(z)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", GENERATORS)
def test_a_generator_makes_images_of_any_size_and_learns(name, shape):
    generator, images = make(name, shape)
    assert images.shape == (3, *shape)
    images.square().mean().backward()
    without = [n for n, p in generator.named_parameters() if p.grad is None]
    assert without == []


@pytest.mark.parametrize("shape", SHAPES)
def test_a_discriminator_judges_images_of_any_size_by_every_pixel(shape):
    judge = dcgan.Discriminator.build(shape, 5, width=2)
    x = torch.randn(4, *shape, requires_grad=True)
    logits = judge(x)
    assert logits.shape == (4,)
    logits.sum().backward()
    assert (x.grad.abs().sum((0, 1)) > 0).all()


def test_the_canvas_is_the_next_power_of_two():
    assert [power_of_two((1, side, 8)) for side in (8, 9, 16, 28, 33)] == [
        8,
        16,
        16,
        32,
        64,
    ]
    assert power_of_two((1, 16, 21)) == 32


def test_the_canvas_is_the_next_multiple():
    assert multiples((1, 28, 30), 4) == (28, 32)


def test_the_centre_by_hand():
    images = torch.arange(16.0).view(1, 1, 4, 4)
    assert centre(images, (1, 2, 3)).tolist() == [[[[4, 5, 6], [8, 9, 10]]]]
    assert centre(images, (1, 4, 4)).tolist() == images.tolist()


def test_a_frame_by_hand():
    assert framed(torch.ones(1, 1, 1, 2), 2, 5).tolist() == [
        [[[0, 1, 1, 0, 0], [0, 0, 0, 0, 0]]]
    ]


def test_what_is_made_at_an_odd_size_is_the_centre_of_what_is_made_whole():
    whole, _ = make("dcgan", (3, 32, 32))
    part, _ = make("dcgan", (3, 16, 21))
    part.load_state_dict(whole.state_dict())
    z = torch.randn(2, 6)
    assert torch.equal(part.eval()(z), whole.eval()(z)[..., 8:24, 5:26])


def test_the_upsampling_generator_standardises_what_is_seen():
    _, images = make("upsampling", (3, 17, 30), number=40)
    torch.testing.assert_close(
        images.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(
        images.var((0, 2, 3), correction=0), torch.ones(3), atol=2e-3, rtol=0
    )


@pytest.mark.parametrize("name", [*GENERATORS, "discriminator"])
def test_less_than_8_is_refused(name):
    network = GENERATORS.get(name, dcgan.Discriminator)
    with pytest.raises(ConfigError, match="found images of 7x32, expected sides of 8"):
        network.build((1, 7, 32), 5)
