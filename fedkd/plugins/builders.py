"""What builds a model: a class with a ``Config``, or a function without options.

A class is called with the shape of inputs, the number of classes and an instance of its
``Config``; what has no ``Config``, with the shape and the number alone. What is for
vectors says so in ``takes``, as :class:`fedkd.models.base.Model` does; without it, a
builder is for images.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from fedkd.errors import ContractError, NotApplicableError, named

if TYPE_CHECKING:
    from torch import nn

    from fedkd.config import Config
    from fedkd.data.inputs import InputShape

_PLAIN = ("image_shape", "num_classes")


def config_of(builder: Any) -> type[Config]:
    """Return the class of a builder's options; one without fields if it has none."""
    from fedkd.config import Config  # noqa: PLC0415 - pydantic; no listing needs it

    config: type[Config] = getattr(builder, "Config", Config)
    return config


def build_model(
    builder: Any,
    where: str,
    input_shape: InputShape,
    num_classes: int,
    **options: Any,
) -> nn.Module:
    """Return a new model; its initial weights come from the current stream.

    Args:
        builder: What is registered.
        where: Where its options are written, for messages: ``"models.cnn"``.
        input_shape: ``(channels, height, width)`` of the images, or ``(D,)`` of vectors.
        num_classes: Number of classes.
        options: Fields of its ``Config``.

    Raises:
        ConfigError: If an option is unknown or cannot be used.
        NotApplicableError: If the builder is not for such inputs.
    """
    from fedkd.config import build  # noqa: PLC0415 - pydantic; no listing needs it
    from fedkd.data.inputs import described, kind_of  # noqa: PLC0415 - torch comes along

    takes = getattr(builder, "takes", ("images",))
    if kind_of(input_shape) not in takes:
        there = described(input_shape)
        reason = f"is for {' or '.join(takes)}, and the data are {there}"
        raise NotApplicableError(where, reason)

    config = build(config_of(builder), options, where)
    given = (config,) if hasattr(builder, "Config") else ()
    with named(where):
        model: nn.Module = builder(input_shape, num_classes, *given)
    return model


def check_builder(builder: Any, title: str) -> None:
    """Refuse what cannot be called as :func:`build_model` will.

    Args:
        builder: What is registered.
        title: How messages call it.

    Raises:
        ContractError: If it is not callable, or has other arguments.
    """
    wanted = (*_PLAIN, "config") if hasattr(builder, "Config") else _PLAIN
    if not callable(builder):
        raise ContractError(
            f"{title} is of type {type(builder).__name__}; expected a callable "
            f"({', '.join(wanted)}) that returns a module."
        )
    try:
        signature = inspect.signature(builder)
    except (TypeError, ValueError):  # a builtin: nobody can tell
        return
    try:
        signature.bind(*wanted)
        fits = len(signature.parameters) == len(wanted)
    except TypeError:
        fits = False
    if not fits:
        raise ContractError(
            f"{title} takes ({', '.join(signature.parameters)}), expected "
            f"({', '.join(wanted)}). Options of a model are the fields of its Config: "
            "write a class with Config = MyConfig, a subclass of fedkd.Config, and the "
            "arguments (image_shape, num_classes, config). What has no Config has no "
            "options, and takes (image_shape, num_classes)."
        )
