"""The tables that come with scikit-learn: vectors that need no download."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fedkd.data.dataset import Dataset
from fedkd.data.vectors import VectorSet, vector_moments
from fedkd.datasets.digits import is_test


class Wine(Dataset):
    """178 wines of three growers, 13 values of their analysis, in scikit-learn.

    ``load_wine``, from the UCI repository (Aeberhard and Forina 1992, CC BY 4.0). Of each
    class a fifth, 36 wines in all, is the test set; which ones is drawn once and for all.
    Each value is normalised by the mean and deviation of the 142 training wines.
    """

    def load(self, root: Path) -> VectorSet:
        """See :meth:`Dataset.load`; ``root`` is not looked at."""
        del root
        # Imported here, as below: scikit-learn takes a second.
        from sklearn.datasets import load_wine  # noqa: PLC0415

        return _read("wine", load_wine, test=36)


class BreastCancer(Dataset):
    """569 breast tumours, malignant or benign, 30 values of their cells' nuclei.

    scikit-learn's ``load_breast_cancer``, from the UCI repository (Wolberg, Mangasarian,
    Street and Street 1993, CC BY 4.0). Of each class a fifth, 114 tumours in all, is the
    test set; which ones is drawn once and for all. Each value is normalised by the mean
    and deviation of the 455 training tumours.
    """

    def load(self, root: Path) -> VectorSet:
        """See :meth:`Dataset.load`; ``root`` is not looked at."""
        del root
        from sklearn.datasets import load_breast_cancer  # noqa: PLC0415

        return _read("breast-cancer", load_breast_cancer, test=114)


def _read(name: str, load: Callable[[], Any], *, test: int) -> VectorSet:
    """Return a table of scikit-learn, ``test`` of whose rows are held out."""
    bunch = load()
    held_out = torch.from_numpy(is_test(bunch.target, test))
    x = torch.from_numpy(bunch.data.astype(np.float32))
    y = torch.from_numpy(bunch.target.astype(np.int64))
    mean, std = vector_moments(x[~held_out])
    return VectorSet(
        name,
        x[~held_out],
        y[~held_out],
        x[held_out],
        y[held_out],
        tuple(str(title) for title in bunch.target_names),
        mean,
        std,
    )
