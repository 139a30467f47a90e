"""Robust averages coordinate by coordinate: the median and the trimmed mean."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from math import ceil
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from fedkd.ops.submodels import Part, held, spread
from fedkd.payload import Weights
from fedkd.robust.rule import Rule, column, gathered, is_real, truncated

_ROUNDING = 1e-9
"""Keeps a share of the clients that is a whole number from being cut below it."""


def cut_off(number: Tensor, share: float) -> Tensor:
    """Return how many of ``number`` values are trimmed at each end, int64, rounded down."""
    return (number * share + _ROUNDING).floor().long()


def trimmed_means(values_K: Tensor, share: float, held_K: Tensor | None) -> Tensor:
    """Return the mean without the largest and smallest share of the values, ``[...]``.

    Yin et al. 2018, Definition 2. NaN counts as the largest of all numbers.

    Args:
        values_K: ``[K, ...]``.
        share: beta in [0, 1/2).
        held_K: Booleans ``[K, ...]``: which values there are; None: all. Where there is
            none the result has no meaning.
    """
    sorted_K, number = _sorted(values_K, held_K)
    cut = cut_off(number, share)
    place_K = _places(sorted_K)
    inside_K = (place_K >= cut) & (place_K < number - cut)
    total = torch.where(inside_K, sorted_K, 0.0).sum(0)
    return total / (number - 2 * cut).clamp(min=1).to(total.dtype)


def medians(values_K: Tensor, held_K: Tensor | None = None) -> Tensor:
    """Return the median of the values, the mean of the two in the middle, ``[...]``.

    Yin et al. 2018, Definition 1. NaN counts as the largest of all numbers.

    Args:
        values_K: ``[K, ...]``.
        held_K: Booleans ``[K, ...]``: which values there are; None: all. Where there is
            none the result has no meaning.
    """
    sorted_K, number = _sorted(values_K, held_K)
    low = ((number - 1) // 2).clamp(min=0).expand(sorted_K.shape[1:])
    high = (number // 2).clamp(max=len(sorted_K) - 1).expand(sorted_K.shape[1:])
    lower = sorted_K.gather(0, low[None])[0]
    upper = sorted_K.gather(0, high[None])[0]
    # One value is itself, bit for bit; two infinities have no difference.
    return torch.where(low == high, lower, (lower + upper) / 2)


def counters(states: Sequence[Weights]) -> dict[str, Tensor]:
    """Return the median of every whole number, such as the batches that were seen."""
    return {
        n: truncated(medians(column(states, n)), like)
        for n, like in states[0].items()
        if not is_real(like)
    }


def _sorted(values_K: Tensor, held_K: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the values in ascending order, those that count first, and their number."""
    if held_K is None:
        return values_K.sort(0).values, torch.tensor(len(values_K))
    return values_K.masked_fill(~held_K, torch.nan).sort(0).values, held_K.sum(0)


def _places(sorted_K: Tensor) -> Tensor:
    """Return 0, 1, ..., K - 1 along the first dimension."""
    return torch.arange(len(sorted_K)).view(-1, *[1] * (sorted_K.ndim - 1))


class ByCoordinate(Rule):
    """A rule that treats every coordinate by itself."""

    @abstractmethod
    def of(self, values_K: Tensor, held_K: Tensor | None = None) -> Tensor:
        """Return one value of those of the clients, at each coordinate.

        Args:
            values_K: ``[K, ...]``.
            held_K: Booleans ``[K, ...]``: which of them there are; None: all.
        """

    def combine(
        self, states: Iterable[Weights], weights: Sequence[float], before: Weights
    ) -> dict[str, Tensor]:
        """Return the rule's value at each coordinate; clients count alike."""
        del weights, before
        every = gathered(states)
        return {n: self._entry(column(every, n), like) for n, like in every[0].items()}

    def combine_parts(self, whole: Weights, parts: Sequence[Part]) -> dict[str, Tensor]:
        """Return the rule's value over those who hold a coordinate."""
        combined = dict(whole)
        for entry, value in whole.items():
            holders = [part for part in parts if entry in part.weights]
            if not holders:
                continue
            values_K = torch.stack([spread(part, entry, value) for part in holders])
            values_K = values_K if is_real(value) else values_K.double()
            covered = [held(part, entry, value) > 0 for part in holders]
            held_K = torch.stack([one.expand(value.shape) for one in covered])
            joint = self._entry(values_K, value, held_K)
            combined[entry] = torch.where(held_K.any(0), joint, value)
        return combined

    def _entry(
        self, values_K: Tensor, like: Tensor, held_K: Tensor | None = None
    ) -> Tensor:
        # Whole numbers count batches; half of one is none.
        of = self.of if is_real(like) else medians
        return truncated(of(values_K, held_K), like)


class Median(ByCoordinate):
    """The median of the clients at each coordinate.

    Paper: Yin, Chen, Ramchandran, Bartlett, "Byzantine-Robust Distributed Learning:
        Towards Optimal Statistical Rates", ICML 2018, arXiv:1803.01498, Definition 1.
    Breakdown: 1/2. Fewer than half of the clients cannot move it beyond the others.
    Weights: none; every client counts as one.
    """

    name: Literal["median"] = "median"
    """Its name."""

    @property
    def least(self) -> int:
        """Three: the median of two is their mean."""
        return 3

    def of(self, values_K: Tensor, held_K: Tensor | None = None) -> Tensor:
        """Return the medians."""
        return medians(values_K, held_K)


class TrimmedMean(ByCoordinate):
    """The mean without the largest and the smallest values at each coordinate.

    Paper: Yin, Chen, Ramchandran, Bartlett, "Byzantine-Robust Distributed Learning:
        Towards Optimal Statistical Rates", ICML 2018, arXiv:1803.01498, Definition 2.
    Breakdown: the share, of floor(share x clients) clients.
    Weights: none; every client counts as one.
    """

    name: Literal["trimmed_mean"] = "trimmed_mean"
    """Its name."""
    share: float = Field(0.2, gt=0, lt=0.5)
    """beta, the share of clients that is left out at each end, rounded down; at least
    that of those who attack. 0.2 is ours."""

    @property
    def least(self) -> int:
        """As many as it takes to leave out one at each end."""
        return max(3, ceil(1 / self.share - _ROUNDING))

    def of(self, values_K: Tensor, held_K: Tensor | None = None) -> Tensor:
        """Return the trimmed means."""
        return trimmed_means(values_K, self.share, held_K)
