"""Mosaic, stages 3 to 4: the teacher, which the experts and the meta model make up.

The teacher of the paper is ``kind: meta``; the other kinds are simpler ones to hold
against it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from fedkd.ops.ensembles import LogitEnsemble, class_diagonal, mean_logits
from fedkd.ops.stacking import together
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
    experts.eval().requires_grad_(False)
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


def build_experts(members: Members, config: TeacherConfig, server: Server) -> nn.Module:
    """Return the class experts: images to logits ``[E, B, C]``.

    expert_c = sum_k n_kc w_k / sum_k n_kc with one architecture (the paper's setting).
    """
    if extensions.mixes_logits(members, config):
        share_KE = extensions.expert_shares(members).to(server.device)
        return LogitExperts(members.clients(server), share_KE)
    if members.fleet.nested is not None:
        return ParameterExperts(extensions.nested_experts(members, server))
    averages = class_experts(list(members.models.values()), members.counts())
    return ParameterExperts(
        [server.client_model(0, weights) for weights in averages.values()]
    )


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


class ParameterExperts(nn.Module):
    """Experts that are models of their own: expert e is ``members[e]``."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self._answer = [together(members)]  # in a list: the same modules, not others

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``[B, C, H, W]`` to the experts' logits ``[E, B, C]``."""
        logits_EBC: Tensor = self._answer[0](x)
        return logits_EBC

    def heads(self, features_ND: Tensor) -> Tensor:
        """Map features ``[N, D]`` to the logits ``[E, N, C]`` of the experts' heads."""
        return torch.stack([m.head(features_ND) for m in self.members])  # type: ignore[operator]


class LogitExperts(nn.Module):
    """Experts that are mixtures of client models: z_e = sum_k tau_ke f_k(x) (ours).

    They stand in for averages of parameters where architectures differ.
    """

    share_KE: Tensor

    def __init__(self, members: Sequence[nn.Module], share_KE: Tensor) -> None:
        """Args: ``share_KE`` is tau_kc = n_kc / sum_j n_jc of the experts' classes."""
        super().__init__()
        self.members = nn.ModuleList(members)
        self._answer = [together(members)]
        self.register_buffer("share_KE", share_KE)

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``[B, C, H, W]`` to the experts' logits ``[E, B, C]``."""
        return self._mixed(self._answer[0](x))

    def heads(self, features_ND: Tensor) -> Tensor:
        """Map features ``[N, D]`` to the logits ``[E, N, C]`` of mixed heads."""
        logits = [m.head(features_ND) for m in self.members]  # type: ignore[operator]
        return self._mixed(torch.stack(logits))

    def _mixed(self, logits_KBC: Tensor) -> Tensor:
        return torch.einsum("ke,kbc->ebc", self.share_KE.to(logits_KBC), logits_KBC)


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
