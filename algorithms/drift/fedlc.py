"""FedLC: logits are calibrated by how often a client has a class.

Paper: Zhang, Li, Li, Xu, Wu, Ding, Wu, "Federated Learning with Label Distribution Skew
    via Logits Calibration", ICML 2022, arXiv:2209.00189v2.
Algorithm: the loss of section 4: -log(e^{z_y} / sum_{i != y} e^{z_i}) with the calibrated
    logits z_c = f_c - tau n_c^{-1/4}, n_c the client's images of class c.
Code: none by the authors.
Deviations: the sum has the right class too by default (option ``denominator``): without
    it the loss has no lower bound, and training diverges under strong skew. A class that
    the client does not have, for which n_c^{-1/4} has no value, is left out of the sum,
    as in the limit: a client of one class has a loss of 0 and learns nothing.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from fedkd.algorithms.averaging import AverageConfig, Averaging
from fedkd.strategy import Client


class FedLCConfig(AverageConfig):
    """Hyper-parameters of FedLC."""

    tau: float = Field(0.5, ge=0)
    """tau, the strength of the calibration; the best value differs between sets."""
    denominator: Literal["others", "all"] = "all"
    """The classes of the sum: ``all`` gives the cross-entropy of calibrated logits;
    ``others``, all but the right one, the margin loss as it is printed, which has no
    lower bound."""


class FedLC(Averaging):
    """FedAvg with a calibrated loss at the clients."""

    Config = FedLCConfig
    config: FedLCConfig

    def train(self, client: Client, sent: None) -> None:
        """Train with the calibrated loss."""
        margins_C = margins(client.data.label_counts(), self.config.tau)
        margins_C = margins_C.to(client.device)
        others = self.config.denominator == "others"
        client.train(lambda logits, y: calibrated_loss(logits, y, margins_C, others))


def margins(counts_C: Tensor, tau: float) -> Tensor:
    """Return tau n_c^{-1/4} of every class, infinite where n_c is 0; ``[C]``."""
    scale_C = counts_C.double().pow(-0.25) * tau
    return torch.where(counts_C > 0, scale_C, torch.inf).float()


def calibrated_loss(
    logits_BC: Tensor, y: Tensor, margins_C: Tensor, others: bool
) -> Tensor:
    """Return the mean calibrated loss of a batch; a scalar.

    Args:
        logits_BC: Logits ``[B, C]``.
        y: Labels int64 ``[B]``.
        margins_C: What is taken off each logit, ``[C]``.
        others: Whether the right class is left out of the sum. Of a client of one class
            the loss is 0 either way, and so is its gradient.
    """
    z_BC = logits_BC - margins_C
    right_B = z_BC.gather(1, y[:, None]).squeeze(1)
    if others:
        z_BC = z_BC.scatter(1, y[:, None], -torch.inf)
        if bool(torch.isinf(z_BC).all(dim=1).any()):
            return logits_BC.sum() * 0
    return (z_BC.logsumexp(1) - right_B).mean()
