"""FedNTD: clients keep what the global model says of the classes that are not the label.

Paper: Lee, Jeong, Shin, Bae, Yun, "Preservation of the Global Knowledge by Not-True
    Distillation in Federated Learning", NeurIPS 2022, arXiv:2106.03097v5.
Algorithm: section 4: L = L_CE + beta L_NTD with
    L_NTD = sum_{c != y} q_g(c) log(q_g(c) / q_l(c)), the mean over a batch, where q_g and
    q_l are the softmax of the received and of the local model's logits over tau, of the
    classes other than the label y.
Code: github.com/Lee-Gihun/FedNTD, commit be00ee5.
Deviations: the received model is in eval mode; in the code it is in whichever mode the
    working model was in. The code multiplies L_NTD by tau^2, which the equation has not:
    a beta that is tau^2 times as large does the same here, and at tau = 1, the code's
    setting, the two are one. With two classes one is left, of which both are sure: L_NTD
    is then 0. Forward passes of the received model are not counted as work.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from fedkd.algorithms.averaging import AverageConfig, Averaging
from fedkd.ops.distillation import kl
from fedkd.strategy import Client
from fedkd.weights import frozen_copy


class FedNTDConfig(AverageConfig):
    """Hyper-parameters of FedNTD."""

    beta: float = Field(1.0, ge=0)
    """beta, the weight of not-true distillation; 1 in the released code. 0 is FedAvg, bit
    for bit. The code multiplies it by tau^2."""
    temperature: float = Field(1.0, gt=0)
    """tau, by which logits are divided; 1 in the released code."""


class FedNTD(Averaging):
    """FedAvg with distillation from the received model, but for the label's class."""

    Config = FedNTDConfig
    config: FedNTDConfig

    def train(self, client: Client, sent: None) -> None:
        """Train by L_CE + beta L_NTD (section 4)."""
        beta, tau = self.config.beta, self.config.temperature
        if not beta:
            client.train()
            return
        received = frozen_copy(client.model)

        def objective(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            logits_BC = model(x)
            with torch.no_grad():
                global_BC = received(x)
            kept = not_true_distillation(global_BC, logits_BC, y, tau)
            return F.cross_entropy(logits_BC, y), beta * kept

        client.train(objective=objective)


def not_true_distillation(
    global_BC: Tensor, logits_BC: Tensor, y: Tensor, temperature: float
) -> Tensor:
    """Return L_NTD, mean over the batch; a scalar.

    Args:
        global_BC: Logits of the received model, ``[B, C]``.
        logits_BC: Logits of the model that learns, ``[B, C]``.
        y: Labels int64 ``[B]``, whose classes are left out.
        temperature: tau.
    """
    teacher, student = not_true(global_BC, y), not_true(logits_BC, y)
    return kl(teacher, student, temperature) / temperature**2


def not_true(logits_BC: Tensor, y: Tensor) -> Tensor:
    """Return the logits without that of each label, ``[B, C - 1]``, in their order."""
    places = torch.arange(logits_BC.shape[1] - 1, device=logits_BC.device)
    return logits_BC.gather(1, places + (places >= y[:, None]))
