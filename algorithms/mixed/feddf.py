"""FedDF: averages by architecture, taught by the ensemble of all on public images.

Paper: Lin, Kong, Stich, Jaggi, "Ensemble Distillation for Robust Model Fusion in Federated
    Learning", NeurIPS 2020, arXiv:2006.07242v3.
Algorithm: Algorithm 3, of which Algorithm 1 is the case of one architecture.
Code: github.com/epfml/federated-learning-public-code.
Deviations: the released code validates on held-out training images, stops early and
    returns the best validated model; here all steps are taken, and the server sees no
    labelled image. No teacher is dropped or weighted by its accuracy. If no client has
    the server's architecture, the server's model is a further student, which goes on
    from its own weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from fedkd.algorithms.averaging import Global, Update, local_update
from fedkd.algorithms.datafree import require_finite
from fedkd.algorithms.fleet import SERVER, Fleet, assemble
from fedkd.config import Config
from fedkd.ops.distillation import kl
from fedkd.ops.ensembles import LogitEnsemble, apart, mean_logits
from fedkd.ops.optimisers import Adam
from fedkd.ops.schedules import Schedule
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

Scheme = Literal["avg_logits", "avg_probs", "avg_losses"]
"""What of the teachers is averaged."""


class FedDFConfig(Config):
    """Hyper-parameters of FedDF."""

    steps: int = Field(200, ge=0)
    """Steps of each student in a round; the released code takes at most 10,000. 0 is
    FedAvg by architecture."""
    batch_size: int = Field(128, ge=2)
    """Public images in a step, from the released code."""
    lr: float = Field(1e-3, ge=0)
    """Rate of Adam, which falls to 0 along a cosine (section 4.1)."""
    clip_norm: float | None = Field(5.0, gt=0)
    """Largest norm of a student's gradients, from the released code; None: no bound."""
    scheme: Scheme = "avg_logits"
    """What is averaged: the teachers' logits (section 3), their probabilities, or the
    divergences from each, which is the default of the released code."""
    augment: bool = True
    """Whether public images are cropped and flipped as the data set has it for training
    images; ``training.augment`` is about the clients' own."""

    younger_options: ClassVar[frozenset[str]] = frozenset({"augment"})


class FedDF(Strategy[Fleet, Global, Update]):
    """FedAvg by architecture, then distillation from all clients' models."""

    model_fields = ("weights",)
    no_average = "its server also learns from each client's model by itself"
    Config = FedDFConfig
    config: FedDFConfig
    # A teacher without its buffers cannot answer.
    requires = Requires(public_data=True, buffers=("average", "reestimate"))

    def init(self, server: Server) -> Fleet:
        """Start with initial weights of each architecture."""
        return assemble(server)

    def broadcast(self, state: Fleet, client_id: int, round: Round) -> Global:
        """Send the model of the client's architecture."""
        return Global(state.of(client_id, round.index))

    def local(self, down: Global, client: Client) -> Update:
        """Train it on the local data."""
        return local_update(down.weights, client)

    def expected(self, down: Global, party: Party) -> Update:
        """The model that was sent."""
        del party
        return Update(down.weights, 0)

    def aggregate(
        self, state: Fleet, ups: Mapping[int, Update], server: Server, round: Round
    ) -> Fleet:
        """Average by architecture, then teach each average (Algorithm 3)."""
        fleet = state.averaged(ups, round.index)
        if self.config.steps == 0:
            return fleet
        teachers = [server.client_model(k, up.weights) for k, up in ups.items()]
        ensemble = LogitEnsemble(teachers, apart)
        taught: dict[int, Weights] = {}
        losses: list[Tensor] = []
        for kind, weights in sorted(fleet.weights.items()):
            student = _student(fleet, kind, weights, server)
            losses.append(self._teach(student, ensemble, server))
            taught[kind] = read_weights(student)
        server.log("distillation_loss", torch.stack(losses).mean())
        return replace(fleet, weights=taught)

    def _teach(
        self, student: nn.Module, ensemble: LogitEnsemble, server: Server
    ) -> Tensor:
        """Train a student in place; return its mean loss over the steps."""
        how = self.config
        schedule = Schedule(cosine=how.steps, per="step")
        adam = Adam(lr=how.lr, schedule=schedule).start(student.parameters())
        student.train()
        losses = []
        batches = server.public.batches(
            how.batch_size, steps=how.steps, augment=how.augment
        )
        for x in batches:
            with torch.no_grad():
                teachers_KBC = ensemble(x)
            loss = distance(teachers_KBC, student(x), how.scheme)
            losses.append(adam.step(loss, how.clip_norm))
            server.count_examples(len(x))
        require_finite({"lr": student})
        return torch.stack(losses).mean()

    def predictors(self, state: Fleet, server: Server) -> Mapping[str, nn.Module]:
        """Measure the model of the server's architecture."""
        return {"global": server.load(state.whole)}

    def personal(self, state: Fleet, client: Client) -> nn.Module | None:
        """Predict with the model of the client's architecture."""
        if state.kinds[client.id] == SERVER:
            return None
        return client.load(state.of(client.id, 0))


def _student(fleet: Fleet, kind: int, weights: Weights, server: Server) -> nn.Module:
    """Return the model of an architecture, with its weights."""
    if kind == SERVER:
        return server.load(weights)
    return server.client_model(fleet.kinds.index(kind), weights)


def distance(teachers_KBC: Tensor, student_BC: Tensor, scheme: Scheme) -> Tensor:
    """Return KL(teacher || student) at temperature 1, mean over B; a scalar.

    Args:
        teachers_KBC: Logits of K teachers.
        student_BC: Logits of the student.
        scheme: Whether logits or probabilities of the teachers are averaged to one
            teacher, or the divergences from each.
    """
    if scheme == "avg_losses":
        each = [kl(teacher_BC, student_BC) for teacher_BC in teachers_KBC]
        return torch.stack(each).mean()
    if scheme == "avg_logits":
        return kl(mean_logits(teachers_KBC), student_BC)
    log_KBC = functional.log_softmax(teachers_KBC, dim=2)
    return kl(log_KBC.logsumexp(0) - math.log(len(teachers_KBC)), student_BC)


PUBLISHED = Preset(
    FedDF,
    {"steps": 10_000},
    deviations=("All 10,000 steps are taken; there a validation may end them early.",),
    doc="FedDF with the server's amounts of the released code.",
)
