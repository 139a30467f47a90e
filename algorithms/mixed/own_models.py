"""What methods share whose clients keep their whole model: it never crosses.

A client goes on from its own model in every round, as in ``local``; a method says what it
does with it and what small thing it sends. Clients may have different models.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, final

import torch
from pydantic import Field
from torch import Tensor, nn

from fedkd.algorithms.local import OWN, go_on
from fedkd.config import Config
from fedkd.errors import DivergedError
from fedkd.ops.optimisers import Sgd
from fedkd.ops.prototypes import ClassMeans, Vectors
from fedkd.ops.training import LossFunction
from fedkd.strategy import Client, Party, Server, Strategy, read_weights

State = TypeVar("State")
Down = TypeVar("Down")
Up = TypeVar("Up")

_FORWARD = 256
"""Images in a forward pass at a client."""


class OwnModels(Strategy[State, Down, Up]):
    """Each client goes on from its own model, which stays with it."""

    no_average = "its clients send no models"

    @abstractmethod
    def train(self, client: Client, down: Down) -> Up:
        """Do a client's work on its model, and return what it sends.

        Args:
            client: Its working model holds its own weights.
            down: What the server has sent.
        """

    @final
    def local(self, down: Down, client: Client) -> Up:
        """Go on from the client's own model, and keep it."""
        go_on(client)
        up = self.train(client, down)
        client.memory[OWN] = read_weights(client.model)
        return up


class NoGlobalModel(OwnModels[State, Down, Up]):
    """Nothing is global: every client predicts with a model of its own."""

    @final
    def predictors(self, state: State, server: Server) -> Mapping[str, nn.Module]:
        """There is no global model."""
        del state, server
        return {}


@dataclass(frozen=True)
class ByClass:
    """Vectors by class, on their way down or up."""

    vectors: Vectors
    """One for each class that has one: 4 D bytes each."""
    counts: Tensor | None = None
    """n_kc, the client's images of each class, int32 ``[C]``; None where it is not told."""


def of_size(size: int, party: Party) -> ByClass:
    """Return an answer of zeros ``[size]`` for every class, which honest ones are like."""
    dtype = dtype_of(party.model)
    every = range(party.num_classes)
    return ByClass({c: torch.zeros(size, dtype=dtype) for c in every})


def dtype_of(model: nn.Module) -> torch.dtype:
    """Return the type of the numbers that a model gives."""
    return next(model.parameters()).dtype


def features_of(model: nn.Module, x: Tensor) -> Tensor:
    """Map images ``[B, C, H, W]`` to features ``[B, D]`` of a model that has them."""
    features_BD: Tensor = model.features(x)  # type: ignore[operator]
    return features_BD


class VectorSteps(Config):
    """How a server trains on the clients' vectors."""

    epochs: int = Field(100, ge=0)
    """Passes over the vectors of a round."""
    batch_size: int = Field(10, ge=1)
    """Vectors in a step of SGD."""
    lr: float = Field(0.01, ge=0)
    """Its learning rate, without momentum; 0.01 in HtFLlib."""


def through(
    given: Sequence[Vectors],
    parameters: Sequence[nn.Parameter],
    loss: LossFunction,
    how: VectorSteps,
    server: Server,
) -> None:
    """Train parameters, in place, on the pairs of vector and class of all clients.

    Every pass is shuffled anew, from torch's default generator.

    Args:
        given: The clients' vectors by class; nothing is done if there are none.
        parameters: What is trained, from rest.
        loss: ``loss(vectors [B, D], classes [B]) -> scalar``.
        how: Amounts.
        server: Its vectors of a step are counted, ``server_loss`` is that of the last pass.

    Raises:
        DivergedError: If that loss is not finite.
    """
    rows = [vector for one in given for vector in one.values()]
    if not rows or how.epochs == 0:
        return
    rows_ND = torch.stack(rows).to(server.device)
    y_N = torch.tensor([c for one in given for c in one], device=server.device)
    stepper = Sgd(lr=how.lr).start(parameters)
    for _ in range(how.epochs):
        order = torch.randperm(len(rows)).to(server.device)
        steps = [
            stepper.step(loss(rows_ND[chosen], y_N[chosen]))
            for chosen in order.split(how.batch_size)
        ]
    stepper.zero_grad()
    server.count_examples(how.epochs * len(rows))
    mean = float(torch.stack(steps).mean())
    if not math.isfinite(mean):
        raise DivergedError(
            f"the loss of the server's training on class vectors became {mean} at learning "
            f"rate {how.lr:g}; lower server.lr."
        )
    server.log("server_loss", mean)


@torch.no_grad()
def class_features(client: Client) -> dict[int, Tensor]:
    """Return the mean feature vector ``[D]`` of the client's images of each class.

    The model is in eval mode and the images are as they are stored; it is a pass forward,
    not a step of training.

    Raises:
        DivergedError: If a feature is not finite.
    """
    model, means = client.model.eval(), ClassMeans(client.num_classes)
    for x, y in client.data.inputs(_FORWARD):
        means.add(features_of(model, x), y)
    return means.vectors()
