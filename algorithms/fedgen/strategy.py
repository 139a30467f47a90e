"""FedGen, Algorithm 1: local training, the average and what is sent; with its preset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from fedkd.algorithms.averaging import (
    Global,
    average,
    local_update,
    private_buffers,
)
from fedkd.algorithms.datafree import CountedUpdate, counts_of, no_counts, sized
from fedkd.algorithms.fedavg import FedAvg
from fedkd.algorithms.fedgen.config import (
    CODE_OPTIONS,
    PUBLISHED_OPTIONS,
    FedGenConfig,
)
from fedkd.algorithms.fedgen.server import (
    build_generator,
    regularised,
    train_generator,
)
from fedkd.ops.heads import (
    feature_size,
    head_of,
    load_head,
    nonnegative_features,
    read_head,
)
from fedkd.ops.training import LossFunction
from fedkd.payload import Weights
from fedkd.strategy import (
    Client,
    Party,
    Preset,
    Requires,
    Round,
    Server,
    Strategy,
    read_weights,
)

OWN = "model"
"""Where a client keeps its model if only heads are shared."""


@dataclass(frozen=True)
class Broadcast:
    """What the server sends."""

    weights: Weights
    """The global model, or the shared head by position."""
    whole: bool
    """Whether it is a whole model."""
    nonnegative: bool
    """Whether generated features are never negative."""
    generator: Weights | None
    """The generator; None before it has been trained."""
    classes: tuple[int, ...]
    """The labels that the generator knows."""
    round: int
    """Number of the round from 0; the clients' terms fade with it."""


@dataclass(frozen=True)
class State:
    """What the server remembers."""

    weights: Weights
    """The global model, or the shared head by position."""
    whole: bool
    """Whether it is a whole model."""
    nonnegative: bool = False
    """Whether generated features are never negative."""
    generator: Weights | None = None
    """The generator; None before it has been trained."""
    moments: Mapping[str, Tensor] = field(default_factory=dict)
    """Adam's moments of the generator."""
    classes: tuple[int, ...] = ()
    """The labels that the server has been told of, ascending."""


