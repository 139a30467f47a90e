"""Fed-ET: small models of clients teach a larger one at the server, on public images.

Paper: Cho, Manoel, Joshi, Sim, Dimitriadis, "Heterogeneous Ensemble Knowledge Transfer for
    Training Large Models in Federated Learning", IJCAI 2022, arXiv:2204.12703v1.
Algorithm: weighted consensus with diversity regularisation, and the transfer of the
    representation layer. Of the paper, its abstract and introduction could be read; the
    equations and amounts are those of accounts of it and of a public reimplementation.
Code: none by the authors was found.
Deviations: the representation layer, which all models have, is their last one (as in that
    code), for which all need features of one size: the option ``features`` of models.
    Teachers answer for the images of each step as the student sees them, augmented unless
    ``augment: false``; there, once for all images as they are stored. Confidence is not
    given an epsilon: an image on which nobody has any is taught by all alike, and one that
    nobody confident disagrees on has no diversity term. The server's model is apart from
    those of the clients, even of clients with its architecture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from fedkd.algorithms.averaging import Global, Update, local_update
from fedkd.algorithms.datafree import require_finite
from fedkd.algorithms.fleet import Fleet, assemble
from fedkd.config import Config
from fedkd.ops.averaging import weighted_average
from fedkd.ops.distillation import kl_rows
from fedkd.ops.ensembles import LogitEnsemble, apart, weighted_logits
from fedkd.ops.heads import load_head, read_head
from fedkd.ops.optimisers import Sgd
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


class FedETConfig(Config):
    """Hyper-parameters of Fed-ET."""

    steps: int = Field(128, ge=0)
    """Steps of the server's model in a round; 128 in public code."""
    batch_size: int = Field(64, ge=2)
    """Public images in a step; 64 in public code."""
    lr: float = Field(5e-3, ge=0)
    """Rate of the server's SGD; 0.005 in public code."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """Momentum of the server's SGD, from rest in each round; 0.9 in public code."""
    diversity: float = Field(0.05, ge=0)
    """lambda, the weight of the diversity term; 0.05 in public code. 0 leaves it out."""
    representation: Literal["head", "none"] = "head"
    """The layer that all models have in common: the last one; or ``none``, where models
    may have features of any size."""
    weights: Literal["examples", "uniform"] = "uniform"
    """The weight of a client in means of weights: 1, or its number of images."""
    augment: bool = True
    """Whether public images are cropped and flipped as the data set has it for training
    images; ``training.augment`` is about the clients' own."""

    younger_options: ClassVar[frozenset[str]] = frozenset({"augment"})


@dataclass(frozen=True)
class Models:
    """The server's state."""

    small: Fleet
    """The clients' models, by architecture."""
    large: Weights
    """The server's model, which no client ever gets."""


