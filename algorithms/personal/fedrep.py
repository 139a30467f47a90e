"""FedRep: a body for all, a head for each; the head is trained first, then the body.

Paper: Collins, Hassani, Mokhtari, Shakkottai, "Exploiting Shared Representations for
    Personalized Federated Learning", ICML 2021, arXiv:2102.07078v3.
Algorithm: Algorithm 1: a client trains its head on the body that it has received, then
    the body under its new head, and sends the body only; bodies are averaged without
    weights.
Code: github.com/lgcollins/FedRep (``main_fedrep.py``).
Deviations: by default the head gets as much work as the body, where the paper's
    experiments do ten times as much: the preset ``fedrep-paper``. Each of the two starts
    an optimiser of its own. What is frozen are parameters: BatchNorm's statistics are
    renewed in both, as in the code, which also weighs bodies by numbers of images
    (``weights: examples``). There is no global model: the global accuracy is the mean over
    the clients' own models on the whole test set.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fedkd.algorithms.averaging import Averaging, Parted
from fedkd.algorithms.personal.parts import PartsConfig, frozen
from fedkd.ops.training import TrainingConfig
from fedkd.strategy import Client, Preset


class FedRepConfig(PartsConfig):
    """Hyper-parameters of FedRep."""

    weights: Literal["examples", "uniform"] = "uniform"
    """The weight of a client in the mean: 1 as in the paper, or its images as in the
    code."""
    layers: int = Field(1, ge=0)
    """Number of layers in the head, the upper ones; the paper's head for images is the
    classifier, 1. 0 is FedAvg with the same ``weights``, by default uniform, and all
    layers are local training, bit for bit."""
    head_work: int = Field(1, ge=1)
    """Work on the head in multiples of the run's local training, which is the work on
    the body; the paper's experiments have 10 epochs on the head for 1 on the body."""


class FedRep(Averaging):
    """FedAvg of bodies that clients train under heads of their own."""

    Config = FedRepConfig
    config: FedRepConfig

    def __init__(self, config: FedRepConfig | None = None) -> None:
        super().__init__(config)
        self.choices = Parted(self.config.upper).choices

    def train(self, client: Client, sent: None) -> None:
        """Train the head, then the body (Algorithm 1, client update)."""
        model, kept = client.model, self.config.upper(client)
        names = [name for name, _ in model.named_parameters()]
        head = [name for name in names if name in kept]
        body = [name for name in names if name not in kept]
        if head:
            with frozen(model, body):
                client.train(training=repeated(client.training, self.config.head_work))
        if body:
            with frozen(model, head):
                client.train()


def repeated(training: TrainingConfig, times: int) -> TrainingConfig:
    """Return settings of ``times`` as many steps, or epochs."""
    amounts = {
        "local_steps": training.local_steps,
        "local_epochs": training.local_epochs,
    }
    more = {name: None if n is None else times * n for name, n in amounts.items()}
    return training.model_copy(update=more)


FEDREP_PAPER = Preset(
    FedRep,
    {"head_work": 10},
    deviations=(
        "The paper's epochs are the run's: its unit is that of the body's work.",
    ),
    doc="FedRep with the work of the paper's experiments: 10 on the head, 1 on the body.",
)
