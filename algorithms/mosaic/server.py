"""Mosaic, server side: the stages "aggregation" and "distillation" put together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedkd.algorithms.mosaic import teacher as teaching
from fedkd.algorithms.mosaic.config import MosaicConfig, TeacherConfig
from fedkd.algorithms.mosaic.distil import (
    ImageSource,
    TeacherFunction,
    distil,
    load_generator,
)
from fedkd.algorithms.mosaic.experts import Members, build_experts
from fedkd.ops.ensembles import LogitEnsemble
from fedkd.payload import Weights
from fedkd.strategy import Server, read_weights


@dataclass(frozen=True)
class Stage:
    """What the distillation round began with, kept for one measurement."""

    members: Members
    """The models when warm-up ended."""
    meta: Weights | None
    """The meta model; None if the teacher has none."""


class Distillation:
    """The server's work after warm-up: stages "aggregation" and "distillation"."""

    def __init__(
        self,
        config: MosaicConfig,
        members: Members,
        generators: Mapping[int, Weights],
        features: Mapping[int, Tensor],
        server: Server,
    ) -> None:
        """Load the generators.

        Args:
            config: The strategy's.
            members: The models when warm-up ended.
            generators: Weights of the generators, by client.
            features: Feature prototypes by class, ``[N, D]`` each.
            server: The server's side.
        """
        self.config = config
        self.members = members
        self.features = features
        self.server = server
        loaded = {
            k: load_generator(sent, server, config.generator)
            for k, sent in generators.items()
        }
        self.source = ImageSource(loaded, config.generator, server)
        self.sizes = [int(members.label_counts[k].sum()) for k in self.source.clients]

    def run(self) -> tuple[Weights, Stage]:
        """Form the teacher and distil it; return the new global model and the stage."""
        fleet = self.members.fleet
        student = teaching.with_weights(self.server, fleet.whole)
        teacher, meta = self._teacher()
        if self.config.teacher.origin_prior:
            teacher = self._with_origin_prior(teacher)
        config = self.config.distil
        asked = config.batch_norm
        student.train(asked == "train" or (asked == "auto" and fleet.server_is_new))
        distil(student, teacher, self.source, self.sizes, config, self.server)
        return read_weights(student), Stage(self.members, meta)

    def _teacher(self) -> tuple[TeacherFunction, Weights | None]:
        """Return the teacher and its meta model's weights."""
        kind = self.config.teacher.kind
        if kind == "own_client":
            return self._own_client(), None
        if kind in ("global", "clients"):
            of = self.members.clients if kind == "clients" else self.members.averages
            return _blind(LogitEnsemble(of(self.server))), None
        experts = build_experts(self.members, self.config.teacher, self.server)
        experts.eval().requires_grad_(False)
        if kind != "meta":
            fusion = fusion_of(self.config.teacher, self.members, None, self.server)
            return _blind(teaching.Teacher(experts, fusion)), None
        fusion = self._trained_meta(experts)
        meta = read_weights(fusion)
        return _blind(teaching.Teacher(experts, fusion)), meta

    def _trained_meta(self, experts: nn.Module) -> nn.Module:
        config = self.config.teacher
        classes = self.members.expert_classes()
        meta = teaching.build_meta(classes, self.server.num_classes, config)
        by_features = config.prototypes == "features"
        logits_ENC, labels_N = (
            self._feature_prototypes(experts)
            if by_features
            else self._sample_prototypes(experts)
        )
        meta = meta.to(self.server.device)
        return teaching.train_meta(meta, logits_ENC, labels_N, config, self.server)

    @torch.no_grad()
    def _feature_prototypes(self, experts: nn.Module) -> tuple[Tensor, Tensor]:
        """Return heads' logits ``[E, N, C]`` and labels ``[N]`` of sent features."""
        sent = sorted(self.features.items())
        features_ND = torch.cat([rows for _, rows in sent]).to(self.server.device)
        labels_N = torch.cat([torch.full((len(rows),), c) for c, rows in sent])
        logits_ENC: Tensor = experts.heads(features_ND)  # type: ignore[operator]
        return logits_ENC, labels_N.to(self.server.device)

    @torch.no_grad()
    def _sample_prototypes(self, experts: nn.Module) -> tuple[Tensor, Tensor]:
        """Return experts' logits ``[E, N, C]`` and labels ``[N]`` of generated images.

        The label is what the model of the image's own client says, among the classes
        that this client holds.
        """
        number = self.config.teacher.samples_per_client
        logits, labels = [], []
        for i, k in enumerate(self.source.clients):
            shares = [number if j == i else 0 for j in range(len(self.source.clients))]
            x, _ = self.source.draw(shares)
            own = self.members.client(k, self.server)
            missing_C = self.members.label_counts[k].to(self.server.device) == 0
            answers_BC = own(x).masked_fill(missing_C, -torch.inf)
            labels.append(answers_BC.argmax(1))
            logits.append(experts(x))
        return torch.cat(logits, dim=1), torch.cat(labels)

    def _own_client(self) -> TeacherFunction:
        """Return a teacher that asks the model of each image's own client."""
        known = self.source.clients
        models = [self.members.client(k, self.server) for k in known]

        def teacher(x: Tensor, origin: Tensor) -> Tensor:
            pieces = x.split(torch.bincount(origin, minlength=len(known)).tolist())
            answers = [
                model(piece)
                for model, piece in zip(models, pieces, strict=True)
                if len(piece)
            ]
            return torch.cat(answers)

        return teacher

    def _with_origin_prior(self, teacher: TeacherFunction) -> TeacherFunction:
        """Add log p_k(c) of each image's client to the logits (ours)."""
        epsilon = self.config.teacher.origin_epsilon
        counts = self.members.label_counts
        priors_KC = torch.stack(
            [teaching.log_prior(counts[k], epsilon) for k in self.source.clients]
        ).to(self.server.device)
        return lambda x, origin: teacher(x, origin) + priors_KC[origin]


def fusion_of(
    config: TeacherConfig, members: Members, meta: Weights | None, server: Server
) -> nn.Module:
    """Return how the class experts are fused, with the meta model's weights if any."""
    classes = members.expert_classes()
    if config.kind == "meta" and meta is not None:
        fusion = teaching.build_meta(classes, server.num_classes, config)
        fusion.load_state_dict(dict(meta))
        return fusion.to(server.device)
    return teaching.Diagonal(classes) if config.kind == "diagonal" else teaching.Mean()


def _blind(teacher: nn.Module) -> TeacherFunction:
    """Return a teacher that does not look at the origin of an image."""
    return lambda x, origin: teacher(x)
