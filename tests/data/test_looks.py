"""How one client's images look different from another's: numbers worked out by hand."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from fedkd.data.looks import (
    LOOKS,
    blurred,
    coarse,
    coloured,
    level_count,
    noisy,
    rotated,
)

FULL = np.ones(8)


def rng(seed=0):
    return np.random.default_rng(seed)


def image(rows):
    return torch.tensor(rows, dtype=torch.float32).view(1, 1, len(rows), -1)


def rounded(x):
    return x.round().int()[0, 0].tolist()


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_a_client_with_nothing_drawn_sees_images_as_they_are(look):
    x = torch.arange(2 * 3 * 8 * 8).view(2, 3, 8, 8).float() % 251
    assert torch.allclose(look(x, np.zeros(8), 1.0, rng()), x, atol=1e-3)


def test_a_rotation_by_a_quarter_and_by_a_half_turn():
    x = image([[1, 2], [3, 4]])
    quarter = rounded(rotated(x, FULL, 0.5, rng()))
    assert quarter == [[2, 4], [1, 3]]
    assert rounded(rotated(x, -FULL, 0.5, rng())) == [[3, 1], [4, 2]]
    assert rounded(rotated(x, FULL, 1.0, rng())) == [[4, 3], [2, 1]]


def test_a_rotation_turns_pixels_of_an_image_that_is_not_square():
    """A quarter turn about the middle: one to the right of it goes one up, not two."""
    x = torch.zeros(1, 1, 5, 9)
    x[0, 0, 2, 5] = 100
    seen = rotated(x, FULL, 0.5, rng())
    assert seen[0, 0, 1, 4] == pytest.approx(100, abs=1e-3)
    assert seen.sum() == pytest.approx(100, abs=1e-3)
    half = rotated(x, FULL, 1.0, rng())
    assert half[0, 0, 2, 3] == pytest.approx(100, abs=1e-3)


def test_a_rotation_of_a_square_image_is_by_the_plain_matrix_bit_for_bit():
    x = torch.rand(2, 3, 7, 7)
    cos, sin = math.cos(0.3 * math.pi), math.sin(0.3 * math.pi)
    plain = torch.tensor([[cos, -sin, 0.0], [sin, cos, 0.0]]).expand(2, 2, 3)
    grid = functional.affine_grid(plain, list(x.shape), align_corners=False)
    expected = functional.grid_sample(x, grid, align_corners=False)
    assert torch.equal(rotated(x, FULL, 0.3, rng()), expected)


def test_what_a_rotation_brings_in_is_black():
    turned = rotated(torch.full((1, 1, 8, 8), 200.0), FULL, 0.25, rng())
    assert turned[0, 0, 0, 0] == 0
    assert turned[0, 0, 4, 4] == pytest.approx(200, abs=0.1)


def test_colours_are_scaled_and_moved_channel_by_channel():
    levels = np.array([1.0, -1.0, 0.5, 0, 0.5, 0, -1.0, 0])
    x = torch.full((1, 3, 1, 1), 100.0)
    # (1 + .5 level) x + 64 * .5 level
    assert coloured(x, levels, 0.5, rng()).flatten().tolist() == [166.0, 50.0, 93.0]


def test_channels_beyond_four_have_a_pair_of_numbers_each():
    assert [level_count(channels) for channels in (1, 4, 5, 6)] == [8, 8, 10, 12]
    levels = np.array([1.0, 0, 0, -1.0, 0, 0, 0, 0.5, 0.5, 0.25, 0, -1.0])
    x = torch.full((1, 6, 1, 1), 100.0)
    seen = coloured(x, levels, 1.0, rng()).flatten().tolist()
    # The fifth has the gain 0.5 and the offset 0.25, the sixth 0 and -1.
    assert seen == [200.0, 100.0, 100.0, 32.0, 166.0, 36.0]
    four = coloured(x[:, :4], levels[:8], 1.0, rng()).flatten().tolist()
    assert seen[:4] == four


def test_a_blur_spreads_a_point_and_keeps_its_sum():
    x = torch.zeros(1, 1, 17, 17)
    x[0, 0, 8, 8] = 255
    seen = blurred(x, FULL, 8 / 17, rng())  # sigma = 1 pixel
    weights = np.exp(-0.5 * np.arange(-3, 4) ** 2.0)
    weights /= weights.sum()
    assert seen[0, 0, 8, 8] == pytest.approx(255 * weights[3] ** 2, rel=1e-4)
    assert seen[0, 0, 8, 9] == pytest.approx(255 * weights[3] * weights[2], rel=1e-4)
    assert seen.sum() == pytest.approx(255, rel=1e-4)


def test_a_blur_does_not_darken_the_edges():
    seen = blurred(torch.full((1, 2, 8, 8), 90.0), FULL, 1.0, rng())
    assert torch.allclose(seen, torch.full_like(seen, 90), atol=1e-3)


def test_noise_has_its_deviation_and_is_another_in_each_image():
    x = torch.full((2, 1, 64, 64), 100.0)
    seen = noisy(x, -FULL, 0.5, rng())
    assert float((seen - x).std()) == pytest.approx(32, rel=0.05)
    assert not torch.equal(seen[0], seen[1])


def test_a_coarse_image_has_blocks_of_their_mean():
    x = image([[0, 4, 8, 12], [4, 8, 12, 16], [1, 1, 2, 2], [1, 1, 2, 2]])
    seen = coarse(x, FULL, 2 / 3, rng())  # half of the pixels a side
    assert rounded(seen) == [[4, 4, 12, 12], [4, 4, 12, 12], [1, 1, 2, 2], [1, 1, 2, 2]]
