"""The losses of DFRD: fidelity, transferability and the distillation of the ensemble."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from fedkd.ops.distillation import kl_rows


def fidelity_loss(ensemble_BC: Tensor, labels_B: Tensor) -> Tensor:
    """Return L_fid = CE(ensemble, y), the mean over the batch; a scalar.

    The ensemble's logits are sum_k tau_ky f_k(x).
    """
    return F.cross_entropy(ensemble_BC, labels_B)


def useful_side(ensemble_BC: Tensor, global_BC: Tensor, labels_B: Tensor) -> Tensor:
    """Return eps: where the ensemble is right and the global model is not, ``[B]``."""
    right_B = ensemble_BC.argmax(dim=1) == labels_B
    return right_B & (global_BC.argmax(dim=1) != labels_B)


def transferability_loss(
    ensemble_BC: Tensor,
    global_BC: Tensor,
    labels_B: Tensor,
    temperature: float = 1.0,
) -> Tensor:
    """Return L_tran = -mean_b eps_b KL(ensemble || global); a scalar (paper).

    The mean is over all B images, so that an empty selection gives 0. Logits are divided
    by T; there is no factor T^2.
    """
    rows_B = kl_rows(ensemble_BC, global_BC, temperature) / temperature**2
    return -(rows_B * useful_side(ensemble_BC, global_BC, labels_B)).mean()


def dfdg_transferability_loss(
    ensemble_BC: Tensor,
    global_BC: Tensor,
    labels_B: Tensor,
    temperature: float = 1.0,
) -> Tensor:
    """Return -sum_b eps_b KL(global || ensemble) / sum_b eps_b; a scalar (DFDG).

    The global model's logits are detached. An empty selection gives 0; in DFDG it gives
    NaN and ends the generator.
    """
    rows_B = kl_rows(global_BC.detach(), ensemble_BC, temperature) / temperature**2
    chosen_B = useful_side(ensemble_BC, global_BC, labels_B)
    return -(rows_B * chosen_B).sum() / chosen_B.sum().clamp(min=1)


def distillation_loss(
    ensemble_BC: Tensor, global_BC: Tensor, temperature: float = 1.0
) -> Tensor:
    """Return L_md = mean_b KL(ensemble || global), without a factor T^2; a scalar."""
    return (kl_rows(ensemble_BC, global_BC, temperature) / temperature**2).mean()
