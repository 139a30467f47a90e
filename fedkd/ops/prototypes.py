"""A few feature vectors that stand for a class."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from fedkd.errors import DivergedError


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
