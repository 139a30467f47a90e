"""Writes the images that a strategy shows; they are drawn when a report is made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from fedkd.base.files import write_atomic
from fedkd.base.folders import RunFolder
from fedkd.data.images import ImageInfo
from fedkd.simulation.sides import Sides
from fedkd.simulation.untouched import Untouched
from fedkd.strategy import Strategy


def save_pictures(
    strategy: Strategy[Any, Any, Any], sides: Sides, state: Any, folder: Path, name: str
) -> None:
    """Write a strategy's images, which are drawn later; vectors are no pictures."""
    info = sides.federation.data.info
    if not isinstance(info, ImageInfo):
        return
    where, given = f"{name}.gallery", Untouched(state, "the state")
    with sides.verb("gallery", where=where, given=given):
        images = strategy.gallery(state, sides.server())
    if images:
        save_gallery(folder, images, info)


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