class FedET(Strategy[Models, Global, Update]):
    """Small models at the clients, a larger one at the server, public images between."""

    model_fields = ("weights",)
    no_average = "its server also learns from each client's model by itself"
    Config = FedETConfig
    config: FedETConfig

    def __init__(self, config: Any = None) -> None:
        """Take a config; a common layer needs features of one size."""
        super().__init__(config)
        # A teacher without its buffers cannot answer.
        self.requires = Requires(
            public_data=True,
            buffers=("average", "reestimate"),
            equal_feature_size=self.config.representation == "head",
        )

    def init(self, server: Server) -> Models:
        """Start with initial weights of each architecture."""
        fleet = assemble(server)
        used = {kind: fleet.weights[kind] for kind in sorted(set(fleet.kinds))}
        return Models(replace(fleet, weights=used), server.initial)

    def broadcast(self, state: Models, client_id: int, round: Round) -> Global:
        """Send the small model of the client's architecture."""
        return Global(state.small.of(client_id, round.index))

    def local(self, down: Global, client: Client) -> Update:
        """Train it on the local data."""
        return local_update(down.weights, client)

    def expected(self, down: Global, party: Party) -> Update:
        """The model that was sent."""
        del party
        return Update(down.weights, 0)

    def aggregate(
        self, state: Models, ups: Mapping[int, Update], server: Server, round: Round
    ) -> Models:
        """Average by architecture, teach the large model, and hand back its last layer."""
        if self.config.weights == "uniform":
            ups = {k: replace(up, examples=1) for k, up in ups.items()}
        small = state.small.averaged(ups, round.index)
        teachers = [server.client_model(k, up.weights) for k, up in ups.items()]
        large = server.load(state.large)
        shared = self.config.representation == "head"
        if shared:
            heads = (read_head(teacher) for teacher in teachers)
            shares = [up.examples for up in ups.values()]
            load_head(large, weighted_average(heads, shares))
        if self.config.steps:
            self._teach(large, LogitEnsemble(teachers, apart), server)
        if shared:
            small = _with_head(small, read_head(large), server)
        return Models(small, read_weights(large))

    def _teach(self, large: nn.Module, ensemble: LogitEnsemble, server: Server) -> None:
        """Train the server's model, in place."""
        how = self.config
        stepper = Sgd(lr=how.lr, momentum=how.momentum).start(large.parameters())
        large.train()
        losses = []
        batches = server.public.batches(
            how.batch_size, steps=how.steps, augment=how.augment
        )
        for x in batches:
            with torch.no_grad():
                teachers_KBC = ensemble(x)
            loss = ensemble_loss(teachers_KBC, large(x), how.diversity)
            losses.append(stepper.step(loss))
            server.count_examples(len(x))
        require_finite({"lr": large})
        server.log("distillation_loss", torch.stack(losses).mean())

    def predictors(self, state: Models, server: Server) -> Mapping[str, nn.Module]:
        """Measure the large model."""
        return {"global": server.load(state.large)}

    def personal(self, state: Models, client: Client) -> nn.Module:
        """Predict with the small model of the client's architecture."""
        return client.load(state.small.of(client.id, 0))


def _with_head(fleet: Fleet, head: Weights, server: Server) -> Fleet:
    """Return the fleet with the last layer of every architecture replaced."""
    changed = {}
    for kind, weights in fleet.weights.items():
        model = server.client_model(fleet.kinds.index(kind), weights)
        changed[kind] = read_weights(load_head(model, head))
    return replace(fleet, weights=changed)


def confidence(logits_KBC: Tensor) -> Tensor:
    """Return alpha_k = Var_c(s_k) / sum_j Var_c(s_j) of each image, ``[K, B]``.

    Where no model prefers any class, all have the same.

    Args:
        logits_KBC: Logits s_k of K models.
    """
    variance_KB = logits_KBC.var(dim=2)
    total_B = variance_KB.sum(0)
    alike = torch.full_like(variance_KB, 1 / len(variance_KB))
    return torch.where(total_B > 0, variance_KB / total_B, alike)


def diverging(logits_KBC: Tensor, alpha_KB: Tensor, labels_B: Tensor) -> Tensor:
    """Return the confidence of those alone who would not say the label, ``[K, B]``.

    They sum to 1 over K, and to 0 for an image on which nobody diverges.

    Args:
        logits_KBC: Logits of K models.
        alpha_KB: Their confidence.
        labels_B: What the consensus says.
    """
    apart_KB = alpha_KB * (logits_KBC.argmax(2) != labels_B)
    total_B = apart_KB.sum(0)
    return torch.where(total_B > 0, apart_KB / total_B, 0.0)


def ensemble_loss(teachers_KBC: Tensor, student_BC: Tensor, diversity: float) -> Tensor:
    """Return CE(student, y) + lambda KL(s_div || student), mean over B; a scalar.

    y is the largest entry of sum_k alpha_k s_k, and s_div the same sum over those models
    whose own largest entry is another, with their alpha made to sum to 1. The second term
    is 0 for images that have no such model.

    Args:
        teachers_KBC: Logits s_k of K models.
        student_BC: Logits of the server's model.
        diversity: lambda; the second term is not computed at 0.
    """
    alpha_KB = confidence(teachers_KBC)
    labels_B = weighted_logits(teachers_KBC, alpha_KB, "image").argmax(1)
    loss = functional.cross_entropy(student_BC, labels_B)
    if diversity == 0:
        return loss
    apart_KB = diverging(teachers_KBC, alpha_KB, labels_B)
    rows_B = kl_rows(weighted_logits(teachers_KBC, apart_KB, "image"), student_BC)
    return loss + diversity * (rows_B * (apart_KB.sum(0) > 0)).mean()
