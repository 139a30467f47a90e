"""Updates of few singular values: what FedKD sends in place of whole tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from fedkd.errors import DivergedError


@dataclass(frozen=True)
class Factors:
    """A matrix ``[P, Q]`` as U diag(s) V; a longer shape is one of P rows."""

    u: Tensor
    """U, ``[P, K]``."""
    s: Tensor
    """The K largest singular values, descending, ``[K]``."""
    v: Tensor
    """V, ``[K, Q]``."""
    shape: tuple[int, ...]
    """The shape of the tensor, which begins with P."""


Update: TypeAlias = Mapping[str, Tensor | Factors]
"""How weights change, by entry: factors, or the difference itself where it is smaller."""


def compressed(
    change: Mapping[str, Tensor], energy: float, device: torch.device
) -> dict[str, Tensor | Factors]:
    """Return each difference of weights by as few singular values as are needed.

    Args:
        change: Differences, by entry, on the CPU.
        energy: T in [0, 1], the share of the energy that is kept.
        device: Where the values are computed.

    Raises:
        DivergedError: If a difference is not finite.
    """
    return {n: factorised(value, energy, device) for n, value in change.items()}


def factorised(tensor: Tensor, energy: float, device: torch.device) -> Tensor | Factors:
    """Return a tensor by its largest singular values, or itself.

    A vector, whole numbers, and a tensor that has no more numbers than its factors would
    have, K (P + Q + 1), come back as they are.

    Raises:
        DivergedError: If an entry is not finite.
    """
    if tensor.dim() < 2 or not tensor.is_floating_point():
        return tensor
    if not torch.isfinite(tensor).all():
        raise DivergedError(
            "the update of the shared network is not finite: training diverged. Lower "
            "training.lr or set training.clip_norm."
        )
    matrix_PQ = tensor.flatten(1).to(device)
    u, s, v = torch.linalg.svd(matrix_PQ, full_matrices=False)
    k = rank(s, energy)
    p, q = matrix_PQ.shape
    if k * (p + q + 1) >= p * q:
        return tensor
    return Factors(
        _copied(u[:, :k]), _copied(s[:k]), _copied(v[:k]), tuple(tensor.shape)
    )


def _copied(part: Tensor) -> Tensor:
    """Return a copy on the CPU: a view would keep all of the factors in memory."""
    return part.to("cpu", copy=True, memory_format=torch.contiguous_format)


def rank(s: Tensor, energy: float) -> int:
    """Return the least K, 1 at least, whose singular values keep a share of the energy.

    Their squares add up to ``energy`` of the sum of all squares, or more.

    Args:
        s: Singular values, descending.
        energy: T in [0, 1].
    """
    kept = s.double().square().cumsum(0)
    return int((kept < energy * kept[-1]).sum()) + 1


def restored(update: Update) -> dict[str, Tensor]:
    """Return the differences that an update stands for, on the CPU."""
    return {
        n: _product(part) if isinstance(part, Factors) else part
        for n, part in update.items()
    }


def _product(part: Factors) -> Tensor:
    """Return U diag(s) V in the shape of the tensor."""
    # Rounded from float64: both sides must get the same, with any number of threads.
    matrix_PQ = (part.u.double() * part.s.double()) @ part.v.double()
    return matrix_PQ.reshape(part.shape).to(part.u.dtype)
