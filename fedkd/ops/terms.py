"""The weighted terms of a generator's loss: their sum, and the part that each has in it."""

from __future__ import annotations

import functools
import warnings
from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor

VANISHED = 1e-30
"""A term no larger than this has underflowed, nearly or wholly, in float32."""
ENOUGH = 20
"""Over fewer steps a term of some images only may well have none to look at."""


class WeightedTerms:
    """Adds up sum_i w_i L_i at every step of a stage, and keeps what the terms were.

    For example::

        terms = WeightedTerms()
        for _ in range(steps):
            ...
            adam.step(terms.sum(x, label=(1.0, of_label), diversity=(0.5, apart)))
        for name, value in terms.report().items():
            server.log(name, value)
    """

    def __init__(self, *selective: str) -> None:
        """Begin without steps.

        Args:
            selective: Terms of some images only, which may well be 0 in a short stage.
        """
        self._least = dict.fromkeys(selective, ENOUGH)
        self._values: dict[str, list[Tensor]] = defaultdict(list)
        self._shares: dict[str, float] = {}
        self._weighty: set[str] = set()

    def sum(self, x: Tensor, **terms: tuple[float, Tensor]) -> Tensor:
        """Return sum_i w_i L_i, added in the order given; a scalar.

        Args:
            x: The generated images that the terms are of, with their graph.
            terms: At least one w_i, below 0 for what is sought, with L_i, a scalar.
        """
        weighted = {name: weight * value for name, (weight, value) in terms.items()}
        if not self._values and x.requires_grad:  # one step of a stage is enough
            self._shares = gradient_shares(weighted, x)
        for name, (weight, value) in terms.items():
            self._values[name].append(value.detach())
            if weight:
                self._weighty.add(name)
        return functools.reduce(torch.add, weighted.values())

    def report(self) -> dict[str, Tensor | float]:
        """Return ``NAME_loss``, the mean over the steps, and ``NAME_share`` of each term.

        Warns:
            RuntimeWarning: If a term that has weight was 0 at every step; a selective
                one, of 20 or more.
        """
        values = {name: torch.stack(steps) for name, steps in self._values.items()}
        # Asked of every term: that some are left out must not hang on the steps.
        largest = [steps.abs().max().item() for steps in values.values()]
        idle = [
            name
            for (name, steps), most in zip(values.items(), largest, strict=True)
            if name in self._weighty
            and len(steps) >= self._least.get(name, 1)
            and most <= VANISHED
        ]
        if idle:
            warnings.warn(
                f"the generator's loss has weight on {' and '.join(idle)}, which stayed 0 "
                "over all steps of a round and so changed nothing. Choose another form of "
                "it, more steps, or weight 0 to say that this is meant.",
                RuntimeWarning,
                stacklevel=2,
            )
        means = {f"{name}_loss": steps.mean() for name, steps in values.items()}
        return means | {f"{name}_share": s for name, s in self._shares.items()}


def gradient_shares(terms: Mapping[str, Tensor], x: Tensor) -> dict[str, float]:
    """Return each term's share of the norms of the gradients; they sum to 1, or are 0.

    Args:
        terms: Weighted terms of a loss, scalars whose graph is kept.
        x: What they were computed of.
    """
    norms = {}
    for name, term in terms.items():
        slope = None
        if term.requires_grad:  # one without a graph is a constant
            (slope,) = torch.autograd.grad(
                term, x, retain_graph=True, allow_unused=True
            )
        norms[name] = 0.0 if slope is None else slope.norm().item()
    whole = sum(norms.values())
    return {name: norm / whole if whole else 0.0 for name, norm in norms.items()}
