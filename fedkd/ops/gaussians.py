"""One Gaussian of features per class, pooled over clients that never show an image.

Paper: Luo, Chen, Hu, Zhang, Liang, Feng, "No Fear of Heterogeneity: Classifier
Calibration for Federated Learning with Non-IID Data", NeurIPS 2021, arXiv:2106.05001,
section 4.2.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class FeatureMoments:
    """What is known of features by class; only classes that occur have a row."""

    classes: Tensor
    """Classes that occur, ascending, int64 ``[c]``."""
    counts: Tensor
    """How many features of each there are, int64 ``[c]``."""
    means: Tensor
    """Their means, ``[c, D]``."""
    covariances: Tensor
    """Their sample covariances (divided by the count less 1, zeros where that is 0):
    the upper triangles row by row, ``[c, D (D + 1) / 2]``."""
    non_negative: bool
    """Whether no feature is below zero, as after a ReLU."""


def moments(
    batches: Iterable[tuple[Tensor, Tensor]], num_classes: int
) -> FeatureMoments:
    """Return counts, means and covariances by class, float32 on the CPU.

    Args:
        batches: Features ``[B, D]`` and labels int64 ``[B]``; at least one batch.
        num_classes: C, the number of classes.
    """
    counts = torch.zeros(num_classes, dtype=torch.int64)
    sums_CD: Tensor | None = None
    products_CDD: Tensor | None = None
    least = 0.0
    for features, labels in batches:
        # In double precision a second moment less the square of the mean loses nothing.
        x_BD = features.detach().cpu().double()
        y_B = labels.cpu()
        if sums_CD is None or products_CDD is None:
            sums_CD = x_BD.new_zeros(num_classes, x_BD.shape[1])
            products_CDD = x_BD.new_zeros(num_classes, x_BD.shape[1], x_BD.shape[1])
        least = min(least, float(x_BD.min()))
        counts += torch.bincount(y_B, minlength=num_classes)
        sums_CD.index_add_(0, y_B, x_BD)
        for c in y_B.unique().tolist():
            of_class = x_BD[y_B == c]
            products_CDD[c].addmm_(of_class.T, of_class)
    if sums_CD is None or products_CDD is None:
        raise ValueError("found no batch of features, expected at least one.")
    classes = counts.nonzero().flatten()
    n_c = counts[classes]
    means = sums_CD[classes] / n_c[:, None]
    scatter = products_CDD[classes] - _outer(means) * n_c[:, None, None]
    covariances = scatter / (n_c - 1).clamp(min=1)[:, None, None]
    covariances[n_c == 1] = 0
    return FeatureMoments(
        classes,
        n_c,
        means.float(),
        _packed(covariances).float(),
        non_negative=least >= 0,
    )


def pooled(parts: Iterable[FeatureMoments], num_classes: int) -> FeatureMoments:
    """Return the moments of all clients' features together (Eqs. 4 and 5), in float64.

    Exactly those of the features in one place: the sums and the sums of products add up.

    Args:
        parts: The moments of each client; at least one.
        num_classes: C, the number of classes.
    """
    given = list(parts)
    size = given[0].means.shape[1]
    counts = torch.zeros(num_classes, dtype=torch.int64)
    sums = torch.zeros(num_classes, size, dtype=torch.float64)
    products = torch.zeros(num_classes, size, size, dtype=torch.float64)
    for part in given:
        n_c, means = part.counts, part.means.double()
        counts.index_add_(0, part.classes, n_c)
        sums.index_add_(0, part.classes, means * n_c[:, None])
        scatter = _unpacked(part.covariances.double(), size) * (n_c - 1)[:, None, None]
        within = scatter + _outer(means) * n_c[:, None, None]
        products.index_add_(0, part.classes, within)
    classes = counts.nonzero().flatten()
    n_c = counts[classes]
    means = sums[classes] / n_c[:, None]
    scatter = products[classes] - _outer(means) * n_c[:, None, None]
    covariances = scatter / (n_c - 1).clamp(min=1)[:, None, None]
    covariances[n_c == 1] = 0
    non_negative = all(part.non_negative for part in given)
    return FeatureMoments(classes, n_c, means, _packed(covariances), non_negative)


def draw(known: FeatureMoments, per_class: int) -> tuple[Tensor, Tensor]:
    """Draw virtual features of every class from its Gaussian (section 4.2).

    From torch's default CPU generator. Where all known features are 0 or more, so are
    those that are drawn: what falls below is set to 0.

    Args:
        known: Moments by class.
        per_class: M, how many features of each class.

    Returns:
        Features, float32 ``[c M, D]``, class by class, and their labels int64 ``[c M]``.
    """
    size = known.means.shape[1]
    covariances = _unpacked(known.covariances.double(), size)
    # A class of fewer images than D has a singular covariance, whose eigenvalues may
    # come out a little below 0. Its symmetric root is there all the same, and is one
    # matrix whichever signs the eigenvectors have.
    variances, axes = torch.linalg.eigh(covariances)
    root = (axes * variances.clamp(min=0).sqrt()[:, None, :]) @ axes.mT
    noise = torch.randn(len(known.classes), per_class, size, dtype=torch.float64)
    drawn = known.means.double()[:, None, :] + noise @ root
    if known.non_negative:
        drawn = drawn.clamp(min=0)
    return drawn.flatten(0, 1).float(), known.classes.repeat_interleave(per_class)


def _outer(means: Tensor) -> Tensor:
    """Return the products of each mean with itself, ``[c, D, D]``."""
    return means[:, :, None] * means[:, None, :]


def _packed(matrices: Tensor) -> Tensor:
    """Return the upper triangles of symmetric matrices ``[c, D, D]`` as rows."""
    rows, columns = torch.triu_indices(matrices.shape[1], matrices.shape[1])
    return matrices[:, rows, columns]


def _unpacked(triangles: Tensor, size: int) -> Tensor:
    """Return the symmetric matrices ``[c, D, D]`` of upper triangles."""
    rows, columns = torch.triu_indices(size, size)
    matrices = triangles.new_zeros(len(triangles), size, size)
    matrices[:, rows, columns] = triangles
    matrices[:, columns, rows] = triangles
    return matrices
