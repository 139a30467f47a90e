"""Writes the images that a strategy shows; they are drawn when a report is made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from fedkd.base.files import write_atomic
from fedkd.base.folders import RunFolder
from fedkd.data.images import ImageInfo


def save_gallery(folder: Path, images: Mapping[str, Tensor], info: ImageInfo) -> None:
    """Write rows of normalised images ``[N, C, H, W]`` as pixels into ``folder``."""
    mean = torch.tensor(info.mean).view(1, -1, 1, 1)
    std = torch.tensor(info.std).view(1, -1, 1, 1)
    pixels = {
        name: ((x.detach().cpu() * std + mean).clamp(0, 1) * 255).round().byte()
        for name, x in images.items()
    }
    content = save({name: x.contiguous() for name, x in pixels.items()})
    write_atomic(RunFolder(folder).gallery, content)
