"""Mosaic in feature space: the strategy and its payloads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedkd.algorithms.averaging import Update as ModelUpdate
from fedkd.algorithms.averaging import average
from fedkd.algorithms.mosaic.features.clients import features_of_all, train_generator
from fedkd.algorithms.mosaic.features.config import MosaicFeaturesConfig
from fedkd.algorithms.mosaic.features.server import (
    Sent,
    Stage,
    head_distilled,
    measured,
)
from fedkd.algorithms.mosaic.schedule import warmup_rounds
from fedkd.ops.heads import read_head, train_head
from fedkd.payload import Weights
from fedkd.strategy import (
    Client,
    Party,
    Requires,
    Round,
    Server,
    Strategy,
    read_weights,
)


@dataclass(frozen=True)
class Broadcast:
    """What the server sends."""

    weights: Weights
    """The global model."""
    lr: float | None
    """The learning rate of fine-tuning; None before and in the round of features."""
    asks: bool
    """Whether this is the round of features."""


@dataclass(frozen=True)
class Update:
    """What a client sends back."""

    weights: Weights
    """The locally trained model; in the round of features its head, by position."""
    label_counts: Tensor
    """n_kc, images of each class, int64 ``[C]``."""
    generator: Weights | None
    """The generator of features; None in all other rounds."""


@dataclass(frozen=True)
class State:
    """What the server remembers."""

    weights: Weights
    """The global model."""
    stage: Stage | None = None
    """Set in the round of features only."""
    distilled: bool = False
    """Whether the round of features is over."""


class MosaicFeatures(Strategy[State, Broadcast, Update]):
    """FedAvg, and one round in which its head is distilled on generated features."""

    no_average = "its server also learns from each client's model by itself"
    Config = MosaicFeaturesConfig
    config: MosaicFeaturesConfig
    requires = Requires(
        one_architecture=True,
        equal_feature_size=True,
        buffers=("average", "reestimate"),
        rounds=2,
    )

    def init(self, server: Server) -> State:
        """Start from the initial weights."""
        return State(server.initial)

    def broadcast(self, state: State, client_id: int, round: Round) -> Broadcast:
        """Send the global model, and say what it is for."""
        del client_id
        lr = self.config.finetune_lr if state.distilled else None
        return Broadcast(state.weights, lr, asks=self._asks(state, round))

    def local(self, down: Broadcast, client: Client) -> Update:
        """Train the model; in the round of features, head and generator instead."""
        client.load(down.weights)
        counts_C = client.data.label_counts()
        if not down.asks:
            lr = {} if down.lr is None else {"lr": down.lr}
            client.train(training=client.training.model_copy(update=lr))
            return Update(read_weights(client.model), counts_C, None)
        features, labels = features_of_all(client)
        trained = train_generator(client, features, labels, self.config.generator)
        number = train_head(client.model, features, labels, self.config.head)
        client.count_examples(number)
        return Update(read_head(client.model), counts_C, read_weights(trained))

    def expected(self, down: Broadcast, party: Party) -> Update:
        """The model that was sent, or its head; and images of each class."""
        weights = read_head(party.model) if down.asks else down.weights
        counts_C = torch.zeros(party.num_classes, dtype=torch.int64)
        return Update(weights, counts_C, None)

    def aggregate(
        self, state: State, ups: Mapping[int, Update], server: Server, round: Round
    ) -> State:
        """Average; in the round of features distil the head instead."""
        if not self._asks(state, round):
            sizes = {k: int(up.label_counts.sum()) for k, up in ups.items()}
            models = {k: ModelUpdate(up.weights, sizes[k]) for k, up in ups.items()}
            average_now = {**state.weights, **average(models)}
            return State(average_now, distilled=state.distilled)
        sent = Sent(
            {k: up.weights for k, up in ups.items()},
            {k: up.generator for k, up in ups.items() if up.generator is not None},
            {k: up.label_counts for k, up in ups.items()},
        )
        weights, stage = head_distilled(self.config, state.weights, sent, server)
        return State(weights, stage, distilled=True)

    def milestone(self, state: State, round: Round) -> bool:
        """The round of features is always measured."""
        del round
        return state.stage is not None

    def predictors(self, state: State, server: Server) -> Mapping[str, nn.Module]:
        """Measure the global model; after the round of features also what it came from.

        ``before_distillation``: the average of the clients. ``experts``: the plain mean of
        the experts' heads on its features. ``teacher``: what taught, without the prior of
        the label, which a real image has not.
        """
        others = (
            {} if state.stage is None else measured(state.stage, self.config, server)
        )
        return {"global": server.load(state.weights), **others}

    def _asks(self, state: State, round: Round) -> bool:
        """Say whether this is the round of features: a later one if nobody answered."""
        if self.config.distil.steps == 0 or state.distilled:
            return False
        warmup = warmup_rounds(self.config.warmup, round.total)
        return round.index >= min(warmup, round.total - 1)
