"""Mosaic: the strategy, its payloads and its presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from fedkd.algorithms.averaging import Update as ModelUpdate
from fedkd.algorithms.averaging import local_update
from fedkd.algorithms.fleet import SERVER, Fleet, assemble
from fedkd.algorithms.mosaic import teacher as teaching
from fedkd.algorithms.mosaic.config import MosaicConfig
from fedkd.algorithms.mosaic.distil import load_generator
from fedkd.algorithms.mosaic.experts import Members, build_experts
from fedkd.algorithms.mosaic.generator import draw, train_generator
from fedkd.algorithms.mosaic.presets import CODE_OPTIONS, ORIGIN_OPTIONS
from fedkd.algorithms.mosaic.server import Distillation, Stage, fusion_of
from fedkd.ops.prototypes import class_prototypes
from fedkd.payload import Weights
from fedkd.strategy import (
    Client,
    Preset,
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

    @property
    def weights(self) -> Weights:
        """The global model."""
        return self.fleet.whole


class Mosaic(Strategy[State, Broadcast, Update]):
    """FedAvg, then distillation from class experts on generated images, then FedAvg."""

    Config = MosaicConfig
    config: MosaicConfig
    requires = Requires(buffers=("average", "reestimate"))

    def __init__(self, config: MosaicConfig | None = None) -> None:
        super().__init__(config)
        teacher = self.config.teacher
        if teacher.kind == "meta" and teacher.prototypes == "features":
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
        config = self.config
        left = config.warmup_rounds(round.total) - round.index
        distils = config.distil.steps > 0
        now = left == 1 or (left > 0 and config.generator.start == "first")
        features = config.teacher.kind == "meta" and (
            config.teacher.prototypes == "features"
        )
        return Broadcast(
            state.fleet.of(client_id, round.index),
            lr=config.finetune_lr if distils and left <= 0 else None,
            send_generator=distils and now and client_id not in state.generators,
            send_features=distils
            and features
            and 0 < left <= config.teacher.prototype_rounds,
        )

    def local(self, down: Broadcast, client: Client) -> Update:
        """Stages "local update" and "generator optimisation"."""
        features = self._features(down, client) if down.send_features else {}
        if down.lr is not None:
            client.training = client.training.model_copy(update={"lr": down.lr})
        update = local_update(down.weights, client)
        generator = None
        if down.send_generator:
            trained = train_generator(client, self.config.generator)
            generator = None if trained is None else read_weights(trained)
        counts_C = client.data.label_counts()
        return Update(update.weights, counts_C, generator, features)

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
        last = round.index + 1 == self.config.warmup_rounds(round.total)
        if not last or self.config.distil.steps == 0 or not state.generators:
            return state
        sent_models = {k: up.weights for k, up in ups.items()}
        members = Members(state.fleet, sent_models, state.label_counts, round.index)
        weights, stage = Distillation(
            self.config, members, state.generators, state.features, server
        ).run()
        fleet = state.fleet.taught(weights)
        return replace(state, fleet=fleet, features={}, stage=stage)

    def milestone(self, state: State, round: Round) -> bool:
        """The distillation round is always measured."""
        del round
        return state.stage is not None

    def predictors(self, state: State, server: Server) -> Mapping[str, nn.Module]:
        """Measure the global model; at distillation also what it came from.

        ``before_distillation``: the average of the clients. ``after_distillation``: what
        became of it, before any fine-tuning. ``experts``: the plain mean
        of the class experts. ``teacher``: what taught, without the origin prior, which
        a real image has not.
        """
        stage = state.stage
        if stage is None:
            return {"global": server.load(state.fleet.whole)}
        members, config = stage.members, self.config.teacher
        distilled = teaching.with_weights(server, state.fleet.whole)
        found: dict[str, nn.Module] = {
            "global": distilled,
            "after_distillation": distilled,
            "before_distillation": teaching.with_weights(server, members.fleet.whole),
        }
        if config.kind in ("meta", "experts", "diagonal"):
            experts = build_experts(members, config, server)
            fusion = fusion_of(config, members, stage.meta, server)
            found["experts"] = teaching.Teacher(experts, teaching.Mean())
            found["teacher"] = teaching.Teacher(experts, fusion)
        return found

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
        model = client.load(down.weights).eval()
        features, labels = [], []
        with torch.no_grad():
            for x, y in client.data.images(client.training.batch_size):
                features.append(model.features(x))  # type: ignore[operator]
                labels.append(y)
        return class_prototypes(
            torch.cat(features), torch.cat(labels), self.config.teacher.per_class, 42
        )


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


MOSAIC_CODE = Preset(
    Mosaic,
    CODE_OPTIONS,
    doc="The behaviour of the released code, switch by switch.",
    deviations=(
        "one program instead of two: the 300 rounds of FedAvg before are warm-up rounds",
        "rounds are whole passes from named streams, not iterators kept over rounds",
        "features are taken from all local images, not from I batches",
        "prototypes are not sent after distillation, where the code does not use them",
        "two parameters of the meta model that nothing reads (110 values) are left out",
        "a client that only holds class 0 sends no generator; the code divides by zero",
    ),
)
MOSAIC_ORIGIN = Preset(
    Mosaic,
    ORIGIN_OPTIONS,
    doc=(
        "Our extension, in neither the paper nor the released code: the teacher's "
        "logits carry the log label prior of the client whose generator made the image."
    ),
    deviations=(
        "the teacher is that of 'mosaic' plus log((p_k(c) + eps) / (1 + C eps)), k the "
        "client whose generator made the image; with teacher.kind: global it needs "
        "neither experts nor a meta model",
    ),
)
