"""FedProto: clients exchange the mean features of each class, and learn towards them.

Paper: Tan, Long, Liu, Zhou, Lu, Jiang, Zhang, "FedProto: Federated Prototype Learning
    across Heterogeneous Clients", AAAI 2022, arXiv:2105.00243.
Algorithm: Algorithm 1; local prototypes by Eq. 3, global ones by Eq. 6, the loss of Eq. 7,
    prediction by the nearest prototype (Eq. 4).
Code: github.com/yuetan031/FedProto, which is the preset ``fedproto-code``.
Deviations: the distance is that of each image's features to the prototype of its class,
    squared and averaged over images and features, as in the released code; in Eq. 8 it is
    that of a client's own prototypes. The weights of Eq. 6 add up to 1: as printed, the sum
    is divided once more, by the number of clients. A class that no client of a round has
    keeps its prototype.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from pydantic import Field
from torch import nn

from fedkd.algorithms.datafree import no_counts
from fedkd.algorithms.mixed.own_models import (
    ByClass,
    NoGlobalModel,
    class_features,
    of_size,
)
from fedkd.algorithms.mixed.prototypes import by_prototypes, pulled
from fedkd.config import Config
from fedkd.ops.heads import feature_size
from fedkd.ops.prototypes import ClassMeans, mean_vectors
from fedkd.strategy import Client, Party, Preset, Requires, Round, Server


class FedProtoConfig(Config):
    """Hyper-parameters of FedProto."""

    lam: float = Field(1.0, ge=0)
    """lambda, the weight of the distance to the prototypes; 1 in the released code. 0 is
    local training, with prediction by prototypes."""
    weights: Literal["examples", "uniform"] = "examples"
    """The weight of a client in the mean of a class: its images of that class, which it
    tells then (Eq. 6), or 1."""
    collect: Literal["after", "during"] = "after"
    """Of which features a client's prototypes are the mean: those of all its images after
    training, in eval mode (Eq. 3), or those of the steps of training."""


class FedProto(NoGlobalModel[ByClass, ByClass, ByClass]):
    """Local training towards the mean features of each class over all clients."""

    Config = FedProtoConfig
    config: FedProtoConfig
    requires = Requires(equal_feature_size=True)

    def init(self, server: Server) -> ByClass:
        """Start without prototypes."""
        del server
        return ByClass({})

    def broadcast(self, state: ByClass, client_id: int, round: Round) -> ByClass:
        """Send the global prototypes."""
        del client_id, round
        return state

    def train(self, client: Client, down: ByClass) -> ByClass:
        """Train towards the prototypes (Eq. 7); return the client's own (Eq. 3)."""
        means = ClassMeans(client.num_classes)
        listener = means.add if self.config.collect == "during" else None
        client.train(objective=pulled(client, down.vectors, self.config.lam, listener))
        own = class_features(client) if listener is None else means.vectors()
        told = self.config.weights == "examples"
        return ByClass(own, client.data.label_counts().int() if told else None)

    def expected(self, down: ByClass, party: Party) -> ByClass:
        """A prototype of each class that the client has, and its images if it is asked."""
        del down
        like = of_size(feature_size(party.model), party)
        told = self.config.weights == "examples"
        return replace(like, counts=no_counts(party)) if told else like

    def aggregate(
        self, state: ByClass, ups: Mapping[int, ByClass], server: Server, round: Round
    ) -> ByClass:
        """Return the mean of the clients' prototypes of each class (Eq. 6)."""
        del server, round
        counts = [up.counts for up in ups.values() if up.counts is not None]
        weights = counts if self.config.weights == "examples" else None
        new = mean_vectors([up.vectors for up in ups.values()], weights)
        return ByClass(dict(sorted({**state.vectors, **new}.items())))

    def personal(self, state: ByClass, client: Client) -> nn.Module:
        """Predict by the nearest prototype (Eq. 4)."""
        return by_prototypes(client, state.vectors)


CODE = Preset(
    FedProto,
    {"weights": "uniform", "collect": "during"},
    deviations=(
        "Clients train as the protocol says; there by SGD at 0.01 with momentum 0.5, one "
        "epoch in batches of 4.",
        "Prototypes are means over all steps of a round, there over those of its last "
        "epoch.",
    ),
    doc="FedProto as its released code runs it: means during training, each client 1.",
)
