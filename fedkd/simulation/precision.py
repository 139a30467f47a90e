"""The arithmetic of a run: float32, tf32 tensor cores, or bfloat16 autocast.

Weights, payloads and states are float32 in all of them; what changes is how products and
convolutions are computed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, MutableMapping
from typing import Any, Literal, TypeAlias, TypeVar

import torch

from fedkd.errors import ConfigError
from fedkd.ops.tf32 import set_tf32_flags, tf32_flags
from fedkd.payload import put_together, take_apart

Precision: TypeAlias = Literal["fp32", "tf32", "bf16"]

Tree = TypeVar("Tree")


def check_precision(precision: Precision, device: torch.device) -> None:
    """Refuse a precision that ``device`` does not have.

    Raises:
        ConfigError: For tf32 anywhere but on a GPU.
    """
    if precision == "tf32" and device.type != "cuda":
        raise ConfigError(
            f"precision: tf32 is a mode of a GPU's tensor cores, and this run is on "
            f"{device}; use fp32 or bf16, or --device cuda."
        )


@contextlib.contextmanager
def arithmetic(precision: Precision, device: torch.device) -> Iterator[None]:
    """Compute with ``precision`` on ``device`` inside the block."""
    with contextlib.ExitStack() as stack:
        if device.type == "cuda":
            stack.enter_context(_tf32(precision == "tf32"))
        if precision == "bf16":
            # Without its cache of converted weights, which would go stale at the first
            # optimiser step: the block is a whole verb, not one forward pass.
            cast = torch.autocast(device.type, torch.bfloat16, cache_enabled=False)
            stack.enter_context(cast)
        yield


@contextlib.contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    """Allow tf32 or not; of itself torch allows it in convolutions."""
    before = tf32_flags()
    set_tf32_flags((allowed, allowed))
    try:
        yield
    finally:
        set_tf32_flags(before)


def widened(tree: Tree, sender: str) -> Tree:
    """Return a tree whose bfloat16 tensors are float32; the same one without such."""
    structure, tensors = take_apart(tree, sender)
    if all(t.dtype != torch.bfloat16 for t in tensors):
        return tree
    wide = [t.float() if t.dtype == torch.bfloat16 else t for t in tensors]
    widened_tree: Tree = put_together(structure, wide)
    return widened_tree


def widen_memory(memory: MutableMapping[str, Any], sender: str) -> None:
    """Do as :func:`widened` does with what a client remembers, in place."""
    for key, value in memory.items():
        memory[key] = widened(value, sender)
