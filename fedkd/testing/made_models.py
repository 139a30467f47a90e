"""Models and their inputs, made as the checks of :mod:`fedkd.testing.models` need them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from fedkd.data.images import ImageShape
from fedkd.data.inputs import InputKind, InputShape, kind_of
from fedkd.testing.foreign import called
from fedkd.testing.runs import NotApplicable

ModelFactory: TypeAlias = Callable[..., nn.Module]
SMALL: ImageShape = (1, 8, 8)
SHAPES: tuple[InputShape, ...] = (SMALL, (1, 28, 28), (3, 32, 32))
VECTOR: InputShape = (6,)
CLASSES = 4


def class_behind(make: Any) -> Any:
    """Return the class or function behind what ``registry.model`` or ``build`` is."""
    if isinstance(make, functools.partial):
        return make.args[0]
    return getattr(make, "__self__", make)


def kinds_of(make: Any) -> tuple[InputKind, ...]:
    """Return the kinds of data that a model is for."""
    takes: tuple[InputKind, ...] = getattr(class_behind(make), "takes", ("images",))
    return takes


def shape_of(make: Any) -> InputShape:
    """Return the shape of one input that a model, or what makes it, is for."""
    return SMALL if "images" in kinds_of(make) else VECTOR


def shapes_of(make: ModelFactory) -> tuple[InputShape, ...]:
    """Return usual shapes of inputs that a model is for."""
    takes = kinds_of(make)
    images = SHAPES if "images" in takes else ()
    return (*images, VECTOR) if "vectors" in takes else images


def built(
    make: ModelFactory, shape: InputShape | None = None, seed: int = 0
) -> nn.Module:
    """Return a new model.

    Raises:
        AssertionError: If it cannot be made; names the shape.
    """
    torch.manual_seed(seed)
    shape = shape or shape_of(make)
    what = f"the constructor ({kind_of(shape)} {list(shape)})"
    model = called(what, lambda: make(shape, CLASSES))
    assert isinstance(model, nn.Module), (
        f"{what} gave a {type(model).__name__}, expected a torch.nn.Module."
    )
    return model


def built_classifier(make: ModelFactory) -> Any:
    """Return a new classifier in eval mode.

    Raises:
        NotApplicable: If the model is not made of features and a head.
    """
    model = built(make).eval()
    if not (hasattr(model, "features") and hasattr(model, "head")):
        raise NotApplicable(
            "it is no fedkd.ImageModel: it has no features and no head."
        )
    return model


def random_input(shape: InputShape, number: int = 4) -> Tensor:
    """Return inputs ``[number, *shape]``, always the same ones."""
    return torch.randn(number, *shape, generator=torch.Generator().manual_seed(0))


def inputs_for(
    model: nn.Module, number: int = 4, shape: InputShape | None = None
) -> tuple[Tensor, ...]:
    """Return what a model of any kind is called with: noise, labels, or inputs."""
    latent = getattr(model, "latent_size", None)
    if latent is None:
        return (random_input(shape or shape_of(model), number),)
    noise = torch.randn(number, latent, generator=torch.Generator().manual_seed(0))
    takes_labels = len(inspect.signature(model.forward).parameters) > 1
    return (noise, torch.arange(number) % CLASSES) if takes_labels else (noise,)


def outputs(
    model: nn.Module, number: int = 4, shape: InputShape | None = None
) -> Tensor:
    """Return what a model gives.

    Raises:
        AssertionError: If it raises, or gives no tensor.
    """
    given = inputs_for(model, number, shape)
    what = f"forward (input {', '.join(str(list(one.shape)) for one in given)})"
    out = called(what, lambda: model(*given))
    assert isinstance(out, Tensor), (
        f"{what} gave a {type(out).__name__}, expected a tensor."
    )
    return out


def require_shape(out: Tensor, expected: tuple[int, ...], shape: InputShape) -> None:
    """Raise an ``AssertionError`` unless an output is finite and has the shape."""
    given = f"{kind_of(shape)} {list(shape)}"
    assert tuple(out.shape) == expected, (
        f"forward gave shape {list(out.shape)} for {given} and {CLASSES} "
        f"classes; expected {list(expected)}. Take sizes from image_shape and num_classes."
    )
    assert torch.isfinite(out).all(), f"forward gave what is not finite for {given}."
