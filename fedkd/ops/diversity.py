"""A loss that keeps a generator from making the same thing of different noise."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Metric = Literal["l1", "l2", "norms"]
"""How far two noises, and two outputs, are from each other: see the loss."""


def diversity_loss(noise_BZ: Tensor, x: Tensor, metric: Metric) -> Tensor:
    """Return exp(-mean_ij d_n(i, j) d_x(i, j)) over all pairs of a batch; a scalar.

    It is in (0, 1], and 1 if all outputs, or all noises, are equal. There its gradient
    is 0: a generator that has collapsed wholly is not freed by this loss.

    Args:
        noise_BZ: What the generator was given.
        x: What it made of it, ``[B, ...]``.
        metric: ``l1``: d_n is the mean squared difference, d_x the mean absolute one
            (FedGen, FedFTG, released codes). ``l2``: both are mean squared differences
            (DFDG, released code). ``norms``: both are Euclidean distances (DFRD);
            they grow with the size of x, so that from 28x28 on the loss of a fresh
            generator and its gradient vanish in float32.
    """
    x_BD = x.flatten(1)
    noise_BB, x_BB = _euclidean(noise_BZ), _euclidean(x_BD)
    if metric == "norms":
        return torch.exp(-(noise_BB * x_BB).mean())
    noise_BB = noise_BB**2 / noise_BZ.shape[1]
    if metric == "l1":
        x_BB = torch.cdist(x_BD, x_BD, p=1.0) / x_BD.shape[1]
    else:
        x_BB = x_BB**2 / x_BD.shape[1]
    return torch.exp(-(noise_BB * x_BB).mean())


def _euclidean(rows_BD: Tensor) -> Tensor:
    """Return ||a_i - a_j||_2, exactly 0 on the diagonal; ``[B, B]``."""
    exact = "donot_use_mm_for_euclid_dist"
    return torch.cdist(rows_BD, rows_BD, compute_mode=exact)
