"""Sub-models of a wide model: which channels they hold, cutting out, averaging back.

Channels of a hidden layer are held in the order in which the sub-model has them. A scheme
says which: the first ones (HeteroFL, Diao, Ding, Tarokh, ICLR 2021, arXiv:2010.01264v3), a
window that rolls with the rounds (FedRolex, Alam, Liu, Yan, Zhang, NeurIPS 2022,
arXiv:2212.01548v2), or some at random (Federated Dropout, Caldas et al.,
arXiv:1812.07210v2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from fedkd.ops.averaging import weighted_average
from fedkd.ops.axes import Axes, Axis
from fedkd.ops.widths import Sizes
from fedkd.payload import Weights

Scheme: TypeAlias = Literal["static", "rolling", "rolling-back", "random"]
"""Which channels a sub-model holds: the first; a window whose start goes up by one each
round, as FedRolex is described, or down, as its released code has it; some at random."""


@dataclass(frozen=True)
class IndexMap:
    """Where the coordinates of a sub-model are in the whole model."""

    axes: Axes
    """The groups of the whole model."""
    channels: tuple[Tensor | None, ...]
    """By group: the channels that the sub-model holds, int64, in its order; None: all."""

    @property
    def is_whole(self) -> bool:
        """Whether the sub-model is the whole model."""
        return all(kept is None for kept in self.channels)

    def positions(self, entry: str) -> tuple[Tensor | None, ...]:
        """Return, for each dimension of an entry, what is held of it; None: all.

        Empty for an entry that is whole.
        """
        held = tuple(
            None if axis is None else self._along(axis) for axis in self.axes.of(entry)
        )
        return held if any(kept is not None for kept in held) else ()

    def _along(self, axis: Axis) -> Tensor | None:
        kept = self.channels[axis.group]
        if kept is None or axis.block == 1:
            return kept
        return (kept[:, None] * axis.block + torch.arange(axis.block)).flatten()


def index_map(
    axes: Axes,
    sizes: Sizes,
    scheme: Scheme,
    round: int = 0,
    seeds: Sequence[int] = (),
) -> IndexMap:
    """Return the map of a sub-model.

    ``static`` holds channels 0..r-1 of C; ``rolling`` (t + i) mod C for i < r in round t;
    ``rolling-back`` (i - t) mod C; ``random`` r channels drawn anew for other seeds, in
    ascending order. Every group uses the same t and its own C.

    Args:
        axes: The groups of the whole model.
        sizes: r of each group.
        scheme: Which channels.
        round: t, the number of the round, from 0.
        seeds: Whole numbers from 0 on that name the draw of ``random``.
    """
    rng = np.random.default_rng([*seeds, round])
    chosen: list[Tensor | None] = []
    for total, kept in zip(axes.channels, sizes, strict=True):
        if kept == total:
            chosen.append(None)
        elif scheme == "random":
            drawn = rng.choice(total, kept, replace=False)
            chosen.append(torch.from_numpy(np.sort(drawn)))
        else:
            start = {"static": 0, "rolling": round, "rolling-back": -round}[scheme]
            chosen.append((torch.arange(kept) + start) % total)
    return IndexMap(axes, tuple(chosen))


def extract(whole: Weights, where: IndexMap) -> dict[str, Tensor]:
    """Return the sub-model's weights; entries that are whole are not copied."""
    return {
        entry: _cut(value, where.positions(entry)) for entry, value in whole.items()
    }


def _cut(value: Tensor, positions: Sequence[Tensor | None]) -> Tensor:
    for i, kept in enumerate(positions):
        if kept is not None:
            value = value.index_select(i, kept)
    return value


@dataclass(frozen=True)
class Part:
    """A trained sub-model in an average."""

    weights: Weights
    """Its state; entries that are missing take no part."""
    where: IndexMap
    """Where its coordinates are."""
    weight: float
    """w_k, finite, from 0 on."""
    classes: Tensor | None = None
    """Booleans ``[C]``: the classes whose logits it speaks for; None: all."""


