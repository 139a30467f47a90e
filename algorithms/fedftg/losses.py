"""The losses of FedFTG's search and lesson, as paper and two released codes have them.

In all of them K models answer B images: ``logits_KBC`` are the clients' logits and
``weights_KB`` holds tau_ky, the share of client k in the images of class y = y_b.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from fedkd.ops.distillation import kl_rows

Direction = Literal["global_local", "local_global"]


def class_loss(logits_KBC: Tensor, labels_B: Tensor, weights_KB: Tensor) -> Tensor:
    """Return L_cls = sum_k mean_b tau_ky CE(f_k(x_b), y_b); a scalar (paper)."""
    clients, images, _ = logits_KBC.shape
    rows = F.cross_entropy(
        logits_KBC.flatten(0, 1), labels_B.repeat(clients), reduction="none"
    )
    return (weights_KB.to(rows) * rows.view(clients, images)).sum(0).mean()


def discrepancy(
    global_BC: Tensor,
    logits_KBC: Tensor,
    weights_KB: Tensor,
    *,
    direction: Direction = "global_local",
    temperature: float = 1.0,
) -> Tensor:
    """Return L_md = sum_k mean_b tau_ky D(f, f_k); a scalar.

    D is KL(softmax(f/T) || softmax(f_k/T)) for ``global_local``, and the other way round
    for ``local_global``; it is summed over classes and has no factor T^2. Equal models
    give exactly 0. Divided by the number of classes it is LightFed's.
    """
    clients, images, classes = logits_KBC.shape
    local = logits_KBC.reshape(clients * images, classes)
    whole = global_BC.expand(clients, images, classes).reshape_as(local)
    first, second = (whole, local) if direction == "global_local" else (local, whole)
    rows = kl_rows(first, second, temperature) / temperature**2
    return (weights_KB.to(rows) * rows.view(clients, images)).sum(0).mean()


def official_class_loss(
    logits_BC: Tensor, labels_B: Tensor, weights_B: Tensor
) -> Tensor:
    """Return CE(f_k(x), y) mean_b tau_ky of one client; a scalar (released code).

    The mean comes before the weights, so that a class's weight reaches all images.
    """
    rows_B = weights_B.to(logits_BC)
    return (F.cross_entropy(logits_BC, labels_B) * rows_B).mean()


def official_discrepancy(
    global_BC: Tensor, logits_BC: Tensor, weights_B: Tensor
) -> Tensor:
    """Return mean_b tau_ky mean_c |f - f_k| of one client; a scalar (released code).

    The client's logits are detached.
    """
    gap_B = (global_BC - logits_BC.detach()).abs().mean(dim=1)
    return (gap_B * weights_B.to(gap_B)).mean()


def official_student_loss(
    global_BC: Tensor, logits_KBC: Tensor, weights_KB: Tensor
) -> Tensor:
    """Return -mean_bc log f_bc sum_k tau_ky f_kbc, f softmax; a scalar (released code).

    The cross-entropy with an average of probabilities, divided by the number of classes.
    """
    weights = weights_KB.to(logits_KBC).unsqueeze(2)
    target_BC = (weights * logits_KBC.softmax(dim=2)).sum(0)
    return -(F.log_softmax(global_BC, dim=1) * target_BC).mean()
