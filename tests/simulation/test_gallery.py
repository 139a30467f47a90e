"""The images of a gallery: from normalised numbers back to pixels."""

import pytest
import torch
from safetensors.torch import load_file

from fedkd.data.images import ImageInfo
from fedkd.simulation.gallery import save_gallery

INFO = ImageInfo((2, 1, 3), 10, (0.4, 0.6), (0.2, 0.4))


def saved(folder, x):
    save_gallery(folder, {"made": x}, INFO)
    return load_file(folder / "gallery.safetensors")["made"]


@pytest.mark.parametrize("number", [1, 3])
def test_numbers_become_pixels_by_the_mean_and_deviation_of_their_channel(
    tmp_path, number
):
    # 255 (0.2 x + 0.4) and 255 (0.4 x + 0.6).
    x = torch.tensor([[[0.0, 1.0, -1.0]], [[0.0, 0.5, -1.0]]])
    found = saved(tmp_path, x.expand(number, 2, 1, 3))
    assert found.dtype == torch.uint8
    assert found.tolist() == [[[[102, 153, 51]], [[153, 204, 51]]]] * number


def test_what_is_darker_than_black_or_brighter_than_white_is_cut(tmp_path):
    x = torch.tensor([[[[-9.0, 9.0, 0.0]], [[-9.0, 9.0, 0.0]]]], requires_grad=True)
    assert saved(tmp_path, x).tolist() == [[[[0, 255, 102]], [[0, 255, 153]]]]
