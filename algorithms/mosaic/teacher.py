"""Mosaic, stages 3 to 4: the teacher, which the experts and the meta model make up.

The teacher of the paper is ``kind: meta``; the other kinds are simpler ones to hold
against it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from fedkd.algorithms.mosaic import extensions
from fedkd.algorithms.mosaic.config import TeacherConfig
from fedkd.algorithms.mosaic.experts import (
    Members,
    TeacherFunction,
    build_meta,
    class_experts,
    feature_prototypes,
    sample_prototypes,
    train_meta,
)
from fedkd.algorithms.mosaic.generators import ImageSource
from fedkd.ops.ensembles import LogitEnsemble, apart, class_diagonal, mean_logits
from fedkd.payload import Weights
from fedkd.strategy import Server, read_weights


def make_teacher(
    config: TeacherConfig,
    members: Members,
    source: ImageSource,
    features: Mapping[int, Tensor],
    server: Server,
) -> tuple[TeacherFunction, Weights | None]:
    """Return what teaches, and the trained meta model's weights if it has one.

    Args:
        config: Which teacher it is, and how its meta model is trained.
        members: The models when warm-up ended.
        source: The clients' generators.
        features: Feature prototypes by class, ``[N, D]`` each.
        server: The server's side.
    """
    if config.kind == "own_client":
        return _own_client(members, source, server), None
    if config.kind == "clients":
        return _blind(LogitEnsemble(members.clients(server))), None
    if config.kind == "global":
        return _blind(LogitEnsemble(extensions.averages(members, server))), None
    experts = build_experts(members, config, server)
    if config.kind != "meta":
        return _blind(Teacher(experts, fusion_of(config, members, None, server))), None
    meta = build_meta(members.expert_classes(), server.num_classes, config)
    logits_ENC, labels_N = (
        feature_prototypes(experts, features, server)
        if config.wants_features
        else sample_prototypes(
            experts, source, members, config.samples_per_client, server
        )
    )
    meta = train_meta(meta.to(server.device), logits_ENC, labels_N, config, server)
    return _blind(Teacher(experts, meta)), read_weights(meta)


def _own_client(
    members: Members, source: ImageSource, server: Server
) -> TeacherFunction:
    """Return a teacher that asks the model of each image's own client."""
    models = [members.client(k, server) for k in source.clients]

    def teacher(x: Tensor, origin: Tensor) -> Tensor:
        pieces = x.split(torch.bincount(origin, minlength=len(models)).tolist())
        asked = zip(models, pieces, strict=True)
        return torch.cat([model(piece) for model, piece in asked if len(piece)])

    return teacher


def _blind(teacher: nn.Module) -> TeacherFunction:
    """Return a teacher that does not look at the origin of an image."""
    return lambda x, origin: teacher(x)


def build_experts(
    members: Members, config: TeacherConfig, server: Server
) -> LogitEnsemble:
    """Return the class experts: images to logits ``[E, B, C]``.

    expert_c = sum_k n_kc w_k / sum_k n_kc with one architecture (the paper's setting).
    """
    if extensions.mixes_logits(members, config):
        return extensions.mixed_experts(members, server)
    if members.fleet.nested is not None:
        return extensions.nested_experts(members, server)
    averages = class_experts(list(members.models.values()), members.counts())
    # Under strong label skew, many classes share an expert.
    models = {id(one): server.client_model(0, one) for one in averages.values()}
    return LogitEnsemble([models[id(one)] for one in averages.values()], apart)


def fusion_of(
    config: TeacherConfig, members: Members, meta: Weights | None, server: Server
) -> Callable[[Tensor], Tensor]:
    """Return how the class experts are fused, with the meta model's weights if any."""
    classes = members.expert_classes()
    if meta is not None:
        fusion = build_meta(classes, server.num_classes, config)
        fusion.load_state_dict(dict(meta))
        return fusion.to(server.device)
    if config.kind == "diagonal":
        return partial(class_diagonal, classes=classes)
    return mean_logits


class Teacher(nn.Module):
    """Experts whose logits ``[E, B, C]`` are fused to ``[B, C]``; frozen, in eval."""

    def __init__(self, experts: nn.Module, fusion: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.experts = experts
        self.fusion = fusion
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``[B, C, H, W]`` to logits ``[B, C]``."""
        return self.fusion(self.experts(x))
