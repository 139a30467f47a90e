"""FedSAM: clients take the gradient where their loss is worst nearby.

Paper: Qu, Li, Duan, Liu, Tang, Lu, "Generalized Federated Learning via Sharpness Aware
    Minimization", ICML 2022, arXiv:2206.02618v1; Caldarola, Caputo, Ciccone, "Improving
    Generalization in Federated Learning by Seeking Flat Minima", ECCV 2022,
    arXiv:2203.11834v3.
Algorithm: Algorithm 1 of Qu et al.; a step is that of SAM (Foret, Kleiner, Mobahi,
    Neyshabur, arXiv:2010.01412v3, Algorithm 1): g' is the gradient at w + rho g / ||g|| of
    the batch whose gradient at w is g, and w moves by g'.
Code: github.com/debcaldarola/fedsam, commit 64bbf93 (Caldarola et al.).
Deviations: only the pass at w moves the running statistics of BatchNorm; they are put back
    after the pass at w + rho g / ||g||, which uses the statistics of its batch. In the code
    both passes move them. ||g|| is one norm over all parameters; clipping, weight decay
    and momentum see g' alone. A gradient of 0 is left as it is. Clients weigh by their
    images, as in the code. Both passes count as work: an image of a step counts twice.
    Without momentum of the server (MoFedSAM), adaptive perturbations (FedASAM) and
    averages over rounds (SWA).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from fedkd.algorithms.averaging import AverageConfig, Averaging
from fedkd.strategy import Client
from fedkd.weights import buffers_kept


class FedSAMConfig(AverageConfig):
    """Hyper-parameters of FedSAM."""

    rho: float = Field(0.05, ge=0)
    """rho, how far the perturbed model is away; Foret et al. have 0.05, the script of
    Caldarola et al. 0.1. 0 is FedAvg, bit for bit."""


class FedSAM(Averaging):
    """FedAvg with sharpness-aware steps at the clients."""

    Config = FedSAMConfig
    config: FedSAMConfig

    def train(self, client: Client, sent: None) -> None:
        """Train by gradients at w + rho g / ||g||."""
        rho = self.config.rho
        if not rho:
            client.train()
            return
        batch: tuple[Tensor, Tensor] | None = None

        def objective(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, None]:
            nonlocal batch
            batch = x, y
            return F.cross_entropy(model(x), y), None

        def sharpened(model: nn.Module) -> None:
            assert batch is not None, "a gradient comes after its objective"
            sharpen(model, *batch, rho)
            client.count_examples(len(batch[1]))

        client.train(objective=objective, gradient=sharpened)


def sharpen(model: nn.Module, x: Tensor, y: Tensor, rho: float) -> None:
    """Replace the gradients g of a model at w by those at w + rho g / ||g||, in place.

    Parameters and buffers, the statistics of BatchNorm among them, are what they were.

    Args:
        model: Its parameters have the gradients of a batch at w; None is 0.
        x: The images of the batch, ``[B, C, H, W]``.
        y: Their labels, int64 ``[B]``.
        rho: How far the perturbed model is away.
    """
    learning = [p for p in model.parameters() if p.grad is not None]
    gradients = [p.grad for p in learning if p.grad is not None]
    norm = nn.utils.get_total_norm(gradients)
    scale = torch.where(norm > 0, rho / norm, 0.0)
    before = [p.detach().clone() for p in learning]
    with torch.no_grad():
        for p, gradient in zip(learning, gradients, strict=True):
            p.add_(scale * gradient)
            p.grad = None
    with buffers_kept(model):
        F.cross_entropy(model(x), y).backward()
    with torch.no_grad():
        for p, value in zip(learning, before, strict=True):
            p.copy_(value)
