"""The ensemble of the clients' models. A reference, not a competitor.

Paper: none; what data-free distillation is held against.
Algorithm: each client trains its own model, as in ``local``, and sends it; the server
    answers with the mean of all models' logits, (1/K) sum_k f_k(x).
Code: none.
Deviations: a client that takes part in several rounds goes on from its own model; the
    server keeps the last one of each, and answers with its initial model as long as it
    has none. It costs K models to store and to run, which no strategy with one global
    model pays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import nn

from fedkd.algorithms.local import OWN, Nothing, go_on
from fedkd.ops.ensembles import LogitEnsemble
from fedkd.payload import Weights
from fedkd.strategy import Client, Party, Round, Server, Strategy, read_weights
from fedkd.weights import frozen_copy


@dataclass(frozen=True)
class Own:
    """What a client sends."""

    weights: Weights
    """Its model."""


@dataclass(frozen=True)
class Collection:
    """What the server remembers."""

    models: Mapping[int, Weights] = field(default_factory=dict)
    """The last model of each client, by client."""


class Ensemble(Strategy[Collection, Nothing, Own]):
    """The mean of the logits of models that their clients trained alone."""

    model_fields = ("weights",)
    no_average = "its server also learns from each client's model by itself"
    is_reference = True

    def init(self, server: Server) -> Collection:
        """Start without models."""
        return Collection()

    def broadcast(self, state: Collection, client_id: int, round: Round) -> Nothing:
        """Send nothing."""
        return Nothing()

    def local(self, down: Nothing, client: Client) -> Own:
        """Train on from where the client was, and send the model."""
        go_on(client)
        client.train()
        client.memory[OWN] = read_weights(client.model)
        return Own(client.memory[OWN])

    def expected(self, down: Nothing, party: Party) -> Own:
        """The client's own model."""
        del down
        return Own(party.initial)

    def aggregate(
        self, state: Collection, ups: Mapping[int, Own], server: Server, round: Round
    ) -> Collection:
        """Keep the last model of each client."""
        return Collection({**state.models, **{k: up.weights for k, up in ups.items()}})

    def predictors(self, state: Collection, server: Server) -> Mapping[str, nn.Module]:
        """Measure the mean of the logits of all models that came, or the initial model."""
        members = [server.client_model(k, w) for k, w in sorted(state.models.items())]
        # A copy: members are frozen, which the server's working model is not to be.
        first = [] if members else [frozen_copy(server.model, server.initial)]
        return {"global": LogitEnsemble(members or first)}
