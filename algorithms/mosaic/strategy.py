"""Mosaic: the strategy, its payloads and its presets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from fedkd.algorithms.averaging import Update as ModelUpdate
from fedkd.algorithms.fleet import SERVER, Fleet, assemble
from fedkd.algorithms.mosaic.config import MosaicConfig
from fedkd.algorithms.mosaic.distillation import Stage, distilled
from fedkd.algorithms.mosaic.experts import Members, with_weights
from fedkd.algorithms.mosaic.generators import (
    draw,
    load_generator,
    networks,
    train_generator,
)
from fedkd.algorithms.mosaic.schedule import RoundPlan
from fedkd.algorithms.mosaic.teacher import Teacher, build_experts, fusion_of
from fedkd.ops.ensembles import mean_logits
from fedkd.ops.prototypes import class_prototypes
from fedkd.ops.training import draws_of
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

GALLERY_IMAGES = 10


@dataclass(frozen=True)
class Broadcast:
    """What the server sends."""

    weights: Weights
    """The global model."""
    lr: float | None
    """The learning rate of fine-tuning; None before distillation."""
    send_generator: bool
    """Whether the client is to train and send its generator in this round."""
    send_features: bool
    """Whether the client is to send feature prototypes in this round."""


@dataclass(frozen=True)
class Update:
    """What a client sends back."""

    weights: Weights
    """The locally trained model."""
    label_counts: Tensor
    """n_kc, images of each class, int64 ``[C]``."""
    generator: Weights | None
    """The trained generator; sent once."""
    features: Mapping[int, Tensor]
    """Feature prototypes by class, float32 ``[m, D]`` each."""


@dataclass(frozen=True)
class State:
    """What the server remembers."""

    fleet: Fleet
    """The global model; with several architectures, one average for each."""
    label_counts: Mapping[int, Tensor] = field(default_factory=dict)
    """n_kc by client."""
    generators: Mapping[int, Weights] = field(default_factory=dict)
    """Generators by client."""
    features: Mapping[int, Tensor] = field(default_factory=dict)
    """Feature prototypes by class, ``[N, D]`` each."""
    stage: Stage | None = None
    """Set in the distillation round only."""
    distilled: bool = False
    """Whether the distillation round is over."""

    @property
    def weights(self) -> Weights:
        """The global model."""
        return self.fleet.whole


class Mosaic(Strategy[State, Broadcast, Update]):
    """FedAvg, then distillation from class experts on generated images, then FedAvg."""

    varying = ("features",)  # as many of a class as the client has
    no_average = "its server also learns from each client's model by itself"
    Config = MosaicConfig
    config: MosaicConfig
    requires = Requires(buffers=("average", "reestimate"))

    def __init__(self, config: MosaicConfig | None = None) -> None:
        super().__init__(config)
        teacher = self.config.teacher
        # Without distillation nobody builds a generator or sends features.
        distils = self.config.distil.steps > 0
        if distils:
            builds = networks(self.config.generator)
            self.requires = replace(self.requires, builds=builds)
        if distils and teacher.wants_features:
            self.requires = replace(self.requires, equal_feature_size=True)
        if self.config.aggregate != "plain":
            self.requires = replace(self.requires, nested_widths=True)
        elif teacher.experts == "parameters":
            self.requires = replace(self.requires, one_architecture=True)

    def init(self, server: Server) -> State:
        """Start from the initial weights."""
        return State(assemble(server, self.config.aggregate))

    def broadcast(self, state: State, client_id: int, round: Round) -> Broadcast:
        """Send the global model, and say what else is wanted this round."""
        plan = RoundPlan.of(self.config, round, state.distilled)
        return Broadcast(
            state.fleet.of(client_id, round.index),
            lr=plan.lr,
            send_generator=plan.generators and client_id not in state.generators,
            send_features=plan.features,
        )

    def local(self, down: Broadcast, client: Client) -> Update:
        """Train the model (stage 1) and, once, the generator (stage 2); report both."""
        features = self._features(down, client) if down.send_features else {}
        client.load(down.weights)
        lr = {} if down.lr is None else {"lr": down.lr}
        client.train(training=client.training.model_copy(update=lr))
        weights = read_weights(client.model)
        generator = None
        if down.send_generator:
            trained = train_generator(client, self.config.generator)
            generator = None if trained is None else read_weights(trained)
        counts_C = client.data.label_counts()
        return Update(weights, counts_C, generator, features)

    def expected(self, down: Broadcast, party: Party) -> Update:
        """The model that was sent and images of each class; what else is asked is open."""
        counts_C = torch.zeros(party.num_classes, dtype=torch.int64)
        return Update(down.weights, counts_C, None, {})

    def aggregate(
        self, state: State, ups: Mapping[int, Update], server: Server, round: Round
    ) -> State:
        """Average; after the last warm-up round form the teacher and distil it."""
        sizes = {k: int(up.label_counts.sum()) for k, up in ups.items()}
        models = {k: ModelUpdate(up.weights, sizes[k]) for k, up in ups.items()}
        sent = {k: up.generator for k, up in ups.items() if up.generator is not None}
        state = replace(
            state,
            fleet=state.fleet.averaged(models, round.index),
            label_counts={
                **state.label_counts,
                **{k: up.label_counts for k, up in ups.items()},
            },
            generators={**state.generators, **sent},
            features=_merged(state.features, ups),
            stage=None,
        )
        plan = RoundPlan.of(self.config, round, state.distilled)
        if not plan.distils or not state.generators:
            return state
        sent_models = {k: up.weights for k, up in ups.items()}
        members = Members(state.fleet, sent_models, state.label_counts, round.index)
        weights, stage = distilled(
            self.config, members, state.generators, state.features, server
        )
        fleet = state.fleet.taught(weights)
        return replace(state, fleet=fleet, features={}, stage=stage, distilled=True)

    def milestone(self, state: State, round: Round) -> bool:
        """The distillation round is always measured."""
        del round
        return state.stage is not None

    def predictors(self, state: State, server: Server) -> Mapping[str, nn.Module]:
        """Measure the global model; at distillation also what it came from.

        ``before_distillation``: the average of the clients. ``after_distillation``: what
        became of it, before any fine-tuning. ``experts``: the plain mean of the class
        experts. ``teacher``: what taught, without the origin prior, which a real image
        has not.
        """
        stage = state.stage
        if stage is None:
            return {"global": server.load(state.fleet.whole)}
        members, config = stage.members, self.config.teacher
        student = with_weights(server, state.fleet.whole)
        measured: dict[str, nn.Module] = {
            "global": student,
            "after_distillation": student,
            "before_distillation": with_weights(server, members.fleet.whole),
        }
        if config.kind in ("meta", "experts", "diagonal"):
            experts = build_experts(members, config, server)
            fusion = fusion_of(config, members, stage.meta, server)
            measured["experts"] = Teacher(experts, mean_logits)
            measured["teacher"] = Teacher(experts, fusion)
        return measured

    def personal(self, state: State, client: Client) -> nn.Module | None:
        """A client with another architecture than the server has that one's average."""
        if state.fleet.kinds[client.id] == SERVER:
            return None
        return client.load(state.fleet.of(client.id, 0))

    def gallery(self, state: State, server: Server) -> Mapping[str, Tensor]:
        """Draw a row of images from each client's generator."""
        config = self.config.generator
        return {
            f"client {k}": draw(
                load_generator(weights, server, config),
                GALLERY_IMAGES,
                config,
                server.images,
            )
            for k, weights in sorted(state.generators.items())
        }

    def _features(self, down: Broadcast, client: Client) -> dict[int, Tensor]:
        """Return k-means centres of the received model's features, by class."""
        teacher = self.config.teacher
        model = client.load(down.weights).eval()
        features, labels = [], []
        with torch.no_grad():
            for x, y in _seen(client, teacher.features_of):
                features.append(model.features(x))  # type: ignore[operator]
                labels.append(y)
        centres = class_prototypes(
            torch.cat(features), torch.cat(labels), teacher.per_class, 42
        )
        return {c: rows[: teacher.centres_sent] for c, rows in centres.items()}


def _seen(client: Client, features_of: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Return the batches whose features a client takes, ``(x [B, C, H, W], y [B])``."""
    if features_of == "images":
        return client.data.images(client.training.batch_size)
    return map(client.data.made, draws_of(client.data, client.training))


def _merged(
    features: Mapping[int, Tensor], ups: Mapping[int, Update]
) -> dict[int, Tensor]:
    """Append this round's feature prototypes, by class."""
    merged = dict(features)
    for up in ups.values():
        for label, rows in up.features.items():
            known = [merged[label]] if label in merged else []
            merged[label] = torch.cat([*known, rows])
    return merged
