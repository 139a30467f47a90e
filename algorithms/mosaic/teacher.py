"""Mosaic, server side: experts, the meta model that fuses them, and the teacher."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedkd.algorithms.mosaic.config import TeacherConfig
from fedkd.ops.ema import WeightAverage
from fedkd.ops.ensembles import class_diagonal
from fedkd.ops.stacking import together
from fedkd.payload import Weights
from fedkd.strategy import Server, copy_weights


class Gate(nn.Module):
    """A small meta model: per class a convex mix of the experts' logits.

    t_c = s * sum_e A_ce z_ec + b_c, A = softmax of theta over experts; theta starts at
    ``start`` on the diagonal, so that expert c judges class c. Ours: C * (E + 1) + 1
    parameters instead of the transformer's 0.95 million.
    """

    def __init__(self, classes: Sequence[int], num_classes: int, start: float) -> None:
        """Args: ``classes[e]`` is the class of expert ``e``."""
        super().__init__()
        theta_CE = torch.zeros(num_classes, len(classes))
        for expert, label in enumerate(classes):
            theta_CE[label, expert] = start
        self.theta_CE = nn.Parameter(theta_CE)
        self.scale = nn.Parameter(torch.ones(()))
        self.bias_C = nn.Parameter(torch.zeros(num_classes))

    def forward(self, logits_EBC: Tensor) -> Tensor:
        """Map the experts' logits ``[E, B, C]`` to logits ``[B, C]``."""
        mix_CE = self.theta_CE.softmax(1)
        fused_BC = torch.einsum("ce,ebc->bc", mix_CE, logits_EBC)
        logits_BC: Tensor = self.scale * fused_BC + self.bias_C
        return logits_BC


class MetaTransformer(nn.Module):
    """The released code's meta model: a transformer over the experts.

    Linear C -> aC, ``nn.Transformer`` (1 encoder and 1 decoder layer, C heads, feed-
    forward 2048, dropout 0.2, source = target), sum or mean over experts, Linear
    aC -> C. Without the embedding it is invariant to the order of the experts.
    """

    def __init__(
        self, num_experts: int, num_classes: int, config: TeacherConfig
    ) -> None:
        super().__init__()
        size = config.expansion * num_classes
        self.pooling = config.pooling
        self.expand = nn.Linear(num_classes, size)
        self.embedding_ED = None
        if config.expert_embedding:
            self.embedding_ED = nn.Parameter(torch.randn(num_experts, 1, size))
        with warnings.catch_warnings():
            # PyTorch says that a fast path for padded batches is off; there are none.
            warnings.filterwarnings("ignore", "enable_nested_tensor")
            self.transformer = nn.Transformer(
                d_model=size,
                nhead=num_classes,
                num_encoder_layers=1,
                num_decoder_layers=1,
                dim_feedforward=2048,
                dropout=0.2,
            )
        self.reduce = nn.Linear(size, num_classes)

    def forward(self, logits_EBC: Tensor) -> Tensor:
        """Map the experts' logits ``[E, B, C]`` to logits ``[B, C]``."""
        tokens_EBD = self.expand(logits_EBC)
        if self.embedding_ED is not None:
            tokens_EBD = tokens_EBD + self.embedding_ED
        fused_EBD = self.transformer(tokens_EBD, tokens_EBD)
        pooled_BD = fused_EBD.sum(0) if self.pooling == "sum" else fused_EBD.mean(0)
        logits_BC: Tensor = self.reduce(pooled_BD)
        return logits_BC


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

    def __init__(self, experts: nn.Module, fusion: nn.Module) -> None:
        super().__init__()
        self.experts = experts
        self.fusion = fusion
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``[B, C, H, W]`` to logits ``[B, C]``."""
        logits_BC: Tensor = self.fusion(self.experts(x))
        return logits_BC


class Mean(nn.Module):
    """The plain ensemble: the mean of the members' logits."""

    def forward(self, logits_KBC: Tensor) -> Tensor:
        """Map ``[K, B, C]`` to ``[B, C]``."""
        return logits_KBC.mean(0)


class Diagonal(nn.Module):
    """Expert c judges class c."""

    def __init__(self, classes: Sequence[int]) -> None:
        super().__init__()
        self.classes = list(classes)

    def forward(self, logits_EBC: Tensor) -> Tensor:
        """Map ``[E, B, C]`` to ``[B, C]``."""
        return class_diagonal(logits_EBC, self.classes)


def with_weights(server: Server, weights: Weights) -> nn.Module:
    """Return a new copy of the server's model, in eval mode, with ``weights``."""
    model = copy.deepcopy(server.model)
    copy_weights(weights, model)
    return model.eval().requires_grad_(False)


def build_meta(
    classes: Sequence[int], num_classes: int, config: TeacherConfig
) -> nn.Module:
    """Return a new meta model for experts of the given classes."""
    if config.meta == "gate":
        return Gate(classes, num_classes, config.gate_start)
    return MetaTransformer(len(classes), num_classes, config)


def log_prior(counts_C: Tensor, epsilon: float) -> Tensor:
    """Return log((p_k(c) + eps) / (1 + C eps)), p_k = n_kc / n_k; ``[C]``."""
    share_C = counts_C / counts_C.sum()
    return torch.log((share_C + epsilon) / (1 + len(counts_C) * epsilon))


def train_meta(
    meta: nn.Module,
    logits_ENC: Tensor,
    labels_N: Tensor,
    config: TeacherConfig,
    server: Server,
) -> nn.Module:
    """Train the meta model on prototypes; return its averaged copy in eval mode.

    Args:
        meta: Maps experts' logits ``[E, B, C]`` to ``[B, C]``.
        logits_ENC: The frozen experts' logits of all prototypes.
        labels_N: The prototypes' labels.
        config: Steps, rate, averaging and hold-out.
        server: Counts the examples; logs the accuracy on held-out prototypes of the
            meta model and of the plain mean of the experts.
    """
    number = len(labels_N)
    order = torch.randperm(number).to(labels_N.device)
    held = int(config.holdout * number)
    kept, rest = order[held:], order[:held]
    average = WeightAverage(meta, config.ema_decay, corrected=config.ema_correction)
    adam = torch.optim.Adam(meta.parameters(), config.lr)
    meta.train()
    for _ in range(config.steps):
        chosen = torch.randperm(len(kept))[: config.batch_size]
        pick = kept[chosen.to(kept.device, non_blocking=True)]
        adam.zero_grad(set_to_none=True)
        F.cross_entropy(meta(logits_ENC[:, pick]), labels_N[pick]).backward()
        adam.step()
        average.update(meta)
        server.count_examples(len(pick))
    if config.steps:
        average.copy_to(meta)
    meta.eval()
    server.log("prototypes", number)
    if held:
        _log_heldout(meta, logits_ENC[:, rest], labels_N[rest], server)
    return meta


@torch.no_grad()
def _log_heldout(
    meta: nn.Module, logits_ENC: Tensor, labels_N: Tensor, server: Server
) -> None:
    """Log accuracies, in percent, on prototypes that the meta model has not seen."""
    fused = meta(logits_ENC).argmax(1) == labels_N
    plain = logits_ENC.mean(0).argmax(1) == labels_N
    server.log("meta_heldout_accuracy", 100 * fused.float().mean())
    server.log("experts_heldout_accuracy", 100 * plain.float().mean())
