"""Vision transformers for small images.

Dosovitskiy et al., "An Image is Worth 16x16 Words: Transformers for Image Recognition at
Scale", ICLR 2021, arXiv:2010.11929, section 3.1; sizes of heads as in DeiT-Ti (Touvron et
al., arXiv:2012.12877: 192 values, 3 heads), with smaller patches and half the depth.

Initial weights are PyTorch's: positions are N(0, 1), as those of its embeddings. The
class token starts at 0, as in the released code
(github.com/google-research/vision_transformer). There, positions are N(0, 0.02), which
Adam soon enlarges and SGD does not: after 200 steps of SGD on digits (batch 64, 0.05,
momentum 0.9, dim 64, depth 3, heads 2) accuracy was 76 %, and with N(0, 1) 94 %.
"""

from __future__ import annotations

from typing import Literal, final

import torch
import torch.nn.functional as F
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor, nn

from fedkd.data.images import ImageShape
from fedkd.errors import ConfigError
from fedkd.models.base import Share, Size, TrunkConfig, TrunkModel, scaled

MLP_RATIO = 4
LONGEST_SIDE = 8
"""Patches a side that an image has at most, if the patch is not chosen."""


class VitConfig(TrunkConfig):
    """Options of vision transformers."""

    patch: int | None = Field(None, ge=1)
    """Side of a patch in pixels, a divisor of both sides of an image. None: the least of
    2, 4, 8... with at most 8 patches a side, which is 2 for 8x8, 4 for 28x28 and 32x32, 8
    for 64x64."""
    dim: Size = 192
    """Length of a token."""
    depth: Size = 6
    """Number of blocks."""
    heads: Size = 3
    """Number of attention heads, a divisor of ``dim``."""
    pool: Literal["token", "mean"] = "token"
    """What becomes the features: the class token (as published), or the mean over
    patches."""
    width: Share = 1.0
    """Share of the hidden units of the MLPs; ceil(4 * dim * width) remain. Tokens and
    attention stay whole: heads are units of many channels, of which a part means
    nothing."""

    @field_validator("heads")
    @classmethod
    def _divide(cls, heads: int, info: ValidationInfo) -> int:
        dim = info.data.get("dim", heads)
        if dim % heads:
            raise ValueError(f"Expected a divisor of dim, which is {dim}")
        return heads


@final
class Vit(TrunkModel):
    """A vision transformer: patches, learned positions, pre-norm blocks, linear head.

    There is no dropout. With the defaults, 2,693,578 parameters for 3x32x32 images of 10
    classes.
    """

    Config = VitConfig

    def __init__(
        self, image_shape: ImageShape, num_classes: int, config: VitConfig
    ) -> None:
        dim = config.dim
        super().__init__(image_shape, num_classes, dim, config)
        channels, height, breadth = image_shape
        size = _patch(config.patch, height, breadth)
        self.pool = config.pool
        self.patches = nn.Conv2d(channels, dim, size, size)
        number = (height // size) * (breadth // size)
        if self.pool == "token":
            self.token = nn.Parameter(torch.zeros(1, 1, dim))
            number += 1
        self.positions = nn.Parameter(torch.randn(1, number, dim))
        hidden = scaled(MLP_RATIO * dim, config.width)
        blocks = [Block(dim, config.heads, hidden) for _ in range(config.depth)]
        self.blocks = nn.Sequential(*blocks, _norm(dim))
        self.make_head()

    def trunk(self, x: Tensor) -> Tensor:
        """Return the class token or the mean of all tokens, normalised, ``[B, T]``."""
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        if self.pool == "token":
            # Not len(x), which exporters would take for a constant.
            token = self.token.expand(x.shape[0], -1, -1)
            tokens = torch.cat((token, tokens), dim=1)
        tokens = self.blocks(tokens + self.positions)
        out_BT: Tensor = tokens[:, 0] if self.pool == "token" else tokens.mean(dim=1)
        return out_BT


@final
class Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x))."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        """Args: ``dim`` values a token, ``heads`` of attention, ``hidden`` units."""
        super().__init__()
        self.before_attention = _norm(dim)
        self.attention = Attention(dim, heads)
        self.before_mlp = _norm(dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens ``[B, N, dim]`` to tokens of the same shape."""
        tokens = tokens + self.attention(self.before_attention(tokens))
        out: Tensor = tokens + self.mlp(self.before_mlp(tokens))
        return out


@final
class Attention(nn.Module):
    """Self-attention over all tokens: softmax(q k^T / sqrt(dim / heads)) v."""

    def __init__(self, dim: int, heads: int) -> None:
        """Args: ``dim`` values a token, ``heads``, a divisor of ``dim``."""
        super().__init__()
        self.heads = heads
        self.inputs = nn.Linear(dim, 3 * dim)
        self.output = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens ``[B, N, dim]`` to tokens of the same shape."""
        three = self.inputs(tokens).unflatten(2, (3, self.heads, -1))
        q, k, v = three.permute(2, 0, 3, 1, 4).unbind()
        mixed = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.output(mixed.transpose(1, 2).flatten(2))
        return out


def _norm(dim: int) -> nn.LayerNorm:
    """Return a layer normalisation with the epsilon of the released code."""
    return nn.LayerNorm(dim, eps=1e-6)


def _patch(patch: int | None, height: int, breadth: int) -> int:
    """Return the side of a patch, the chosen one or one that fits."""
    size = patch or 2
    while patch is None and max(height, breadth) > LONGEST_SIDE * size:
        size *= 2
    if height % size or breadth % size:
        raise ConfigError(
            f"patch: found {size} for images of {height}x{breadth}, expected a divisor of "
            "both sides; choose another patch, or another resolution of the data set."
        )
    return size
