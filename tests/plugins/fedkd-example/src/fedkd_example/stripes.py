"""Stripes: a data set that is generated, so that it needs no file."""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import Field

from fedkd import Config, Dataset, ImageSet

CLASSES = ("row", "column", "diagonal", "antidiagonal")


class StripesConfig(Config):
    """Options of the set."""

    train: int = Field(160, ge=4)
    """Training images."""
    test: int = Field(80, ge=4)
    """Test images."""
    noise: float = Field(30.0, ge=0)
    """Standard deviation of the noise, in grey levels of 255."""


class Stripes(Dataset):
    """Grey 8x8 images of one bright bar in noise; the class is its direction."""

    Config = StripesConfig

    def load(self, root: Path) -> ImageSet:
        random = torch.Generator().manual_seed(0)
        x_train, y_train = self._draw(self.config.train, random)
        x_test, y_test = self._draw(self.config.test, random)
        return ImageSet(
            name="stripes",
            x_train=x_train,
            y_train=y_train,
            x_test=x_test,
            y_test=y_test,
            classes=CLASSES,
            mean=(0.25,),
            std=(0.25,),
        )

    def _draw(self, number: int, random: torch.Generator):
        """Return images uint8 ``[number, 1, 8, 8]`` and labels int64 ``[number]``."""
        y = torch.randint(len(CLASSES), (number,), generator=random)
        offset = torch.randint(8, (number, 1, 1), generator=random)
        row, column = torch.arange(8).view(1, 8, 1), torch.arange(8).view(1, 1, 8)
        bars = torch.stack(
            [
                (row == offset).expand(-1, 8, 8),
                (column == offset).expand(-1, 8, 8),
                (row - column) % 8 == offset,
                (row + column) % 8 == offset,
            ],
            dim=1,
        )
        chosen = bars[torch.arange(number), y].unsqueeze(1)
        noise = torch.randn(number, 1, 8, 8, generator=random) * self.config.noise
        return (chosen * 200 + noise).clamp(0, 255).to(torch.uint8), y
