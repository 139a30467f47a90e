"""Frozen models stacked into one, so that they answer in one call.

A small network on a GPU is bound by the launches of its kernels, not by their work; K of
one architecture, stacked by ``torch.func``, launch as many kernels as one. On a CPU
stacking has nothing to save and loses the layout that convolutions are fast in.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state


class Stacked(nn.Module):
    """Frozen models of one architecture that answer in one batched call."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        """Args: ``members`` are of one architecture; they are copied, not changed."""
        super().__init__()
        plain = torch.contiguous_format  # batched kernels know no other layout
        frozen = [
            copy.deepcopy(m).eval().requires_grad_(False).to(memory_format=plain)
            for m in members
        ]
        self._parameters_of, self._buffers_of = stack_module_state(frozen)
        # Without weights of its own: it only says what is computed.
        self._skeleton = [copy.deepcopy(frozen[0]).to("meta")]

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``[B, C, H, W]`` to logits ``[K, B, classes]``."""

        def answer(parameters: Any, buffers: Any) -> Tensor:
            logits: Tensor = functional_call(
                self._skeleton[0], (parameters, buffers), (x,)
            )
            return logits

        logits_KBC: Tensor = torch.vmap(answer)(self._parameters_of, self._buffers_of)
        return logits_KBC


def pays(members: Sequence[nn.Module]) -> bool:
    """Say whether stacking pays: on a GPU, for several models of one architecture."""
    return len(members) > 1 and _on_gpu(members[0]) and _alike(members)


def _on_gpu(model: nn.Module) -> bool:
    parameter = next(model.parameters(), None)
    return parameter is not None and parameter.is_cuda


def _alike(members: Sequence[nn.Module]) -> bool:
    """Say whether all models have one architecture, as far as layers and shapes tell."""

    def shape(model: nn.Module) -> tuple[str, list[tuple[str, torch.Size]]]:
        return repr(model), [(n, v.shape) for n, v in model.state_dict().items()]

    first = shape(members[0])
    return all(shape(member) == first for member in members[1:])
