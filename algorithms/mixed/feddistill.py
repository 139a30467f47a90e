"""FedDistill (FD): clients exchange the mean output of each class, and nothing else.

Paper: Jeong, Oh, Kim, Park, Bennis, Kim, "Communication-Efficient On-Device Machine
    Learning: Federated Distillation and Augmentation under Non-IID Private Data", NeurIPS
    2018 workshop on Machine Learning on the Phone, arXiv:1811.11479.
Algorithm: Algorithm 1 (FD); its augmentation by shared images (FAug) is left out.
Code: none by the authors; many compare with HtFLlib
    (github.com/TsingZ0/HtFLlib), which is the preset ``feddistill-htfllib``.
Deviations: a mean over other clients is that of those that have the class, where the
    paper divides by the number of all others; an image of a class that no other client
    has had is trained without the regulariser. The server keeps the last vectors of each
    client, so that those who sit out a round still count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from fedkd.algorithms.local import go_on
from fedkd.algorithms.mixed.own_models import ByClass, NoGlobalModel, of_size
from fedkd.config import Config
from fedkd.ops.prototypes import ClassMeans, Vectors, mean_vectors, table
from fedkd.strategy import Client, Party, Preset, Round, Server


class FedDistillConfig(Config):
    """Hyper-parameters of FedDistill."""

    gamma: float = Field(1.0, ge=0)
    """gamma, the weight of the distillation regulariser; the paper gives no number, public
    codes have 1. 0 is local training."""
    outputs: Literal["probabilities", "logits"] = "probabilities"
    """What is averaged: the softmax of each output, which the paper calls a logit vector,
    or the logits, whose mean goes through the softmax afterwards."""
    average: Literal["others", "all"] = "others"
    """Over whose vectors a client's teacher is the mean: without its own (Algorithm 1,
    line 14), or with it."""


@dataclass(frozen=True)
class Outputs:
    """What the server remembers."""

    of_client: Mapping[int, Vectors] = field(default_factory=dict)
    """The last mean output ``[C]`` of each class, by client and class."""


class FedDistill(NoGlobalModel[Outputs, ByClass, ByClass]):
    """Local training towards the mean output of the other clients for the label."""

    Config = FedDistillConfig
    config: FedDistillConfig

    def init(self, server: Server) -> Outputs:
        """Start without outputs."""
        del server
        return Outputs()

    def broadcast(self, state: Outputs, client_id: int, round: Round) -> ByClass:
        """Send F^ of each class (Algorithm 1, lines 13 to 15)."""
        del round
        others = self.config.average == "others"
        given = [
            vectors
            for k, vectors in state.of_client.items()
            if not (others and k == client_id)
        ]
        return ByClass(mean_vectors(given))

    def train(self, client: Client, down: ByClass) -> ByClass:
        """Train with the regulariser; return each class's mean output (lines 3 to 8)."""
        whole = self.config.outputs == "probabilities"
        means = ClassMeans(client.num_classes)
        teacher: tuple[Tensor, Tensor] | None = None
        if down.vectors and self.config.gamma:
            like = next(client.model.parameters())
            rows_CC, known_C = table(down.vectors, client.num_classes, like)
            teacher = (rows_CC if whole else rows_CC.softmax(1), known_C)

        def objective(
            model: nn.Module, x: Tensor, y: Tensor
        ) -> tuple[Tensor, Tensor | None]:
            logits_BC = model(x)
            means.add(logits_BC.softmax(1) if whole else logits_BC, y)
            loss = functional.cross_entropy(logits_BC, y)
            if teacher is None:
                return loss, None
            return loss, self.config.gamma * regulariser(logits_BC, y, *teacher)

        client.train(objective=objective)
        return ByClass(means.vectors())

    def expected(self, down: ByClass, party: Party) -> ByClass:
        """A vector of outputs for each class that the client has."""
        del down
        return of_size(party.num_classes, party)

    def aggregate(
        self, state: Outputs, ups: Mapping[int, ByClass], server: Server, round: Round
    ) -> Outputs:
        """Keep the last vectors of each client."""
        del server, round
        new = {k: up.vectors for k, up in ups.items()}
        return Outputs(dict(sorted({**state.of_client, **new}.items())))

    def personal(self, state: Outputs, client: Client) -> nn.Module:
        """Predict with the client's own model."""
        del state
        return go_on(client)


def regulariser(
    logits_BC: Tensor, y: Tensor, teacher_CC: Tensor, known_C: Tensor
) -> Tensor:
    """Return -sum_c F^_{y,c} log softmax(f)_c, mean over B; a scalar.

    Args:
        logits_BC: Logits f.
        y: Labels int64 ``[B]``.
        teacher_CC: F^, in row l the teacher's probabilities for label l.
        known_C: Which rows there are; images of another label add 0.
    """
    log_BC = functional.log_softmax(logits_BC, dim=1)
    losses_B = -(teacher_CC[y] * log_BC).sum(1)
    return (losses_B * known_C[y]).mean()


HTFLLIB = Preset(
    FedDistill,
    {"outputs": "logits", "average": "all"},
    deviations=(
        "An image of a class that nobody has had adds 0 to the loss; there it adds the "
        "entropy of its own output, which has no gradient either.",
        "The mean is over the last vectors of all clients that have sent any; there, over "
        "those of the clients of the last round.",
        "The softmax of mean logits is that of HtFLlib up to commit 17f851e; since ca3e29a "
        "it takes the mean logits themselves as the target's probabilities.",
    ),
    doc="FedDistill as HtFLlib computes it: mean logits of all clients, softmax after.",
)
