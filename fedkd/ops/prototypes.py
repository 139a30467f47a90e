"""Vectors that stand for a class: means, over images and over clients, and centres."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from fedkd.errors import DivergedError

Vectors: TypeAlias = Mapping[int, Tensor]
"""A vector ``[D]`` by class, ascending; a class without one has no entry."""


class ClassMeans:
    """Means by class of rows that come in batches.

    Sums are in float64 and take no branch on values, so that a GPU is not waited for.
    """

    def __init__(self, num_classes: int) -> None:
        """Begin without a row of any of ``num_classes`` classes."""
        self._number = num_classes
        self._sums_CD: Tensor | None = None
        self._counts_C: Tensor | None = None
        self._dtype = torch.float32

    def add(self, rows_BD: Tensor, labels_B: Tensor) -> None:
        """Add a batch of rows; they are detached.

        Args:
            rows_BD: Vectors, such as features or outputs.
            labels_B: Their classes, int64.
        """
        self._dtype = rows_BD.dtype
        of_class_BC = F.one_hot(labels_B, self._number).double()
        sums_CD = of_class_BC.T @ rows_BD.detach().double()
        counts_C = of_class_BC.sum(0)
        if self._sums_CD is None or self._counts_C is None:
            self._sums_CD, self._counts_C = sums_CD, counts_C
        else:
            self._sums_CD += sums_CD
            self._counts_C += counts_C

    def vectors(self) -> dict[int, Tensor]:
        """Return the means by class, on the CPU and in the type of the rows.

        Means of shorter types than float32 are float32.

        Raises:
            DivergedError: If one is not finite.
        """
        if self._sums_CD is None or self._counts_C is None:
            return {}
        sums_CD, counts_C = self._sums_CD.cpu(), self._counts_C.cpu()
        if not torch.isfinite(sums_CD).all():
            raise DivergedError(
                "the mean of a client's vectors of a class is not finite: its model "
                "diverged. Lower training.lr or set training.clip_norm."
            )
        held = counts_C.nonzero().flatten().tolist()
        dtype = torch.promote_types(self._dtype, torch.float32)
        return {c: (sums_CD[c] / counts_C[c]).to(dtype) for c in held}


def mean_vectors(
    given: Sequence[Vectors], weights: Sequence[Tensor] | None = None
) -> dict[int, Tensor]:
    """Return by class the mean over those who have a vector of it.

    Args:
        given: Vectors by class of each client.
        weights: Of each client, ``[C]``, its weight by class, such as its number of
            images; 1 each if None.
    """
    means = {}
    for c in sorted({c for one in given for c in one}):
        chosen = [i for i, one in enumerate(given) if c in one]
        rows_KD = torch.stack([given[i][c] for i in chosen])
        if weights is None:
            means[c] = rows_KD.mean(0)
        else:
            shares_K = torch.stack([weights[i][c] for i in chosen]).to(rows_KD.dtype)
            # No product of matrices, which autocast would shorten.
            means[c] = (shares_K[:, None] / shares_K.sum() * rows_KD).sum(0)
    return means


def table(vectors: Vectors, num_classes: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return vectors as rows ``[C, D]``, 0 where there is none, and which are there.

    Args:
        vectors: One at least.
        num_classes: C.
        like: Gives device and type of the rows.

    Returns:
        The rows and booleans ``[C]``.
    """
    size = len(next(iter(vectors.values())))
    rows_CD = torch.zeros(num_classes, size, dtype=like.dtype)
    known_C = torch.zeros(num_classes, dtype=torch.bool)
    for c, vector in vectors.items():
        rows_CD[c] = vector.to(like.dtype)
        known_C[c] = True
    return rows_CD.to(like.device), known_C.to(like.device)


def class_prototypes(
    features_ND: Tensor, labels_N: Tensor, per_class: int, seed: int
) -> dict[int, Tensor]:
    """Return each class's prototypes: k-means centres, or the mean of a small class.

    Source: released Mosaic code (commit a7f8b5b, ``trainer_mosaic.py``), without its cut
    after ten centres. k-means is scikit-learn's with one k-means++ start (``n_init=1``,
    which its ``"auto"`` means). Where a class has fewer distinct features than centres,
    some centres are equal.

    Args:
        features_ND: Features of N images.
        labels_N: Their labels.
        per_class: k, the number of centres.
        seed: Seeds k-means.

    Returns:
        By class, in ascending order, on the CPU and in the features' type, but float32
        for shorter ones: ``[k, D]``; ``[1, D]`` where a class has fewer than k images. A
        class without images has no entry.

    Raises:
        ValueError: If ``per_class`` is below 1.
        DivergedError: If a feature is not finite.
    """
    if per_class < 1:
        raise ValueError(f"found per_class={per_class}; expected 1 or more.")
    if not torch.isfinite(features_ND).all():
        raise DivergedError(
            "the features of a client's images are not finite, so they have no "
            "prototypes: its classifier diverged. Lower training.lr or set "
            "training.clip_norm."
        )
    features_ND, labels_N = features_ND.detach().cpu(), labels_N.cpu()
    if features_ND.dtype in (torch.bfloat16, torch.float16):
        features_ND = features_ND.float()
    prototypes: dict[int, Tensor] = {}
    for label in labels_N.unique().tolist():
        rows_MD = features_ND[labels_N == label]
        few = len(rows_MD) < per_class
        mean_1D = rows_MD.mean(dim=0, keepdim=True)
        prototypes[label] = mean_1D if few else _centres(rows_MD, per_class, seed)
    return prototypes


def _centres(rows_MD: Tensor, number: int, seed: int) -> Tensor:
    """Return ``number`` k-means centres of at least as many rows; ``[k, D]``."""
    # Imported here: scikit-learn takes a second to import and only this needs it.
    from sklearn.cluster import KMeans  # noqa: PLC0415
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415
    from threadpoolctl import threadpool_limits  # noqa: PLC0415

    means = KMeans(n_clusters=number, n_init=1, random_state=seed)
    # One thread: sums of several in another order are other bits.
    with threadpool_limits(1), warnings.catch_warnings():
        # Equal features give fewer distinct centres than asked for, which is no harm.
        warnings.simplefilter("ignore", ConvergenceWarning)
        means.fit(rows_MD.numpy())
    return torch.from_numpy(means.cluster_centers_).to(rows_MD.dtype)
