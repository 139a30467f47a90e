"""Stochastic gradient descent in memory that stays where it is."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class StaticSgd:
    """The steps of :class:`fedkd.ops.sgd.FastSgd` in memory that a CUDA graph can use.

    The learning rate is a number on the device and the momentum starts as zeros, so that
    neither a new rate nor a new start is another computation. One fused kernel takes a
    step. Equal to :class:`fedkd.ops.sgd.FastSgd` up to rounding; without momentum, on x86
    CPUs, to the bit.
    """

    def __init__(
        self, parameters: Sequence[Tensor], momentum: float, weight_decay: float
    ) -> None:
        """Reserve the memory; :meth:`start` comes before the first step.

        Args:
            parameters: What is changed, in place; float32 on one device, not empty.
            momentum: Share of the last step that is added to the next one's gradient.
            weight_decay: L2 penalty, added to the gradient.
        """
        self.parameters = list(parameters)
        self.lr = torch.zeros((), device=self.parameters[0].device)
        """The learning rate, a scalar on the device."""
        self.last = [torch.zeros_like(p) for p in self.parameters if momentum]
        """The last step of each parameter; empty without momentum."""
        self._momentum = momentum
        self._decay = weight_decay

    def start(self, lr: float) -> None:
        """Begin anew with the rate ``lr`` and momentum zero."""
        self.lr.fill_(lr)
        if self.last:
            torch._foreach_zero_(self.last)

    def zero_grad(self) -> None:
        """Drop the gradients."""
        for p in self.parameters:
            p.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Do as :meth:`fedkd.ops.sgd.FastSgd.step`."""
        used = [(i, p, p.grad) for i, p in enumerate(self.parameters)]
        pairs = [(i, p, _laid_out(g, p)) for i, p, g in used if g is not None]
        if not pairs:
            return
        torch._fused_sgd_(
            [p for _, p, _ in pairs],
            [g for _, _, g in pairs],
            [self.last[i] for i, _, _ in pairs] if self.last else [],
            weight_decay=self._decay,
            momentum=self._momentum,
            lr=self.lr,
            dampening=0.0,
            nesterov=False,
            maximize=False,
            is_first_step=False,
        )


def _laid_out(grad: Tensor, p: Tensor) -> Tensor:
    """Return a gradient with the strides of its parameter.

    Autograd lays them out alike but for dimensions of size one, whose strides mean
    nothing and which the fused kernel compares all the same.
    """
    return grad if grad.stride() == p.stride() else grad.as_strided(p.shape, p.stride())
