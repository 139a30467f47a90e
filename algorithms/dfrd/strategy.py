"""DFRD, the round: training, the average, distillation; with its payloads and preset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fedkd.algorithms.averaging import Update as ModelUpdate
from fedkd.algorithms.averaging import average, local_update
from fedkd.algorithms.datafree import (
    CountedUpdate,
    Painter,
    counts_of,
    no_counts,
    painter_of,
    pictures,
)
from fedkd.algorithms.dfrd.config import DFDG_OPTIONS, PUBLISHED_OPTIONS, DFRDConfig
from fedkd.algorithms.dfrd.server import Distillation
from fedkd.algorithms.nested import Nested, nest
from fedkd.ops.ema import WeightAverage
from fedkd.ops.ensembles import LogitEnsemble
from fedkd.ops.training import LossFunction
from fedkd.payload import Weights
from fedkd.strategy import (
    Client,
    ModelSpec,
    Party,
    Preset,
    Requires,
    Round,
    Server,
    Strategy,
    read_weights,
)

OWN = "model"
"""Where a client keeps its model if its architecture is not the server's."""


@dataclass(frozen=True)
class Broadcast:
    """What the server sends."""

    weights: Weights | None
    """The global model; None for a client of another architecture."""


@dataclass(frozen=True)
class Update(CountedUpdate):
    """What a client sends back; its label counts are of this round or in all."""

    examples: int
    """n_k, the client's number of training images."""


@dataclass(frozen=True)
class State:
    """What the server remembers."""

    weights: Weights
    """The global model."""
    receivers: tuple[int, ...]
    """The clients that have the server's architecture."""
    generator: Weights | None
    """The generator; None without distillation."""
    averaged: Weights | None
    """The averaged generator; None before the first round."""
    nested: Nested | None = None
    """The sub-models of the clients; None with ``aggregate: plain``."""
    averages: bool = False
    """Whether clients have been averaged into the global model so far; then it has
    BatchNorm statistics of their data."""


class DFRD(Strategy[State, Broadcast, Update]):
    """Aggregation and, in every round, distillation of the class-weighted ensemble."""

    no_average = "its server also learns from each client's model by itself"
    Config = DFRDConfig
    config: DFRDConfig
    requires = Requires(buffers=("average", "reestimate"))

    def __init__(self, config: DFRDConfig | None = None) -> None:
        super().__init__(config)
        # Without distillation there is only the average, which needs one architecture.
        needs = self.config.start == "average" or self.config.distil.steps == 0
        nests = self.config.aggregate != "plain"
        self.requires = Requires(
            one_architecture=needs and not nests,
            nested_widths=nests,
            buffers=("average", "reestimate"),
            builds=(self._network(),) if self.config.distil.steps else (),
        )

    def init(self, server: Server) -> State:
        """Start from the initial weights, with a new generator."""
        nested, same = None, server.alike
        if self.config.aggregate != "plain":
            nested = nest(server, self.config.aggregate)
            same = tuple(range(len(server.clients)))
        generator = None
        if self.config.distil.steps:
            generator = read_weights(self._painter(server).generator)
        return State(server.initial, same, generator, None, nested)

    def broadcast(self, state: State, client_id: int, round: Round) -> Broadcast:
        """Send the global model to clients that can use it."""
        if state.nested is not None:
            return Broadcast(
                state.nested.broadcast(state.weights, client_id, round.index)
            )
        return Broadcast(state.weights if client_id in state.receivers else None)

    def local(self, down: Broadcast, client: Client) -> Update:
        """Train, and count the labels of the images trained on."""
        counts_C = torch.zeros(client.num_classes, dtype=torch.int32).to(client.device)
        dynamic = self.config.counts == "dynamic"
        loss = counting_loss(counts_C) if dynamic else None
        own: Weights = client.memory.get(OWN, client.initial)
        update = local_update(
            own if down.weights is None else down.weights, client, loss=loss
        )
        if down.weights is None:
            client.memory[OWN] = update.weights
        if not dynamic:
            counts_C = client.data.label_counts().int()
        elif len(client.data) == 1:
            counts_C //= 2  # a batch holds a client's only image twice
        return Update(update.weights, counts_C.cpu(), update.examples)

    def expected(self, down: Broadcast, party: Party) -> Update:
        """The client's own model, and how many images of each class it was trained on."""
        del down
        return Update(party.initial, no_counts(party), 0)

    def aggregate(
        self, state: State, ups: Mapping[int, Update], server: Server, round: Round
    ) -> State:
        """Average if that can be; then distil the clients into the global model."""
        same = {k: up for k, up in ups.items() if k in state.receivers}
        if same and self.config.start != "previous":
            weights = averaged_models(state, same, round)
            state = replace(state, weights=weights, averages=True)
        if state.generator is None:
            return state
        counts_KC = counts_of(ups)
        members = [server.client_model(k, up.weights) for k, up in ups.items()]
        painter = self._painter(server, state.generator)
        before = None
        if state.averaged is not None:
            before = self._painter(server, state.averaged)
        student = server.load(state.weights)
        work = Distillation(
            student,
            LogitEnsemble(members),
            counts_KC,
            painter,
            self.config,
            server,
            averaged=before,
            averaged_student=state.averages,
        )
        work.run()
        return replace(
            state,
            weights=read_weights(student),
            generator=read_weights(painter.generator),
            averaged=self._averaged(state, painter, server),
        )

    def predictors(self, state: State, server: Server) -> Mapping[str, nn.Module]:
        """Measure the global model."""
        return {"global": server.load(state.weights)}

    def gallery(self, state: State, server: Server) -> Mapping[str, Tensor]:
        """Draw an image of each class from the generator and from the averaged one."""
        sources = {"generator": state.generator, "averaged generator": state.averaged}
        return {
            title: pictures(self._painter(server, weights), server)
            for title, weights in sources.items()
            if weights is not None
        }

    def _averaged(self, state: State, painter: Painter, server: Server) -> Weights:
        """Return lambda times the averaged generator plus 1 - lambda times the new."""
        start = state.generator if state.averaged is None else state.averaged
        assert start is not None, "there is a generator where there is distillation"
        old = self._painter(server, start).generator
        average = WeightAverage(old, self.config.distil.ema_decay)
        average.update(painter.generator)
        return {name: value.cpu() for name, value in average.weights().items()}

    def _painter(self, server: Server, weights: Weights | None = None) -> Painter:
        how, network = self.config.generator, self._network()
        return painter_of(server, weights, network.name, how.output, **network.options)

    def _network(self) -> ModelSpec:
        how = self.config.generator
        sizes = {"latent_size": how.latent_size, "width": how.width}
        return ModelSpec("acgan-generator", {**sizes, "merge": how.merge})


