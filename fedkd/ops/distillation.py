"""Losses between the logits of a student and a teacher; each but one returns a scalar.

Nothing is detached here: a teacher that must not learn is given without its graph. Equal
logits give a Kullback-Leibler term of exactly 0, and logits of -inf (a class that is
ruled out) give no NaN on the teacher's side.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def kl(teacher_BC: Tensor, student_BC: Tensor, temperature: float = 1.0) -> Tensor:
    """Return T^2 KL(softmax(t/T) || softmax(s/T)), sum over classes, mean over B.

    Source: Hinton, Vinyals, Dean, "Distilling the Knowledge in a Neural Network",
    arXiv:1503.02531, section 2; T^2 keeps the gradient's size when T changes.
    """
    log_t_BC = _log_probabilities(teacher_BC / temperature)
    log_s_BC = F.log_softmax(student_BC / temperature, dim=1)
    return temperature**2 * _divergence(log_t_BC, log_s_BC)


def kl_rows(teacher_BC: Tensor, student_BC: Tensor, temperature: float = 1.0) -> Tensor:
    """Return T^2 KL(softmax(t/T) || softmax(s/T)) of each image, ``[B]``.

    For sums that mask or weight images; :func:`kl` is the mean over B.
    """
    log_t_BC = _log_probabilities(teacher_BC / temperature)
    log_s_BC = F.log_softmax(student_BC / temperature, dim=1)
    rows_BC = F.kl_div(log_s_BC, log_t_BC, reduction="none", log_target=True)
    return temperature**2 * rows_BC.sum(dim=1)


def bhattacharyya(student_BC: Tensor, teacher_BC: Tensor) -> Tensor:
    """Return -ln sum_c sqrt(P_c Q_c), P and Q the softmax of each, mean over B.

    The released Mosaic code (commit a7f8b5b, ``manager_mosaic.py``) computes this, as
    KL(M || P)/2 + KL(M || Q)/2 with M = softmax((s + t)/2), under the name JSD.
    """
    log_s_BC = _log_probabilities(student_BC)
    log_t_BC = _log_probabilities(teacher_BC)
    return -torch.logsumexp((log_s_BC + log_t_BC) / 2, dim=1).mean()


def jensen_shannon(student_BC: Tensor, teacher_BC: Tensor) -> Tensor:
    """Return KL(P || M)/2 + KL(Q || M)/2, M = (P + Q)/2, mean over B; at most ln 2.

    Source: Lin, "Divergence Measures Based on the Shannon Entropy", 1991, Eq. 4.1.
    """
    log_s_BC = _log_probabilities(student_BC)
    log_t_BC = _log_probabilities(teacher_BC)
    log_m_BC = torch.logaddexp(log_s_BC, log_t_BC) - math.log(2)
    return (_divergence(log_s_BC, log_m_BC) + _divergence(log_t_BC, log_m_BC)) / 2


def _log_probabilities(logits_BC: Tensor) -> Tensor:
    """Return log softmax, with the least finite number instead of -inf."""
    least = torch.finfo(logits_BC.dtype).min
    return F.log_softmax(logits_BC, dim=1).clamp(min=least)


def _divergence(log_p_BC: Tensor, log_q_BC: Tensor) -> Tensor:
    """Return KL(p || q), sum over classes, mean over B."""
    return F.kl_div(log_q_BC, log_p_BC, reduction="batchmean", log_target=True)
