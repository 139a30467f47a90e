"""Several models' logits of the same images, and ways to put them together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from fedkd.ops.hooks import has_hooks
from fedkd.ops.stacking import together


def stacked_logits(models: Sequence[nn.Module], x: Tensor) -> Tensor:
    """Return every model's logits of images ``[B, C, H, W]``; ``[K, B, C]``.

    Modes and gradients are left as they are: the caller puts teachers into eval mode.
    """
    return torch.stack([model(x) for model in models])


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
    """Frozen models in eval mode whose mean logits are the answer."""

    def __init__(
        self,
        members: Sequence[nn.Module],
        weights_K: Tensor | None = None,
        how: Literal["auto", "loop", "stack"] = "auto",
    ) -> None:
        """Put models together.

        Args:
            members: Map images ``[B, C, H, W]`` to logits ``[B, classes]``; their weights
                stay as they are from the first answer on.
            weights_K: w of the weighted mean sum_k w_k z_k / sum_k w_k; the plain mean
                if None.
            how: Whether members answer one by one or stacked; see
                :func:`fedkd.ops.stacking.together`. With hooks they answer one by one.
        """
        super().__init__()
        self._how = how
        self._together: list[nn.Module] = []  # in a list: the same modules, not others
        self.members = nn.ModuleList(members)
        self.weights_K = weights_K
        """May be changed at any time."""
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``[B, C, H, W]`` to logits ``[B, classes]``."""
        return self.fused(self.each(x))

    def each(self, x: Tensor) -> Tensor:
        """Return every member's logits of images ``[B, C, H, W]``; ``[K, B, classes]``."""
        members = list(self.members)
        # Hooks, such as those on BatchNorm layers, see only what is called.
        if self._how == "loop" or has_hooks(self.members):
            return stacked_logits(members, x)
        if not self._together:
            self._together.append(together(members, self._how))
        logits_KBC: Tensor = self._together[0](x)
        return logits_KBC

    def fused(self, logits_KBC: Tensor) -> Tensor:
        """Return the mean of the members' logits; ``[B, classes]``."""
        if self.weights_K is None:
            return mean_logits(logits_KBC)
        return weighted_logits(logits_KBC, self.weights_K / self.weights_K.sum())
