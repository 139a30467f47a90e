"""Robust averages by distances between the clients' models: Krum and its kin.

Distances run over all parameters and floating statistics together: whatever is averaged
is looked at, so that nobody hides in a running variance.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from fedkd.ops.averaging import weighted_average
from fedkd.payload import Weights
from fedkd.robust.coordinates import counters, medians
from fedkd.robust.rule import Rule, column, gathered, is_real, truncated

_OTHERS = 3


def squared_distances(states: Sequence[Weights], before: Weights) -> Tensor:
    """Return ||s_i - s_j||^2, float64 ``[K, K]``, over floating entries.

    A state with a value that is not finite is infinitely far from every other, and has
    distance 0 to itself.

    Args:
        states: Model states with equal entries.
        before: Near them: products of large numbers would hide small differences.
    """
    number = len(states)
    products_KK = torch.zeros(number, number, dtype=torch.float64)
    odd_K = torch.zeros(number, dtype=torch.bool)
    for entry, value in states[0].items():
        if not is_real(value):
            continue
        moves_KP = (column(states, entry) - before[entry]).double().reshape(number, -1)
        odd_K |= ~moves_KP.isfinite().all(1)
        moves_KP[odd_K] = 0
        products_KK += moves_KP @ moves_KP.T
    own_K = products_KK.diagonal()
    distances_KK = (own_K[:, None] + own_K - 2 * products_KK).clamp(min=0)
    distances_KK[odd_K] = torch.inf
    distances_KK[:, odd_K] = torch.inf
    return distances_KK.fill_diagonal_(0)


def krum_scores(distances_KK: Tensor, attackers: int) -> Tensor:
    """Return the sum of each client's distances to its K - f - 2 nearest, ``[K]``.

    Blanchard et al. 2017, section 4. At least one neighbour is counted where there is one.

    Args:
        distances_KK: Squared distances.
        attackers: f.
    """
    number = len(distances_KK)
    neighbours = min(max(1, number - attackers - 2), number - 1)
    # The first is the client itself, at distance 0.
    return distances_KK.sort(1).values[:, 1 : neighbours + 1].sum(1)


def best(distances_KK: Tensor, attackers: int) -> list[int]:
    """Return the clients by their score, the best first; of equals the earlier.

    Two that are each other's nearest and have one neighbour are equal but for rounding,
    which then decides, alike in every run of a machine.
    """
    order: list[int] = (
        krum_scores(distances_KK, attackers).argsort(stable=True).tolist()
    )
    return order


def bulyan_choice(distances_KK: Tensor, attackers: int) -> list[int]:
    """Return the K - 2 f clients that Krum chooses one after another, ascending.

    El Mhamdi et al. 2018, section 4: each that is chosen leaves those to choose from.

    Args:
        distances_KK: Squared distances.
        attackers: f.
    """
    left = list(range(len(distances_KK)))
    chosen: list[int] = []
    while len(chosen) < len(distances_KK) - 2 * attackers:
        among = torch.tensor(left)
        chosen.append(left.pop(best(distances_KK[among][:, among], attackers)[0]))
    return sorted(chosen)


def mean_near_median(values_K: Tensor, number: int) -> Tensor:
    """Return the mean of the values that are nearest to the median, ``[...]``.

    El Mhamdi et al. 2018, section 4. Of two that are equally near, the smaller is taken.

    Args:
        values_K: ``[K, ...]``.
        number: beta, how many.
    """
    sorted_K = values_K.sort(0).values
    apart_K = (sorted_K - medians(values_K)).abs()
    nearest = apart_K.argsort(dim=0, stable=True)[:number]
    return sorted_K.gather(0, nearest).mean(0)


class ByDistance(Rule):
    """A rule that knows how many clients attack, and compares whole models."""

    needs_whole: ClassVar[bool] = True
    for_each: ClassVar[int] = 2
    """How many clients there must be for each that attacks, beside three others."""

    attackers: int = Field(1, ge=1)
    """f, the number of clients of a round that may attack. 1 is ours."""

    @property
    def least(self) -> int:
        """The paper's: 2 f + 3, or 4 f + 3 for Bulyan."""
        return self.for_each * self.attackers + _OTHERS

    def believed(self, clients: int) -> int:
        """Return f where fewer clients have answered: the most that they allow."""
        return min(self.attackers, max(0, (clients - _OTHERS) // self.for_each))


class Nearest(ByDistance):
    """The mean of the clients with the best scores."""

    def combine(
        self, states: Iterable[Weights], weights: Sequence[float], before: Weights
    ) -> dict[str, Tensor]:
        """Return the mean of those chosen, who count alike."""
        del weights
        every = gathered(states)
        f = self.believed(len(every))
        chosen = best(squared_distances(every, before), f)[: self.taken(len(every), f)]
        mean = weighted_average((every[k] for k in chosen), [1] * len(chosen))
        return {**mean, **counters(every)}

    @abstractmethod
    def taken(self, clients: int, attackers: int) -> int:
        """Return of how many clients the mean is, 1 at least."""


class Krum(Nearest):
    """The one client whose model is nearest to those around it.

    Paper: Blanchard, El Mhamdi, Guerraoui, Stainer, "Machine Learning with Adversaries:
        Byzantine Tolerant Gradient Descent", NeurIPS 2017, section 4.
    Breakdown: f of n clients with n >= 2 f + 3, so below 1/2.
    Weights: none; the model of one client is taken as it is.
    """

    name: Literal["krum"] = "krum"
    """Its name."""

    def taken(self, clients: int, attackers: int) -> int:
        """Return 1."""
        del clients, attackers
        return 1


class MultiKrum(Nearest):
    """The mean of the clients whose models are nearest to those around them.

    Paper: Blanchard, El Mhamdi, Guerraoui, Stainer, "Machine Learning with Adversaries:
        Byzantine Tolerant Gradient Descent", NeurIPS 2017, Multi-Krum.
    Breakdown: f of n clients with n >= 2 f + 3, so below 1/2.
    Weights: none; those chosen count alike.
    """

    name: Literal["multi_krum"] = "multi_krum"
    """Its name."""
    keep: int | None = Field(None, ge=1)
    """m, of how many clients the mean is; None: n - f - 2, as many as a score has
    neighbours. At most n - f: more could not do without an attacker."""

    @property
    def least(self) -> int:
        """The paper's 2 f + 3; and m + f, so that m do not attack."""
        return max(super().least, (self.keep or 0) + self.attackers)

    def taken(self, clients: int, attackers: int) -> int:
        """Return m, at most as many as do not attack."""
        wanted = clients - attackers - 2 if self.keep is None else self.keep
        return min(max(1, wanted), clients - attackers)


class Bulyan(ByDistance):
    """Krum's choice of clients, and of these what is near the median at each coordinate.

    Paper: El Mhamdi, Guerraoui, Rouault, "The Hidden Vulnerability of Distributed Learning
        in Byzantium", ICML 2018, arXiv:1802.07927, section 4.
    Breakdown: f of n clients with n >= 4 f + 3, so below 1/4.
    Weights: none; those chosen count alike.
    """

    for_each: ClassVar[int] = 4

    name: Literal["bulyan"] = "bulyan"
    """Its name."""

    def combine(
        self, states: Iterable[Weights], weights: Sequence[float], before: Weights
    ) -> dict[str, Tensor]:
        """Return, by coordinate, the mean of the n - 4 f chosen values near the median."""
        del weights
        every = gathered(states)
        f = self.believed(len(every))
        places = bulyan_choice(squared_distances(every, before), f)
        chosen = [every[k] for k in places]
        near = {
            n: truncated(mean_near_median(column(chosen, n), len(chosen) - 2 * f), like)
            for n, like in every[0].items()
        }
        return {**near, **counters(every)}
