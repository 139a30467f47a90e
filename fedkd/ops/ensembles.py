"""Several models' logits of the same images, and ways to put them together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from fedkd.ops.heads import head_of
from fedkd.ops.hooks import has_hooks
from fedkd.ops.stacking import Stacked, pays

Fuse: TypeAlias = Callable[[Tensor], Tensor]
"""``fuse(logits [K, B, C]) -> [B, C]``, or ``[E, B, C]`` where experts are to be fused
later: a function of this module, or a trained network."""


def apart(logits_KBC: Tensor) -> Tensor:
    """Return the logits as they are, every model's for itself; ``[K, B, C]``."""
    return logits_KBC


def mean_logits(logits_KBC: Tensor) -> Tensor:
    """Return (1/K) sum_k z_k, the plain ensemble; ``[B, C]``."""
    return logits_KBC.mean(dim=0)


def weighted_logits(
    logits_KBC: Tensor,
    weights: Tensor,
    per: Literal["model", "image", "class"] = "model",
) -> Tensor:
    """Return sum_k w_k z_k; ``[B, C]``.

    Args:
        logits_KBC: Logits of K models.
        weights: Used as they are; those that sum to 1 over K give a mean. One for each
            model, ``[K]``; or one for each model and image, ``[K, B]``; or one for each
            model and class, ``[K, C]``.
        per: What ``weights`` are for; the shape alone cannot tell B from C.

    Raises:
        ValueError: If the shape of ``weights`` is not the one that ``per`` asks for.
    """
    models, images, classes = logits_KBC.shape
    wanted, view = {
        "model": ((models,), (models, 1, 1)),
        "image": ((models, images), (models, images, 1)),
        "class": ((models, classes), (models, 1, classes)),
    }[per]
    if weights.shape != wanted:
        raise ValueError(
            f"found weights of shape {list(weights.shape)}; weights per {per} of logits "
            f"{list(logits_KBC.shape)} have shape {list(wanted)}."
        )
    return (weights.to(logits_KBC).view(view) * logits_KBC).sum(dim=0)


def mean_by(weights_K: Tensor | None) -> Fuse:
    """Return the mean sum_k w_k z_k / sum_k w_k as a fuse; the plain mean if None."""
    if weights_K is None:
        return mean_logits
    return partial(weighted_logits, weights=weights_K / weights_K.sum())


def mixed_logits(logits_KBC: Tensor, share_KE: Tensor) -> Tensor:
    """Return z_e = sum_k s_ke z_k, experts that are mixtures of models; ``[E, B, C]``."""
    return torch.einsum("ke,kbc->ebc", share_KE.to(logits_KBC), logits_KBC)


def class_diagonal(logits_EBC: Tensor, classes: Sequence[int]) -> Tensor:
    """Return logits in which expert e speaks for class ``classes[e]``; ``[B, C]``.

    A class without an expert gets the least of the image's logits, so that it is chosen
    over no other.

    Args:
        logits_EBC: Logits of E experts.
        classes: The class of each expert, each at most once.

    Raises:
        ValueError: If there are not as many different classes as experts.
    """
    experts = len(logits_EBC)
    if len(set(classes)) != len(classes) or len(classes) != experts:
        raise ValueError(
            f"found {experts} experts for the classes {list(classes)[:10]}; expected one "
            "class for each expert, and none twice."
        )
    chosen = torch.tensor(list(classes), device=logits_EBC.device)
    spoken_EB = logits_EBC.gather(
        2, chosen.view(-1, 1, 1).expand(-1, logits_EBC.shape[1], 1)
    ).squeeze(2)
    least_B = logits_EBC.amin(dim=(0, 2))
    rest_BC = least_B.unsqueeze(1).expand(-1, logits_EBC.shape[2])
    return rest_BC.index_copy(1, chosen, spoken_EB.T)


class LogitEnsemble(nn.Module):
    """Frozen models in eval mode whose logits, put together, are the answer."""

    def __init__(
        self,
        members: Sequence[nn.Module],
        fuse: Fuse = mean_logits,
        how: Literal["auto", "loop", "stack"] = "auto",
    ) -> None:
        """Put models together.

        Args:
            members: Map images ``[B, C, H, W]`` to logits ``[B, classes]``; their weights
                stay as they are from the first answer on. One that is there several times
                answers once.
            fuse: Makes one answer of the members' logits ``[K, B, classes]``.
            how: Members answer one by one; stacked, which needs one architecture; or
                stacked where that pays: on a GPU, with several of one architecture. With
                hooks they answer one by one.
        """
        super().__init__()
        self.members = nn.ModuleList(members)
        self._distinct = list(dict.fromkeys(members))
        places = {member: i for i, member in enumerate(self._distinct)}
        self._places = [places[member] for member in members]
        self.fuse = fuse
        self._stack = how == "stack" or (how == "auto" and pays(members))
        self._stacked: list[Stacked] = []  # in a list: copies, not further members
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``[B, C, H, W]`` to the fused logits ``[B, classes]``."""
        return self.fuse(self.each(x))

    def each(self, x: Tensor) -> Tensor:
        """Return every member's logits of images ``[B, C, H, W]``; ``[K, B, classes]``."""
        # Hooks, such as those on BatchNorm layers, see only what is called.
        if not self._stack or has_hooks(self.members):
            answers = [member(x) for member in self._distinct]
            return torch.stack([answers[place] for place in self._places])
        if not self._stacked:
            self._stacked.append(Stacked(self._distinct))
        logits_KBC: Tensor = self._stacked[0](x)
        if len(self._distinct) < len(self._places):
            logits_KBC = logits_KBC[self._places]
        return logits_KBC

    def heads(self, features_ND: Tensor) -> Tensor:
        """Return the fused logits of features ``[N, D]`` by the members' heads."""
        logits = [head_of(member)(features_ND) for member in self.members]
        return self.fuse(torch.stack(logits))