def averaged_models(
    state: State, ups: Mapping[int, Update], round: Round
) -> dict[str, Tensor]:
    """Return the average of some clients, over those who hold a coordinate."""
    if state.nested is not None:
        models = {k: up.weights for k, up in ups.items()}
        shares = {k: up.examples for k, up in ups.items()}
        return state.nested.average(state.weights, models, shares, round.index)
    whole = {k: ModelUpdate(up.weights, up.examples) for k, up in ups.items()}
    return {**state.weights, **average(whole)}


def counting_loss(counts_C: Tensor) -> LossFunction:
    """Return cross-entropy that adds the labels it is given to ``counts_C``."""

    def loss(logits_BC: Tensor, labels_B: Tensor) -> Tensor:
        ones_B = torch.ones_like(labels_B, dtype=counts_C.dtype)
        counts_C.index_add_(0, labels_B, ones_B)
        return nn.functional.cross_entropy(logits_BC, labels_B)

    return loss


DFRD_PUBLISHED = Preset(
    DFRD,
    PUBLISHED_OPTIONS,
    doc="DFRD with the paper's losses, but for the distances of L_div, and the amounts "
    "that are published.",
    deviations=(
        "L_div takes mean squared differences, as DFDG does; with Euclidean distances "
        "(``generator.diversity: norms``), as the paper is remembered, it and its gradient "
        "vanish in float32 from 28x28 on",
        "amounts that the paper is not remembered for are those of DFDG's program, 200 "
        "batches a round among them",
        "clients train as the protocol says; in DFDG by SGD at 0.01 for 50 to 100 epochs",
    ),
)

DFRD_DFDG = Preset(
    DFRD,
    DFDG_OPTIONS,
    doc="The objective of DFRD as DFDG's program DFAD computes it, in one round.",
    deviations=(
        "clients have ordinary BatchNorm in eval mode and no width scaler; there, "
        "BatchNorm always uses the statistics of the batch",
        "an empty selection gives L_tran = 0; there it gives NaN",
        "the program is one-shot: run it with ``rounds: 1`` for that",
        "labels are drawn, and the shares tau of a class taken, by the counts of the "
        "round's clients; there, of all clients, so that in a round without some of them "
        "the shares do not sum to 1",
        "clients train as the protocol says; there by SGD at 0.01 for 50 to 100 epochs",
        "the student, which is no average of clients, is in train mode and learns its "
        "BatchNorm statistics on generated images",
    ),
)
