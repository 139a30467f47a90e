"""An exponential moving average of a module's weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class WeightAverage:
    """Averages the weights of a module over its training steps.

    a_0 = q, the weights at the start; a_n = d a_{n-1} + (1 - d) p_n, so that constant
    weights p give p + (q - p) d^n. Corrected, the start is left out: a_n is the mean of
    p_1 .. p_n with weights d^(n-i), which is what Adam's correction gives (Kingma, Ba,
    arXiv:1412.6980, section 3). Entries that are whole numbers are copied, not averaged.
    """

    def __init__(
        self, module: nn.Module, decay: float, *, corrected: bool = False
    ) -> None:
        """Start from the module's weights.

        Args:
            module: What is averaged; it is copied, on its device.
            decay: d, in [0, 1).
            corrected: Whether the start is left out.

        Raises:
            ValueError: If ``decay`` is not in [0, 1).
        """
        if not 0 <= decay < 1:
            raise ValueError(f"found decay={decay}; expected a number in [0, 1).")
        self._decay = decay
        self._corrected = corrected
        self._steps = 0
        self._average = {
            name: value.detach().clone() for name, value in module.state_dict().items()
        }

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take in the module's weights after a step."""
        self._steps += 1
        share = self._share()
        for name, value in module.state_dict().items():
            average = self._average[name]
            if average.is_floating_point():
                average.lerp_(value, share)
            else:
                average.copy_(value)

    def _share(self) -> float:
        """Return the share of the newest weights: 1 - d, or (1 - d)/(1 - d^n)."""
        share = 1 - self._decay
        return share / (1 - self._decay**self._steps) if self._corrected else share

    def weights(self) -> dict[str, Tensor]:
        """Return a copy of the average; before the first step it is the start."""
        return {name: value.clone() for name, value in self._average.items()}

    def copy_to(self, module: nn.Module) -> None:
        """Write the average into ``module``."""
        module.load_state_dict(self._average)