class FedGen(Strategy[State, Broadcast, CountedUpdate]):
    """FedAvg whose clients learn from a generator of features."""

    no_average = "its server also learns from each client's model by itself"
    Config = FedGenConfig
    config: FedGenConfig
    requires = Requires(equal_feature_size=True)

    def __init__(self, config: FedGenConfig | None = None) -> None:
        super().__init__(config)
        self.requires = Requires(
            one_architecture=self.config.share == "model", equal_feature_size=True
        )
        self._fedavg = FedAvg()

    def init(self, server: Server) -> State:
        """Start as FedAvg does; all have one head where heads are shared."""
        one = len(server.alike) == len(server.clients)
        whole = self.config.share != "head" and one
        server.load(server.initial)
        weights = server.initial if whole else read_head(server.model)
        return State(weights, whole, self._nonnegative(server))

    def broadcast(self, state: State, client_id: int, round: Round) -> Broadcast:
        """Send what is shared, and the generator once there is one."""
        del client_id
        return Broadcast(
            state.weights,
            state.whole,
            state.nonnegative,
            state.generator,
            state.classes,
            round.index,
        )

    def local(self, down: Broadcast, client: Client) -> CountedUpdate:
        """Train with the generator's guidance; send what is shared."""
        counts_C = client.data.label_counts().int()
        loss = self._loss(down, client)
        if down.whole:
            private = private_buffers(client)
            update = local_update(down.weights, client, private, loss)
            return CountedUpdate(update.weights, counts_C)
        own_model(down.weights, client)
        client.train(loss)
        client.memory[OWN] = read_weights(client.model)
        return CountedUpdate(read_head(client.model), counts_C)

    def expected(self, down: Broadcast, party: Party) -> CountedUpdate:
        """What was sent, model or head, but for what stays; and images of each class."""
        kept = private_buffers(party) if down.whole else frozenset()
        weights = {n: w for n, w in down.weights.items() if n not in kept}
        return CountedUpdate(weights, no_counts(party))

    def aggregate(
        self,
        state: State,
        ups: Mapping[int, CountedUpdate],
        server: Server,
        round: Round,
    ) -> State:
        """Average by n_k; train the generator against every client's head."""
        state = replace(state, weights={**state.weights, **average(sized(ups))})
        if self.config.generator.steps == 0:
            return state
        counts_KC = counts_of(ups)
        size = feature_size(server.model)
        generator = build_generator(
            server, self.config.generator, size, nonnegative=state.nonnegative
        )
        if state.generator is not None:
            generator.load_state_dict(dict(state.generator))
        members = [self._member(state, server, k, up) for k, up in ups.items()]
        moments = train_generator(
            generator,
            [head_of(member) for member in members],
            head_of(self._global(state, server).eval().requires_grad_(False)),
            counts_KC,
            config=self.config.generator,
            round=round.index,
            moments=state.moments,
            server=server,
        )
        server.model.requires_grad_(True)
        held = torch.nonzero(counts_KC.sum(0)).flatten().tolist()
        return replace(
            state,
            generator=read_weights(generator),
            moments=moments,
            classes=tuple(sorted({*state.classes, *held})),
        )

    def predictors(self, state: State, server: Server) -> Mapping[str, nn.Module]:
        """Measure what FedAvg does; nothing is global where only heads are shared."""
        if not state.whole:
            return {}
        return self._fedavg.predictors(Global(state.weights), server)

    def personal(self, state: State, client: Client) -> nn.Module | None:
        """Return the client's features with the shared head; else as FedAvg does."""
        if not state.whole:
            return own_model(state.weights, client)
        return self._fedavg.personal(Global(state.weights), client)

    def _loss(self, down: Broadcast, client: Client) -> LossFunction | None:
        """Return the loss with the generator's terms; None for plain cross-entropy."""
        on = self.config.label_weight or self.config.agreement_weight
        if down.generator is None or not on:
            return None
        size = feature_size(client.model)
        generator = build_generator(
            client, self.config.generator, size, nonnegative=down.nonnegative
        )
        generator.load_state_dict(dict(down.generator))
        return regularised(
            head_of(client.model),
            generator.eval().requires_grad_(False),
            torch.tensor(down.classes, device=client.device),
            self.config,
            decay=self.config.fading**down.round,
            batch_size=client.training.batch_size,
        )

    def _member(
        self, state: State, server: Server, k: int, up: CountedUpdate
    ) -> nn.Module:
        """Return a client's model, frozen; of it only the head may have been sent."""
        model = server.client_model(k, up.weights if state.whole else None)
        if not state.whole:
            load_head(model, up.weights)
        return model.requires_grad_(False)

    def _nonnegative(self, server: Server) -> bool:
        """Return whether features are to be made that no model has below zero."""
        one_of_each = {spec.key: k for k, spec in enumerate(server.clients)}
        models = (server.client_model(k) for k in one_of_each.values())
        return (
            self.config.generator.nonnegative
            and nonnegative_features(server.model)
            and all(nonnegative_features(model) for model in models)
        )

    def _global(self, state: State, server: Server) -> nn.Module:
        if state.whole:
            return server.load(state.weights)
        return load_head(server.model, state.weights)


def own_model(head: Weights, client: Client) -> nn.Module:
    """Return the client's model with its own features and the shared head."""
    return load_head(client.load(client.memory.get(OWN, client.initial)), head)


_CLIENTS = (
    "clients train as the protocol says; in the released code by SGD at 0.01 * 0.99^t, "
    "one batch of 32 in each of 20 local epochs"
)
FEDGEN_CODE = Preset(
    FedGen,
    CODE_OPTIONS,
    doc="FedGen with the terms of its released code and its amounts for MNIST.",
    deviations=(
        _CLIENTS,
        "features are those of the model; the released networks have a linear layer and "
        "no ReLU before the head, as a model with the option features has here",
        "label counts are those of the clients' data; in the released code they count "
        "the images of the round, from 1 on",
        "the global head in the student's term is the average of this round, in the "
        "released code that of the round before; its weight is 0 in both",
        "labels of a client's terms are those that some client so far has had; in the "
        "released code those of all clients' data",
    ),
)
FEDGEN_PUBLISHED = Preset(
    FedGen,
    PUBLISHED_OPTIONS,
    doc="FedGen with the published weights and amounts for MNIST, not lightened.",
    deviations=(_CLIENTS, "all else is fedgen, its terms and features among them"),
)
