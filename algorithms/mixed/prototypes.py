"""What FedProto and FedTGP share: a pull towards prototypes, and prediction by them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from fedkd.algorithms.local import go_on
from fedkd.algorithms.mixed.own_models import features_of
from fedkd.ops.heads import feature_size, head_of
from fedkd.ops.prototypes import Vectors, table
from fedkd.ops.training import Objective
from fedkd.strategy import Client

EXACT = "donot_use_mm_for_euclid_dist"
"""Distances from differences: those from products lose digits where they are small."""
Listener = Callable[[Tensor, Tensor], None]
"""``listener(features [B, D], labels [B])``, told of the features of each step."""


class NearestPrototype(nn.Module):
    """Classifies by the prototype that is nearest to an image's features."""

    def __init__(self, model: nn.Module, rows_CD: Tensor, known_C: Tensor) -> None:
        """Wrap a model.

        Args:
            model: Gives the features.
            rows_CD: The prototypes.
            known_C: Which classes have one; the others are never predicted.
        """
        super().__init__()
        self.model = model
        self._rows_CD = rows_CD
        self._known_C = known_C

    def forward(self, x: Tensor) -> Tensor:
        """Map images to -||phi(x) - P_c||_2, ``[B, C]``; less than all where none is."""
        features_BD = features_of(self.model, x)
        distances_BC = torch.cdist(features_BD, self._rows_CD, compute_mode=EXACT)
        farthest_B1 = distances_BC[:, self._known_C].max(1, keepdim=True).values
        return -torch.where(self._known_C, distances_BC, farthest_B1 + 1)


def by_prototypes(client: Client, prototypes: Vectors) -> nn.Module:
    """Return the client's own model as it predicts: by the nearest prototype.

    Before there is any, as long as no client has answered, by its own head.
    """
    model = go_on(client)
    if not prototypes:
        return model
    like = next(model.parameters())
    return NearestPrototype(model, *table(prototypes, client.num_classes, like))


def pulled(
    client: Client, prototypes: Vectors, lam: float, listener: Listener | None = None
) -> Objective:
    """Return the cross-entropy, and lam times the distance of features to prototypes.

    Args:
        client: Whose model is trained.
        prototypes: By class; without any, or with lam 0, there is no second term.
        lam: Its weight.
        listener: Is told of the features of each step, if given.

    Raises:
        ConfigError: If the model is not made of features and a head.
    """
    feature_size(client.model)
    head = head_of(client.model)
    like = next(client.model.parameters())
    goal: tuple[Tensor, Tensor] | None = None
    if prototypes and lam:
        goal = table(prototypes, client.num_classes, like)

    def objective(
        model: nn.Module, x: Tensor, y: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        features_BD = features_of(model, x)
        if listener is not None:
            listener(features_BD, y)
        loss = functional.cross_entropy(head(features_BD), y)
        if goal is None:
            return loss, None
        return loss, lam * distance(features_BD, y, *goal)

    return objective


def distance(
    features_BD: Tensor, y: Tensor, rows_CD: Tensor, known_C: Tensor
) -> Tensor:
    """Return the mean squared difference of features and their class's prototype.

    Args:
        features_BD: Features.
        y: Their labels, int64 ``[B]``.
        rows_CD: The prototypes.
        known_C: Which classes have one; features of another add 0 to the mean over B D.
    """
    squares_BD = (features_BD - rows_CD[y]).square()
    return (squares_BD * known_C[y, None]).mean()
