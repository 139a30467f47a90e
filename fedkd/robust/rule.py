"""What an average is: a rule that makes one state of those of the clients."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from fedkd.config import Config
from fedkd.errors import ConfigError
from fedkd.ops.averaging import weighted_average
from fedkd.ops.submodels import Part, partial_average
from fedkd.payload import Weights


class Rule(Config, ABC):
    """How a server makes one state of those of its clients."""

    needs_whole: ClassVar[bool] = False
    """Whether all states must have the same shapes: the rule compares whole models."""

    name: str
    """What it is called."""

    @property
    def least(self) -> int:
        """The least number of clients in a round with which the rule means something."""
        return 1

    @abstractmethod
    def combine(
        self, states: Iterable[Weights], weights: Sequence[float], before: Weights
    ) -> dict[str, Tensor]:
        """Return one state of those of several clients.

        Args:
            states: Of the clients, with equal entries, one at least.
            weights: The weight of each, where the rule has weights.
            before: What clients started from; it has the entries of the states, and maybe
                others.

        Raises:
            ValueError: If the states differ in their entries, or if weights cannot be
                normalised.
        """

    def combine_parts(self, whole: Weights, parts: Sequence[Part]) -> dict[str, Tensor]:
        """Return one whole state of those of nested sub-models.

        Args:
            whole: The whole model's state before; what nobody holds keeps its bits.
            parts: The sub-models.

        Raises:
            ConfigError: If the rule compares whole models and one of them is not whole.
        """
        if not parts:
            return dict(whole)
        if not all(_is_whole(part) for part in parts):
            raise ConfigError(
                f"average: {self.name}: found clients that hold, or speak for, a part of "
                "the model, expected the whole model of each, for it measures distances "
                "between them. Choose median, trimmed_mean or norm_clip, or, where "
                "classes are left out, rows: all."
            )
        states = [part.weights for part in parts]
        weights = [part.weight for part in parts]
        return {**whole, **self.combine(states, weights, whole)}

    def plain(self) -> Any:
        """Return the name if there is nothing else to say, else every option."""
        options = self.model_dump(mode="json")
        return options if len(options) > 1 else self.name


class Mean(Rule):
    """The mean, weighted as the strategy says: FedAvg's.

    Paper: McMahan et al., AISTATS 2017, arXiv:1602.05629v4, Algorithm 1.
    Breakdown: 0. One client moves the mean as far as it likes.
    Weights: the strategy's.
    """

    name: Literal["mean"] = "mean"
    """Its name."""

    def combine(
        self, states: Iterable[Weights], weights: Sequence[float], before: Weights
    ) -> dict[str, Tensor]:
        """Return sum_k p_k s_k; ``before`` plays no part."""
        del before
        return weighted_average(states, weights)

    def combine_parts(self, whole: Weights, parts: Sequence[Part]) -> dict[str, Tensor]:
        """Return the mean over those who hold a coordinate."""
        return partial_average(whole, parts)


def _is_whole(part: Part) -> bool:
    every = part.classes is None or bool(part.classes.all())
    return part.where.is_whole and every


MEAN = Mean()
"""The mean: what every strategy does unless the option ``average`` says otherwise."""


def gathered(states: Iterable[Weights]) -> list[Weights]:
    """Return the states, all in memory.

    Raises:
        ValueError: If there are none, or if they differ in their entries.
    """
    every = list(states)
    if not every:
        raise ValueError("cannot average no states: expected one at least.")
    odd = {name for one in every for name in set(one) ^ set(every[0])}
    if odd:
        raise ValueError(
            "cannot average states of different models; these entries are not in all "
            f"of them: {', '.join(sorted(odd))}."
        )
    return every


def is_real(value: Tensor) -> bool:
    """Say whether an entry is a parameter or a statistic, and no whole number."""
    return value.is_floating_point()


def truncated(value: Tensor, like: Tensor) -> Tensor:
    """Return a value in the type of another; for whole numbers it is cut."""
    return value.to(like.dtype) if is_real(like) else value.trunc().to(like.dtype)


def column(states: Sequence[Weights], entry: str) -> Tensor:
    """Return one entry of all states, ``[K, ...]``; whole numbers in float64."""
    stacked = torch.stack([state[entry].detach() for state in states])
    return stacked if is_real(stacked) else stacked.double()
