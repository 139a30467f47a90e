"""MOON: clients keep their features near the global model's, away from their own last.

Paper: Li, He, Song, "Model-Contrastive Federated Learning", CVPR 2021,
    arXiv:2103.16257v1.
Algorithm: Algorithm 1: L = L_sup + mu L_con with, for the features z of an image,
    L_con = -log(e^{cos(z, z_glob)/tau} / (e^{cos(z, z_glob)/tau} + e^{cos(z, z_prev)/tau}))
    (Eq. 3), z_glob by the model that was received and z_prev by the client's own model
    after its last round; neither learns.
Code: github.com/QinbinLi/MOON, commit 8fcba3c.
Deviations: features are those before the head of whatever model a suite names. The paper's
    network has a projection head of two layers there, whatever the method; the model
    ``{name: cnn, features: 256, projection_units: 64}`` has it too, with as many hidden
    units as its trunk has outputs. Without ``features`` a model has no projection head,
    as in the ports of PFLlib and FL-bench. A client that never trained has the initial
    model as its last. In the first round both others are then one, and L_con, ln 2, has
    no gradient but roundings; the code computes no L_con in that round. One last model is
    kept (the code's buffer has one by default). Forward passes of the two models that do
    not learn are not counted as work.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from fedkd.algorithms.averaging import Averaging, PlainConfig
from fedkd.ops.heads import features_of, head_of
from fedkd.payload import Weights
from fedkd.strategy import Client, Requires, read_weights
from fedkd.weights import frozen_copy

_MEMORY = "previous"


class MOONConfig(PlainConfig):
    """Hyper-parameters of MOON."""

    mu: float = Field(1.0, ge=0)
    """mu, the weight of the contrastive loss; the paper tunes over 0.1, 1, 5, 10, and 1 is
    the released code's default. 0 is FedAvg, bit for bit."""
    temperature: float = Field(0.5, gt=0)
    """tau, by which similarities are divided; 0.5 in the paper."""


class MOON(Averaging):
    """FedAvg with a contrastive loss between models."""

    Config = MOONConfig
    config: MOONConfig
    requires = Requires(one_architecture=True, equal_feature_size=True)

    def train(self, client: Client, sent: None) -> None:
        """PartyLocalTraining of Algorithm 1; remember the trained model."""
        mu, tau = self.config.mu, self.config.temperature
        if not mu:
            client.train()
            return
        received = frozen_copy(client.model)
        last: Weights = client.memory.get(_MEMORY, client.initial)
        previous = frozen_copy(client.model, last)

        def objective(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            z_BD = features_of(model, x)
            with torch.no_grad():
                global_BD = features_of(received, x)
                previous_BD = features_of(previous, x)
            supervised = F.cross_entropy(head_of(model)(z_BD), y)
            return supervised, mu * contrastive(z_BD, global_BD, previous_BD, tau)

        client.train(objective=objective)
        client.memory[_MEMORY] = read_weights(client.model)


def contrastive(
    z_BD: Tensor, global_BD: Tensor, previous_BD: Tensor, temperature: float
) -> Tensor:
    """Return L_con of Eq. 3, mean over the batch; a scalar.

    Args:
        z_BD: Features by the model that learns, ``[B, D]``.
        global_BD: Features of the same images by the global model.
        previous_BD: Features of the same images by the client's last model.
        temperature: tau.
    """
    pull_B = F.cosine_similarity(z_BD, global_BD)
    push_B = F.cosine_similarity(z_BD, previous_BD)
    return F.softplus((push_B - pull_B) / temperature).mean()
