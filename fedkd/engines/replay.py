"""A function captured once as a CUDA graph and replayed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

WARM_UPS = 3
"""Runs before a capture: libraries choose their kernels and their memory in them."""


class Replay:
    """A function of tensors without a result, captured once and replayed.

    On a CUDA device, warm-up runs on a stream of its own come first; what they change, and
    the random numbers that they draw, is put back. Random numbers in the function are drawn
    from torch's default CUDA generator, which ``torch.cuda.graph`` registers: a replay goes
    on where that generator stands, so it draws what an eager run would draw there.
    """

    def __init__(
        self,
        function: Callable[..., None],
        inputs: Sequence[Tensor],
        changed: Sequence[Tensor],
    ) -> None:
        """Capture; nothing that the function computes has happened afterwards.

        Args:
            function: Called with the inputs' own copies; it must run the same kernels on
                the same memory every time, and wait for none of them.
            inputs: Examples, valid ones.
            changed: All that the function writes to and that lasts.

        Raises:
            RuntimeError: If the function cannot be captured.
        """
        self._inputs = [value.clone() for value in inputs]
        self._function = function
        self._graph: Any = None
        if self._inputs[0].is_cuda:
            with torch.cuda.device(self._inputs[0].device):
                self._graph = self._captured(changed)

    def _captured(self, changed: Sequence[Tensor]) -> Any:
        device = self._inputs[0].device
        before = [value.detach().clone() for value in changed]
        side, main = torch.cuda.Stream(device), torch.cuda.current_stream(device)
        graph = torch.cuda.CUDAGraph()
        try:
            side.wait_stream(main)
            with torch.random.fork_rng(devices=[device]), torch.cuda.stream(side):
                for _ in range(WARM_UPS):
                    self._function(*self._inputs)
            main.wait_stream(side)
            with torch.cuda.graph(graph):
                self._function(*self._inputs)
        finally:
            main.wait_stream(side)
            with torch.no_grad():
                for value, old in zip(changed, before, strict=True):
                    value.copy_(old)
        return graph

    def __call__(self, *inputs: Tensor) -> None:
        """Run the function on ``inputs``, of the examples' shapes and types."""
        for own, value in zip(self._inputs, inputs, strict=True):
            own.copy_(value, non_blocking=True)
        if self._graph is None:
            self._function(*self._inputs)
        else:
            self._graph.replay()
