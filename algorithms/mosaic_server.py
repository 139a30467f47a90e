"""Mosaic, server side: the stages "aggregation" and "distillation" put together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedkd.algorithms import mosaic_teacher as teaching
from fedkd.algorithms.mosaic_config import MosaicConfig
from fedkd.algorithms.mosaic_distil import (
    ImageSource,
    TeacherFunction,
    distil,
    load_generator,
)
from fedkd.payload import Weights
from fedkd.strategy import Server, read_weights


@dataclass(frozen=True)
class Knowledge:
    """What the server has when warm-up ends."""

    weights: Weights
    """The global model: the average of this round."""
    models: Mapping[int, Weights]
    """This round's client models, by client."""
    label_counts: Mapping[int, Tensor]
    """n_kc by client, int64 ``[C]`` each."""
    generators: Mapping[int, Weights]
    """Generators by client."""
    features: Mapping[int, Tensor]
    """Feature prototypes by class, ``[N, D]`` each."""


@dataclass(frozen=True)
class Stage:
    """The models of the distillation round, kept for one measurement."""

    before: Weights
    """The global model before distillation."""
    experts: Mapping[int, Weights]
    """Experts by class; empty if the teacher has none."""
    meta: Weights | None
    """The meta model; None if the teacher has none."""


class Distillation:
    """The server's work after warm-up: stages "aggregation" and "distillation"."""

    def __init__(
        self,
        config: MosaicConfig,
        known: Knowledge,
        server: Server,
    ) -> None:
        self.config = config
        self.known = known
        self.server = server
        generators = {
            k: load_generator(sent, server, config.generator)
            for k, sent in known.generators.items()
        }
        self.source = ImageSource(generators, config.generator, server)
        self.sizes = [int(known.label_counts[k].sum()) for k in self.source.clients]

    def run(self) -> tuple[Weights, Stage]:
        """Form the teacher and distil it; return the new global model and the stage."""
        before = self.known.weights
        student = teaching.with_weights(self.server, before)
        teacher, experts, meta = self._teacher()
        if self.config.teacher.origin_prior:
            teacher = self._with_origin_prior(teacher)
        config = self.config.distil
        distil(student, teacher, self.source, self.sizes, config, self.server)
        return read_weights(student), Stage(before, experts, meta)

    def _teacher(
        self,
    ) -> tuple[TeacherFunction, dict[int, dict[str, Tensor]], Weights | None]:
        """Return the teacher, its experts by class, and its meta model's weights."""
        kind = self.config.teacher.kind
        if kind == "own_client":
            return self._own_client(), {}, None
        if kind in ("global", "clients"):
            every = self.known.models if kind == "clients" else {0: self.known.weights}
            members = [teaching.with_weights(self.server, w) for w in every.values()]
            return _blind(teaching.Teacher(members, teaching.Mean())), {}, None
        experts = teaching.experts_of(self.known.models, self.known.label_counts)
        members = [teaching.with_weights(self.server, w) for w in experts.values()]
        fusion: nn.Module = teaching.Mean()
        if kind == "diagonal":
            fusion = teaching.Diagonal(list(experts))
        if kind != "meta":
            return _blind(teaching.Teacher(members, fusion)), experts, None
        fusion = self._trained_meta(list(experts), members)
        meta = read_weights(fusion)
        return _blind(teaching.Teacher(members, fusion)), experts, meta

    def _trained_meta(self, classes: list[int], members: list[nn.Module]) -> nn.Module:
        config = self.config.teacher
        meta = teaching.build_meta(classes, self.server.num_classes, config)
        by_features = config.prototypes == "features"
        logits_ENC, labels_N = (
            self._feature_prototypes(members)
            if by_features
            else self._sample_prototypes(members)
        )
        meta = meta.to(self.server.device)
        return teaching.train_meta(meta, logits_ENC, labels_N, config, self.server)

    @torch.no_grad()
    def _feature_prototypes(self, members: list[nn.Module]) -> tuple[Tensor, Tensor]:
        """Return heads' logits ``[E, N, C]`` and labels ``[N]`` of sent features."""
        sent = sorted(self.known.features.items())
        features_ND = torch.cat([rows for _, rows in sent]).to(self.server.device)
        labels_N = torch.cat([torch.full((len(rows),), c) for c, rows in sent])
        logits = [member.head(features_ND) for member in members]  # type: ignore[operator]
        return torch.stack(logits), labels_N.to(self.server.device)

    @torch.no_grad()
    def _sample_prototypes(self, members: list[nn.Module]) -> tuple[Tensor, Tensor]:
        """Return experts' logits ``[E, N, C]`` and labels ``[N]`` of generated images.

        The label is what the model of the image's own client says, among the classes
        that this client holds.
        """
        number = self.config.teacher.samples_per_client
        logits, labels = [], []
        for i, k in enumerate(self.source.clients):
            shares = [number if j == i else 0 for j in range(len(self.source.clients))]
            x, _ = self.source.draw(shares)
            # A client that sat this round out is spoken for by the global model.
            answering = self.known.models.get(k, self.known.weights)
            own = teaching.with_weights(self.server, answering)
            missing_C = (self.known.label_counts[k] == 0).to(self.server.device)
            answers_BC = own(x).masked_fill(missing_C, -torch.inf)
            labels.append(answers_BC.argmax(1))
            logits.append(torch.stack([member(x) for member in members]))
        return torch.cat(logits, dim=1), torch.cat(labels)

    def _own_client(self) -> TeacherFunction:
        """Return a teacher that asks the model of each image's own client."""
        known = self.source.clients
        models = {
            i: teaching.with_weights(self.server, self.known.models[k])
            for i, k in enumerate(known)
            if k in self.known.models
        }
        fallback = teaching.with_weights(self.server, self.known.weights)

        def teacher(x: Tensor, origin: Tensor) -> Tensor:
            pieces = x.split(torch.bincount(origin, minlength=len(known)).tolist())
            answers = [
                models.get(i, fallback)(piece)
                for i, piece in enumerate(pieces)
                if len(piece)
            ]
            return torch.cat(answers)

        return teacher

    def _with_origin_prior(self, teacher: TeacherFunction) -> TeacherFunction:
        """Add log p_k(c) of each image's client to the logits (ours)."""
        epsilon = self.config.teacher.origin_epsilon
        priors_KC = torch.stack(
            [
                teaching.log_prior(self.known.label_counts[k], epsilon)
                for k in self.source.clients
            ]
        ).to(self.server.device)
        return lambda x, origin: teacher(x, origin) + priors_KC[origin]


def _blind(teacher: nn.Module) -> TeacherFunction:
    """Return a teacher that does not look at the origin of an image."""
    return lambda x, origin: teacher(x)
