"""Labels for generated images, as the clients hold them.

All functions take label counts as whole numbers, so that no rounding gives a card to a
class that nobody has: such a class is never drawn.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Sampling = Literal["deck", "iid", "uniform"]
"""How labels are drawn: see :func:`label_batches`."""


def label_batches(
    counts_C: Tensor, batches: int, size: int, how: Sampling = "deck"
) -> Tensor:
    """Draw labels for some batches; int64 ``[batches, size]``, on the CPU.

    Args:
        counts_C: n_c, images of each class, whole numbers: p(c) = n_c / sum_j n_j.
        batches: Number of batches.
        size: Labels in a batch.
        how: ``deck``: one shuffled deck for all batches, see :func:`label_deck`.
            ``iid``: each label by itself, with probability p(c). ``uniform``: each label
            by itself, all classes with n_c > 0 alike.

    Raises:
        ValueError: If there is no image, or a count is negative.
    """
    number = batches * size
    if how == "deck":
        return label_deck(counts_C, number).view(batches, size)
    counts_C = _checked(counts_C)
    weights_C = counts_C if how == "iid" else counts_C > 0
    drawn = torch.multinomial(weights_C.double(), number, replacement=True)
    return drawn.view(batches, size)


def label_deck(counts_C: Tensor, number: int) -> Tensor:
    """Return ``number`` shuffled labels in exact proportion; int64, on the CPU.

    Class c has floor(B S_c) - floor(B S_{c-1}) cards, S the running sum of p and B the
    number of cards, so that it differs from B p(c) by less than 1. Source: FedFTG,
    released code (``train_gan_fn.py``, ``generate_labels``).

    Args:
        counts_C: n_c, images of each class, whole numbers.
        number: B.

    Raises:
        ValueError: If there is no image, or a count is negative.
    """
    running_C = _checked(counts_C).cumsum(0)
    ends_C = running_C * number // running_C[-1]
    cards_C = torch.diff(ends_C, prepend=ends_C.new_zeros(1))
    deck = torch.repeat_interleave(torch.arange(len(cards_C)), cards_C)
    return deck[torch.randperm(number)]


def _checked(counts_C: Tensor) -> Tensor:
    counts_C = counts_C.cpu().long()
    if bool((counts_C < 0).any()) or not bool(counts_C.any()):
        raise ValueError(
            f"found the label counts {counts_C.tolist()[:10]}; expected numbers from 0 "
            "on, at least one of them above 0."
        )
    return counts_C
