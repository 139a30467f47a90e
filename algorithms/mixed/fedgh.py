"""FedGH: the server trains the head that all share, on class means of features.

Paper: Yi, Wang, Liu, Shi, Yu, "FedGH: Heterogeneous Federated Learning with Generalized
    Global Header", ACM Multimedia 2023, arXiv:2303.13137.
Algorithm: Algorithm 1.
Code: github.com/LipingYi/FedGH, whose server steps an optimiser of another network,
    so that its head is never trained (``server.epochs: 0`` here), and which measures a
    client's model as it was trained, with its own head; many compare with HtFLlib
    (github.com/TsingZ0/HtFLlib), the preset ``fedgh-htfllib``, which measures with the
    server's head, as here.
Deviations: the pairs of mean and class go through the head in an order that is shuffled
    anew in every pass; the paper's is by client and class. The clients' first head is the
    server's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import Field
from torch import nn
from torch.nn import functional

from fedkd.algorithms.local import go_on
from fedkd.algorithms.mixed.own_models import (
    ByClass,
    NoGlobalModel,
    VectorSteps,
    class_features,
    of_size,
    through,
)
from fedkd.config import Config
from fedkd.ops.heads import feature_size, head_entries, head_of, load_head, read_head
from fedkd.payload import Weights
from fedkd.strategy import Client, Party, Preset, Requires, Round, Server


class HeadSteps(VectorSteps):
    """How the server trains the head."""

    epochs: int = Field(1, ge=0)
    """Passes over the clients' means in a round: 1 in Algorithm 1. 0 leaves the head as
    it was at first, as the released code does."""
    batch_size: int = Field(1, ge=1)
    """Means in a step: 1 in Algorithm 1."""


class FedGHConfig(Config):
    """Hyper-parameters of FedGH."""

    server: HeadSteps = HeadSteps()
    """How the server trains the head."""


@dataclass(frozen=True)
class Head:
    """The server's state, and what it sends."""

    weights: Weights
    """The head's parameters, by position."""


class FedGH(NoGlobalModel[Head, Head, ByClass]):
    """Own features and a shared head, which is trained at the server."""

    Config = FedGHConfig
    config: FedGHConfig
    requires = Requires(equal_feature_size=True)

    def init(self, server: Server) -> Head:
        """Start with the head of the server's initial weights.

        Raises:
            ConfigError: If its model is not made of features and a head.
        """
        feature_size(server.model)
        return Head(read_head(server.load(server.initial)))

    def broadcast(self, state: Head, client_id: int, round: Round) -> Head:
        """Send the head."""
        del client_id, round
        return state

    def train(self, client: Client, down: Head) -> ByClass:
        """Replace the head, train the whole model, return mean features by class."""
        load_head(client.model, down.weights)
        client.train()
        return ByClass(class_features(client))

    def expected(self, down: Head, party: Party) -> ByClass:
        """A mean of features for each class that the client has."""
        del down
        return of_size(feature_size(party.model), party)

    def aggregate(
        self, state: Head, ups: Mapping[int, ByClass], server: Server, round: Round
    ) -> Head:
        """Train the head on pairs of mean features and class."""
        del round
        model = load_head(server.model, state.weights).eval()
        head = head_of(model)
        parameters = [model.get_parameter(name) for name in head_entries(model)]
        through(
            [up.vectors for up in ups.values()],
            parameters,
            lambda rows_BD, y: functional.cross_entropy(head(rows_BD), y),
            self.config.server,
            server,
        )
        return Head(read_head(model))

    def personal(self, state: Head, client: Client) -> nn.Module:
        """Predict with the client's own features and the shared head."""
        return load_head(go_on(client), state.weights)


HTFLLIB = Preset(
    FedGH,
    {"server": {"epochs": 100, "batch_size": 10}},
    deviations=(
        "Clients train as the protocol says; the first head is the server's, there that "
        "of client 0.",
    ),
    doc="FedGH with the server's amounts of HtFLlib: 100 epochs in batches of 10.",
)