def partial_average(whole: Weights, parts: Sequence[Part]) -> dict[str, Tensor]:
    """Return the mean over the sub-models that hold a coordinate, at each coordinate.

    v = sum_k w_k v_k / sum_k w_k over the k that hold it. A coordinate that no sub-model
    of positive weight holds keeps its value bit for bit. One that all hold gets the bits
    of :func:`~fedkd.ops.averaging.weighted_average` if the weights are whole numbers.
    Floating entries are summed in their own type, in the order given.

    Args:
        whole: The whole model's state before.
        parts: The sub-models.

    Raises:
        ValueError: If a weight is negative or not finite, or all are zero.
    """
    if not parts:
        return dict(whole)
    weights = [part.weight for part in parts]
    weighted_average([{} for _ in parts], weights)  # checks the weights
    averaged = {}
    for entry, value in whole.items():
        holders = [part for part in parts if entry in part.weights]
        if not any(part.weight for part in holders):
            averaged[entry] = value
        elif all(_is_whole(part, entry) for part in holders):
            states = [{entry: part.weights[entry]} for part in holders]
            averaged |= weighted_average(states, [part.weight for part in holders])
        else:
            averaged[entry] = _mean_of_parts(entry, value, holders)
    return averaged


def _is_whole(part: Part, entry: str) -> bool:
    return not part.where.positions(entry) and _rows(part, entry) is None


def _rows(part: Part, entry: str) -> Tensor | None:
    """Return the booleans of the first dimension if it is that of the logits."""
    axes = part.where.axes.of(entry)
    of_logits = axes and axes[0] is not None and axes[0].group == part.where.axes.output
    return part.classes if of_logits else None


def _mean_of_parts(entry: str, before: Tensor, parts: Sequence[Part]) -> Tensor:
    """Return the mean at each coordinate of one entry."""
    inside_of = [held(part, entry, before) for part in parts]
    total = torch.zeros(before.shape, dtype=torch.float64)
    for part, inside in zip(parts, inside_of, strict=True):
        total += part.weight * inside
    mean = torch.zeros_like(before)
    divisor = torch.where(total > 0, total, 1.0)
    for part, inside in zip(parts, inside_of, strict=True):
        if part.weight:
            share = (part.weight * inside / divisor).to(before.dtype)
            mean += spread(part, entry, before) * share
    return torch.where(total > 0, mean, before)


def held(part: Part, entry: str, like: Tensor) -> Tensor:
    """Return 1 where a sub-model holds a coordinate and 0 elsewhere; it broadcasts."""
    inside = torch.ones([1] * like.ndim, dtype=torch.float64)
    for i, kept in enumerate(part.where.positions(entry)):
        if kept is not None:
            line = torch.zeros(like.shape[i], dtype=torch.float64)
            line[kept] = 1.0
            inside = inside * line.view([-1 if j == i else 1 for j in range(like.ndim)])
    rows = _rows(part, entry)
    if rows is not None:
        inside = inside * rows.double().view(-1, *[1] * (like.ndim - 1))
    return inside


def spread(part: Part, entry: str, like: Tensor) -> Tensor:
    """Return a sub-model's entry in the shape of the whole one, zero where not held."""
    value = part.weights[entry].detach()
    for i, kept in enumerate(part.where.positions(entry)):
        if kept is not None:
            size = [*value.shape]
            size[i] = like.shape[i]
            value = value.new_zeros(size).index_copy_(i, kept, value)
    return value


def class_averages(
    whole: Weights,
    models: Sequence[tuple[Weights, IndexMap]],
    counts_KC: Tensor,
) -> dict[int, dict[str, Tensor]]:
    """Return, by class, the average weighted by images of it, over what is covered.

    expert_c = sum_k n_kc w_k / sum_k n_kc at each coordinate, over the sub-models that
    hold it; one that no model with images of the class holds keeps the whole model's
    value. A class that none has, has no expert. With whole models each is
    :func:`~fedkd.ops.averaging.weighted_average` with the class's counts, bit for bit.

    Args:
        whole: The whole model's state, say the partial average of all.
        models: The sub-models.
        counts_KC: Number of images of each sub-model's client and class.
    """
    present: list[int] = torch.nonzero(counts_KC.sum(0)).flatten().tolist()
    return {
        c: partial_average(
            whole,
            [
                Part(weights, where, float(counts_KC[k, c]))
                for k, (weights, where) in enumerate(models)
            ],
        )
        for c in present
    }
