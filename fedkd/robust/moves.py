"""Robust averages that weigh or shorten the clients' moves."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from fedkd.ops.averaging import normalised, weighted_average
from fedkd.ops.submodels import Part, extract, partial_average
from fedkd.payload import Weights
from fedkd.robust.coordinates import Median, counters
from fedkd.robust.rule import Rule, gathered, is_real

_NEAR = 0.1
"""Of the median distance to where the geometric median is sought from: nobody counts as
nearer to it."""


def norm_of_move(state: Weights, before: Weights) -> float:
    """Return ||s - b|| over floating entries; infinite if a value is not finite."""
    squares = [
        float((value.detach().double() - before[n].double()).square().sum())
        for n, value in state.items()
        if is_real(value)
    ]
    total = sum(squares) ** 0.5
    return torch.inf if math.isnan(total) else total


def from_outside(distances: Sequence[float]) -> list[float]:
    """Return distances to where the passes begin, none below a tenth of their median.

    A state that is there, as of a client that sends back what it was sent, would have
    nearly all the weight, and passes that grow away from it by a factor each would stay.

    Args:
        distances: ||v_0 - w_k||; those that are not shorter come back as they are.
    """
    least = _NEAR * bound_of(distances)
    return [max(d, least) if math.isfinite(least) else d for d in distances]


def weiszfeld_weights(
    distances: Sequence[float], weights: Sequence[float], smoothing: float
) -> list[float]:
    """Return beta_k = alpha_k / max(nu, ||v - w_k||), not normalised.

    Pillutla, Kakade, Harchaoui 2022, the smoothed Weiszfeld algorithm.

    Args:
        distances: ||v - w_k||; infinite for a state that is not finite.
        weights: alpha_k.
        smoothing: nu.
    """
    pairs = zip(weights, distances, strict=True)
    return [alpha / max(smoothing, distance) for alpha, distance in pairs]


class GeometricMedian(Rule):
    """The state with the least weighted sum of distances to those of the clients.

    Paper: Pillutla, Kakade, Harchaoui, "Robust Aggregation for Federated Learning", IEEE
        Transactions on Signal Processing 2022, arXiv:1912.13445, smoothed Weiszfeld
        algorithm (RFA).
    Breakdown: 1/2 of the weights.
    Weights: the strategy's, so images unless it says otherwise.
    """

    needs_whole: ClassVar[bool] = True

    name: Literal["geometric_median"] = "geometric_median"
    """Its name."""
    smoothing: float = Field(1e-6, gt=0)
    """nu, the least distance; 1e-6 is a usual value in public codes."""
    iterations: int = Field(8, ge=1)
    """Passes over the clients; 8 is ours, and each takes an attacker that is far away down
    by about the ratio of its distance to that of the others."""

    @property
    def least(self) -> int:
        """Three: between two every point is one."""
        return 3

    def combine(
        self, states: Iterable[Weights], weights: Sequence[float], before: Weights
    ) -> dict[str, Tensor]:
        """Return the geometric median, sought from what clients started from.

        In the first pass nobody counts as nearer to that than :func:`from_outside` says.
        """
        every = gathered(states)
        alphas = normalised(weights).tolist()
        middle: Weights = before
        for done in range(self.iterations):
            distances = [norm_of_move(state, middle) for state in every]
            if not done:
                distances = from_outside(distances)
            betas = weiszfeld_weights(distances, alphas, self.smoothing)
            # Where no client is finite the result is not either: that is no median's task.
            middle = weighted_average(every, betas if sum(betas) else alphas)
        return {**middle, **counters(every)}


class NormClip(Rule):
    """The mean of moves none of which is longer than a bound.

    Paper: Sun, Kairouz, Suresh, McMahan, "Can You Really Backdoor Federated Learning?",
        2019, arXiv:1911.07963, section 3, "norm thresholding of updates":
        w + sum_k p_k D_k / max(1, ||D_k|| / M).
    Breakdown: 0, but one client moves the mean by its share of M at most. With M the
        median of the norms, M itself holds up to 1/2.
    Weights: the strategy's, so images unless it says otherwise.
    """

    name: Literal["norm_clip"] = "norm_clip"
    """Its name."""
    norm: float | None = Field(None, gt=0)
    """M, the longest move; None: the median of those of the round's clients, which is
    ours."""

    def combine(
        self, states: Iterable[Weights], weights: Sequence[float], before: Weights
    ) -> dict[str, Tensor]:
        """Return the mean of the clients' clipped moves from ``before``."""
        every = gathered(states)
        clipped = self._clipped(every, [before] * len(every))
        return {**weighted_average(clipped, weights), **counters(every)}

    def combine_parts(self, whole: Weights, parts: Sequence[Part]) -> dict[str, Tensor]:
        """Return the same over those who hold a coordinate; a norm is of what one holds."""
        before = [extract(whole, part.where) for part in parts]
        clipped = self._clipped([part.weights for part in parts], before)
        pairs = zip(parts, clipped, strict=True)
        joint = partial_average(whole, [replace(p, weights=w) for p, w in pairs])
        counts = {n: value for n, value in whole.items() if not is_real(value)}
        return {**joint, **Median().combine_parts(counts, parts)}

    def _clipped(
        self, states: Sequence[Weights], before: Sequence[Weights]
    ) -> list[Weights]:
        norms = [norm_of_move(*pair) for pair in zip(states, before, strict=True)]
        bound = self.norm or bound_of(norms)
        return [
            shortened(state, start, bound, norm)
            for state, start, norm in zip(states, before, norms, strict=True)
        ]


def bound_of(norms: Sequence[float]) -> float:
    """Return the lower median of the norms: one that a client has."""
    return sorted(norms)[(len(norms) - 1) // 2] if norms else 0.0


def shortened(state: Weights, before: Weights, bound: float, norm: float) -> Weights:
    """Return b + (s - b) / max(1, ||s - b|| / M); a state that is not too far as it is.

    One that is not finite has not moved. Whole numbers stay.

    Args:
        state: Of the client.
        before: What it started from.
        bound: M.
        norm: ||s - b||.
    """
    if norm <= bound:
        return state
    factor = bound / norm
    return {
        n: value if not is_real(value) else _towards(value, before[n], factor)
        for n, value in state.items()
    }


def _towards(value: Tensor, before: Tensor, factor: float) -> Tensor:
    # An infinite move times zero would be no number.
    return before + factor * (value.detach() - before) if factor else before
