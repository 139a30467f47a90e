"""Stochastic gradient descent that costs nothing to start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class FastSgd:
    """``torch.optim.SGD(..., foreach=True)`` to the bit, without its fixed costs.

    A client's round may be three steps long. Then setting up an optimiser of torch, with
    its groups, defaults and hooks, takes longer than the steps' own arithmetic.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        lr: float,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        """Start with momentum zero.

        Args:
            parameters: What is changed, in place; dense gradients.
            lr: Learning rate.
            momentum: Share of the last step that is added to the next one's gradient.
            weight_decay: L2 penalty, added to the gradient.
        """
        self.parameters = list(parameters)
        self.lr = lr
        """The learning rate of the next step."""
        self._momentum = momentum
        self._decay = weight_decay
        self.last: dict[int, Tensor] = {}
        """The last step of each parameter that has taken one; empty without momentum."""

    def zero_grad(self) -> None:
        """Drop the gradients."""
        for p in self.parameters:
            p.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Do p <- p - lr b with b <- momentum b + g + decay p; b starts as the first g."""
        used = [(i, p) for i, p in enumerate(self.parameters) if p.grad is not None]
        if not used:
            return
        values: Any = [p for _, p in used]
        grads: Any = [p.grad for p in values]
        if self._decay:
            grads = torch._foreach_add(grads, values, alpha=self._decay)
        if self._momentum:
            grads = self._moved([i for i, _ in used], grads)
        torch._foreach_add_(values, grads, alpha=-self.lr)

    def _moved(self, places: list[int], grads: Sequence[Tensor]) -> list[Tensor]:
        """Take gradients into the momentum of their parameters; return it."""
        old = [(i, g) for i, g in zip(places, grads, strict=True) if i in self.last]
        if old:
            kept: Any = [self.last[i] for i, _ in old]
            torch._foreach_mul_(kept, self._momentum)
            torch._foreach_add_(kept, [g for _, g in old])
        for i, g in zip(places, grads, strict=True):
            if i not in self.last:
                self.last[i] = g.detach().clone()
        return [self.last[i] for i in places]
