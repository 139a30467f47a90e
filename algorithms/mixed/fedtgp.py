"""FedTGP: global prototypes that the server trains, a margin apart.

Paper: Zhang, Liu, Hua, Cao, "FedTGP: Trainable Global Prototypes with
    Adaptive-Margin-Enhanced Contrastive Learning for Data and Model Heterogeneity in
    Federated Learning", AAAI 2024, arXiv:2401.03230.
Algorithm: FedProto's clients; the server's trainable prototypes, and their contrastive
    loss with an adaptive margin.
Code: github.com/TsingZ0/FedTGP, and the same in github.com/TsingZ0/HtFLlib.
Deviations: the margin is that of the released code: the largest, over classes, of the
    distance to the nearest other class, between means of the clients' prototypes, each
    client 1. With means of a single class there is no distance and the margin is 0; there
    it is its bound. Distances are computed from differences, where the code's squares can
    fall below 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from fedkd.algorithms.mixed.own_models import (
    ByClass,
    NoGlobalModel,
    VectorSteps,
    class_features,
    of_size,
    through,
)
from fedkd.algorithms.mixed.prototypes import EXACT, by_prototypes, pulled
from fedkd.config import Config
from fedkd.ops.heads import feature_size
from fedkd.ops.prototypes import Vectors, mean_vectors
from fedkd.payload import Weights
from fedkd.strategy import Client, Party, Requires, Round, Server, read_weights


class FedTGPConfig(Config):
    """Hyper-parameters of FedTGP."""

    lam: float = Field(10.0, ge=0)
    """lambda, the weight of the distance to the prototypes; 10 in the released script. 0
    is local training, with prediction by prototypes."""
    server: VectorSteps = VectorSteps()
    """How the server trains the prototypes: 100 epochs in batches of 10 at 0.01 in the
    released script."""
    margin_bound: float = Field(100.0, ge=0)
    """tau, the most that the margin may be; 100 in the released script. 0 is a softmax
    over negative distances."""


@dataclass(frozen=True)
class Trained:
    """The server's state."""

    network: Weights
    """The network that makes the prototypes."""
    prototypes: Vectors
    """What it makes, by class; none before it has been trained."""


class TrainablePrototypes(nn.Module):
    """A prototype of each class: an embedding through a layer, ReLU, and a layer."""

    def __init__(self, num_classes: int, size: int) -> None:
        """Draw it.

        Args:
            num_classes: C.
            size: D, of embedding, hidden layer and prototypes.
        """
        super().__init__()
        self.embeddings = nn.Embedding(num_classes, size)
        self.middle = nn.Linear(size, size)
        self.last = nn.Linear(size, size)

    def forward(self) -> Tensor:
        """Return all prototypes, ``[C, D]``."""
        rows_CD: Tensor = self.last(self.middle(self.embeddings.weight).relu())
        return rows_CD


class FedTGP(NoGlobalModel[Trained, ByClass, ByClass]):
    """FedProto with prototypes that are trained."""

    Config = FedTGPConfig
    config: FedTGPConfig
    requires = Requires(equal_feature_size=True)

    def init(self, server: Server) -> Trained:
        """Draw the network of the prototypes.

        Raises:
            ConfigError: If the server's model is not made of features and a head.
        """
        return Trained(read_weights(_network(server)), {})

    def broadcast(self, state: Trained, client_id: int, round: Round) -> ByClass:
        """Send the prototypes of all classes, once they have been trained."""
        del client_id, round
        return ByClass(state.prototypes)

    def train(self, client: Client, down: ByClass) -> ByClass:
        """Train towards the prototypes; return mean features by class."""
        client.train(objective=pulled(client, down.vectors, self.config.lam))
        return ByClass(class_features(client))

    def expected(self, down: ByClass, party: Party) -> ByClass:
        """A prototype of each class that the client has."""
        del down
        return of_size(feature_size(party.model), party)

    def aggregate(
        self, state: Trained, ups: Mapping[int, ByClass], server: Server, round: Round
    ) -> Trained:
        """Train the prototypes on those of the clients."""
        del round
        given = [up.vectors for up in ups.values()]
        network = _network(server)
        network.load_state_dict(dict(state.network))
        margin = min(spread(mean_vectors(given)), self.config.margin_bound)
        server.log("margin", margin)
        through(
            given,
            list(network.parameters()),
            lambda rows_BD, y: contrast(rows_BD, y, network(), margin),
            self.config.server,
            server,
        )
        rows_CD = network().detach().cpu()
        return Trained(read_weights(network), dict(enumerate(rows_CD.clone())))

    def personal(self, state: Trained, client: Client) -> nn.Module:
        """Predict by the nearest prototype."""
        return by_prototypes(client, state.prototypes)


def _network(server: Server) -> TrainablePrototypes:
    """Return a new network of prototypes, of the features' type, on the server."""
    like = next(server.model.parameters())
    size = feature_size(server.model)
    return TrainablePrototypes(server.num_classes, size).to(like)


def spread(centres: Vectors) -> float:
    """Return max_c min_{c' != c} ||Q_c - Q_c'||_2; 0 for a single class or none.

    Args:
        centres: Q, the mean prototypes by class.
    """
    if len(centres) < 2:
        return 0.0
    rows_ND = torch.stack(list(centres.values()))
    apart_NN = torch.cdist(rows_ND, rows_ND, compute_mode=EXACT)
    apart_NN.fill_diagonal_(torch.inf)
    return float(apart_NN.min(1).values.max())


def contrast(
    rows_BD: Tensor, y: Tensor, prototypes_CD: Tensor, margin: float
) -> Tensor:
    """Return the cross-entropy of -(||p - P_c||_2 + margin [c = y]); a scalar.

    Args:
        rows_BD: Prototypes p of clients.
        y: Their classes, int64 ``[B]``.
        prototypes_CD: P, the trained ones.
        margin: How much nearer than the others the right one is to be.
    """
    distances_BC = torch.cdist(rows_BD, prototypes_CD, compute_mode=EXACT)
    right_BC = functional.one_hot(y, len(prototypes_CD)).to(distances_BC.dtype)
    return functional.cross_entropy(-(distances_BC + margin * right_BC), y)
