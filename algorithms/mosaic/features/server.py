"""What the server makes of heads and generators: experts, a teacher, a new head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from fedkd.algorithms.mosaic.distillation import distil
from fedkd.algorithms.mosaic.experts import (
    Gate,
    TeacherFunction,
    class_experts,
    train_meta,
)
from fedkd.algorithms.mosaic.extensions import with_origin_prior
from fedkd.algorithms.mosaic.features.clients import build_generator, draw
from fedkd.algorithms.mosaic.features.config import (
    GeneratorConfig,
    MosaicFeaturesConfig,
)
from fedkd.ops.ensembles import mean_logits
from fedkd.ops.heads import features_of, head_entries, head_of
from fedkd.ops.sampling import label_batches
from fedkd.payload import Weights
from fedkd.strategy import Server, read_weights


@dataclass(frozen=True)
class Sent:
    """What the clients have sent in the round of features, by client."""

    heads: Mapping[int, Weights]
    """Their heads, by position."""
    generators: Mapping[int, Weights]
    """Their generators."""
    label_counts: Mapping[int, Tensor]
    """n_kc, int64 ``[C]`` each."""


@dataclass(frozen=True)
class Stage:
    """What the round of features was about, kept for one measurement."""

    before: Weights
    """The model that made the features."""
    experts: Mapping[int, Weights]
    """The experts' heads, by class."""
    meta: Weights | None
    """The meta model; None if the teacher has none."""


class Head(nn.Module):
    """The head of a model as a network of its own."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, features_BD: Tensor) -> Tensor:
        """Map features ``[B, D]`` to logits ``[B, C]``."""
        return head_of(self.model)(features_BD)


class ExpertHeads(nn.Module):
    """Several heads in the place of a model's own, which is not changed."""

    def __init__(self, model: nn.Module, heads: Mapping[int, Weights]) -> None:
        """Args: ``heads`` are by class, their parameters by position."""
        super().__init__()
        self._head = Head(model)
        device = next(model.parameters()).device
        names = head_entries(model)
        self._weights = [
            {f"model.{name}": head[str(i)].to(device) for i, name in enumerate(names)}
            for _, head in sorted(heads.items())
        ]

    def forward(self, features_BD: Tensor) -> Tensor:
        """Map features ``[B, D]`` to logits ``[E, B, C]``."""
        answers = [
            functional_call(self._head, w, (features_BD,)) for w in self._weights
        ]
        return torch.stack(answers)


class Fused(nn.Module):
    """Expert heads whose logits a meta model, or the plain mean, makes one."""

    def __init__(self, experts: ExpertHeads, meta: nn.Module | None) -> None:
        super().__init__()
        self.experts = experts
        self.meta = meta
        self.eval().requires_grad_(False)

    def forward(self, features_BD: Tensor) -> Tensor:
        """Map features ``[B, D]`` to logits ``[B, C]``."""
        logits_EBC = self.experts(features_BD)
        fused_BC: Tensor = (self.meta or mean_logits)(logits_EBC)
        return fused_BC


class OnInputs(nn.Module):
    """A model's body with something else in the place of its head."""

    def __init__(self, model: nn.Module, top: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.top = top

    def forward(self, x: Tensor) -> Tensor:
        """Map inputs, ``[B, C, H, W]`` or ``[B, D]``, to logits ``[B, C]``."""
        logits_BC: Tensor = self.top(features_of(self.model, x))
        return logits_BC


class FeatureSource:
    """The clients' generators asked together, for labels as each client has them."""

    def __init__(self, sent: Sent, config: GeneratorConfig, server: Server) -> None:
        self.clients = sorted(sent.generators)
        """Client of generator ``i``."""
        self._counts = [sent.label_counts[k] for k in self.clients]
        self._config = config
        self._device = server.device
        self._generators = []
        for k in self.clients:
            generator = build_generator(server, config)
            generator.load_state_dict(dict(sent.generators[k]))
            self._generators.append(generator.eval().requires_grad_(False))

    @property
    def sizes(self) -> list[int]:
        """n_k, by generator."""
        return [int(counts_C.sum()) for counts_C in self._counts]

    def draw(self, numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Draw ``numbers[i]`` features of generator ``i``, labels from p_k(c).

        Returns:
            Features ``[B, D]`` and their labels, int64 ``[B]``, which are their origin.
        """
        features, labels = [], []
        for i, number in enumerate(numbers):
            if number:
                (told,) = label_batches(self._counts[i], 1, number, "iid")
                told = told.to(self._device)
                features.append(draw(self._generators[i], told, self._config))
                labels.append(told)
        return torch.cat(features), torch.cat(labels)


def head_distilled(
    config: MosaicFeaturesConfig, weights: Weights, sent: Sent, server: Server
) -> tuple[Weights, Stage]:
    """Form the teacher and distil it into the head of the global model.

    Args:
        config: The strategy's.
        weights: The model that made the features.
        sent: What the clients have made of them.
        server: The server's side.

    Returns:
        The global model with its new head, and what it came from.
    """
    model = server.load(weights).eval()
    source = FeatureSource(sent, config.generator, server)
    counts_KC = torch.stack([sent.label_counts[k] for k in sent.heads])
    experts = class_experts(list(sent.heads.values()), counts_KC)
    teacher, meta = _teacher(config, experts, source, server)
    labels_CC = torch.eye(server.num_classes)
    epsilon = config.teacher.label_epsilon
    told = with_origin_prior(teacher, list(labels_CC), epsilon, server)
    # Of the whole model only the head gets gradients, and so only the head moves.
    distil(Head(model), told, source, source.sizes, config.distil, server)
    return read_weights(model), Stage(weights, experts, meta)


def _teacher(
    config: MosaicFeaturesConfig,
    experts: Mapping[int, Weights],
    source: FeatureSource,
    server: Server,
) -> tuple[TeacherFunction, Weights | None]:
    """Return what teaches, and the trained meta model's weights if it has one."""
    body = server.client_model(0, read_weights(server.model))
    if config.teacher.kind == "global":
        return _blind(Head(body)), None
    heads = ExpertHeads(body, experts)
    if config.teacher.kind == "experts":
        return _blind(Fused(heads, None)), None
    gate = Gate(sorted(experts), server.num_classes, config.teacher.gate_start)
    number = config.teacher.samples_per_client
    features_ND, labels_N = source.draw([number] * len(source.clients))
    with torch.no_grad():
        logits_ENC = heads(features_ND)
    meta = train_meta(
        gate.to(server.device), logits_ENC, labels_N, config.teacher, server
    )
    return _blind(Fused(heads, meta)), read_weights(meta)


def _blind(teacher: nn.Module) -> TeacherFunction:
    """Return a teacher that does not look at the label of a feature."""
    return lambda features_BD, labels_B: teacher(features_BD)


def measured(
    stage: Stage, config: MosaicFeaturesConfig, server: Server
) -> dict[str, nn.Module]:
    """Return what the new head came from: the model before, the experts, the teacher."""
    model = server.client_model(0, stage.before)
    heads = ExpertHeads(model, stage.experts)
    result = {
        "before_distillation": model,
        "experts": OnInputs(model, Fused(heads, None)),
    }
    if stage.meta is not None:
        start = config.teacher.gate_start
        gate = Gate(sorted(stage.experts), server.num_classes, start)
        gate.load_state_dict(dict(stage.meta))
        result["teacher"] = OnInputs(model, Fused(heads, gate.to(server.device)))
    return result
