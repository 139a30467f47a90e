"""Widths of nested models: what a narrower one keeps, and who gets which."""

from __future__ import annotations

import math
from typing import TypeAlias

from torch import Tensor

from fedkd.errors import ConfigError
from fedkd.ops.axes import Axes, Axis
from fedkd.payload import Weights

Sizes: TypeAlias = tuple[int, ...]
"""Channels that a sub-model has of each group of :class:`~fedkd.ops.axes.Axes`."""


def width_budgets(clients: int, rho: float, sigma: float) -> list[float]:
    """Return R_i = 0.5^min(sigma, floor(rho i / N)) for i = 1..N.

    The rule of DFRD (Luo et al., NeurIPS 2023, arXiv:2309.13546; released code:
    ``0.5 ** min(4, floor(rho*i/N))`` with rho in {5, 10, 20}; DFDG: sigma 2).

    Args:
        clients: N.
        rho: How fast widths fall with the number of the client, from 0 on.
        sigma: The most halvings, from 0 on; only its whole part counts.
    """
    return [
        # 0.3 * 10 / 3 is below 1 in floats, and stands for 1.
        0.5 ** min(int(sigma), math.floor(rho * i / clients + 1e-9))
        for i in range(1, clients + 1)
    ]


def kept_channels(axes: Axes, whole: Weights, part: Weights) -> Sizes:
    """Return how many channels of each group a narrower model has.

    Args:
        axes: The groups of the whole model.
        whole: The whole model's state.
        part: The narrower model's state, of which only shapes are read.

    Raises:
        ConfigError: If it is no sub-model of the whole one, as far as can be seen.
    """
    if set(whole) != set(part):
        odd = min(set(whole) ^ set(part))
        raise ConfigError(
            f"nested widths: the entry {odd!r} is in one model only; expected one family "
            "at several widths, with equal options otherwise."
        )
    channels_of: dict[int, int] = {}
    for entry, value in whole.items():
        _check_dimensions(entry, value, part[entry])
        axes_of = axes.of(entry) or (None,) * value.ndim
        for i, (axis, full, kept) in enumerate(
            zip(axes_of, value.shape, part[entry].shape, strict=True)
        ):
            place = f"dimension {i} of {entry!r} ({full} to {kept})"
            if axis is not None:
                _note(channels_of, axis.group, _share(axes, axis, kept, place), place)
            elif full != kept:
                raise ConfigError(
                    f"nested widths: {place} is narrower, and no convolution, linear "
                    "layer or normalisation says which channels these are. Use a model "
                    "of such layers, or one width."
                )
    return tuple(channels_of[g] for g in range(len(axes.channels)))


def _note(channels_of: dict[int, int], group: int, number: int, place: str) -> None:
    """Note how many channels of a group are kept, the same by all its axes."""
    if channels_of.setdefault(group, number) != number:
        raise ConfigError(
            f"nested widths: {place} keeps {number} channels and an axis tied to it "
            f"{channels_of[group]}; expected equal numbers."
        )


def _check_dimensions(entry: str, full: Tensor, kept: Tensor) -> None:
    if full.ndim != kept.ndim:
        raise ConfigError(
            f"nested widths: {entry!r} has {full.ndim} dimensions in one model and "
            f"{kept.ndim} in the other; expected one family at several widths."
        )


def _share(axes: Axes, axis: Axis, kept: int, place: str) -> int:
    """Return how many channels ``kept`` positions of an axis are."""
    group, total = axis.group, axes.channels[axis.group]
    if kept == total * axis.block:
        return total
    number, rest = divmod(kept, axis.block)
    if rest or number > total or group == axes.output:
        raise ConfigError(
            f"nested widths: {place} is no part of the whole model's, which has {total} "
            f"channels of {axis.block} positions; input channels and classes stay, and "
            "the server's model is the widest."
        )
    if group in axes.unclear:
        raise ConfigError(
            f"nested widths: {place} is narrower, but {axes.unclear[group]}."
        )
    return number
