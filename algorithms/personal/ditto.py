"""Ditto: FedAvg, and beside it a model of each client's own, held near the global one.

Paper: Li, Hu, Beirami, Smith, "Ditto: Fair and Robust Federated Learning Through
    Personalization", ICML 2021, arXiv:2012.04221v3.
Algorithm: Algorithm 1 with FedAvg as the solver of the global problem: besides its part in
    that, a client takes steps on h_k(v; w^t) = F_k(v) + lambda/2 ||v - w^t||^2.
Code: github.com/litian96/ditto (``flearn/trainers_MTL/ditto.py``, TensorFlow 1).
Deviations: all clients have one lambda; the paper's choose it from a few by validation
    data of their own. The own model takes as many steps as the global one, on the same
    batches, as in the code. The mean is weighted by numbers of images, as in FedAvg; the
    code samples clients by these and averages without weights. A client that has not
    taken part yet predicts with the initial weights.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from fedkd.algorithms.averaging import Averaging, Choices, Global, PlainConfig
from fedkd.algorithms.fedprox import proximal
from fedkd.algorithms.local import OWN, go_on
from fedkd.strategy import Client, read_weights


class DittoConfig(PlainConfig):
    """Hyper-parameters of Ditto."""

    lam: float = Field(1.0, ge=0)
    """lambda, the strength of the pull to the global model; without attacks the paper has
    1 for clients with little validation data and lets others choose from 0.1, 1 and 2.
    0 is local training, bit for bit."""


def own_model(state: Global, client: Client) -> nn.Module:
    """Return the client's v_k; before its first round, the initial model."""
    del state
    return go_on(client)


class Ditto(Averaging):
    """FedAvg beside which each client trains a model of its own."""

    Config = DittoConfig
    config: DittoConfig
    choices = Choices(own=own_model)

    def train(self, client: Client, sent: None) -> None:
        """Train v_k towards the data and w^t, then the client's copy of w^t."""
        lam = self.config.lam
        received = read_weights(client.model)
        anchor = [p.detach().clone() for p in client.model.parameters()]

        def pull(model: nn.Module) -> Tensor:
            return proximal(list(model.parameters()), anchor, lam)

        # Both models take the same batches: what follows draws the same numbers again.
        with torch.random.fork_rng(devices=[]):
            go_on(client)
            report = client.train(penalty=pull if lam else None)
            client.memory[OWN] = read_weights(client.model)
        client.log("own_loss", report.loss)
        client.load(received)
        client.train()
