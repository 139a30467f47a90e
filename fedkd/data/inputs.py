"""What kinds of inputs there are, and what messages call their shapes."""

from __future__ import annotations

from typing import Literal, TypeAlias

InputShape: TypeAlias = tuple[int, ...]
"""Of one input: ``(channels, height, width)`` of an image, ``(D,)`` of a vector."""
InputKind: TypeAlias = Literal["images", "vectors"]


def kind_of(shape: InputShape) -> InputKind:
    """Return what inputs of this shape are."""
    return "vectors" if len(shape) == 1 else "images"


def described(shape: InputShape) -> str:
    """Return what messages call inputs: ``images of 8x8`` or ``vectors of 13 values``."""
    if kind_of(shape) == "vectors":
        return f"vectors of {shape[0]} value{'' if shape[0] == 1 else 's'}"
    return f"images of {'x'.join(map(str, shape[1:]))}"


def fully_described(shape: InputShape) -> str:
    """Return :func:`described` with the channels of images: ``images of 1x8x8``."""
    if kind_of(shape) == "vectors":
        return described(shape)
    return f"images of {'x'.join(map(str, shape))}"
