"""The digits that come with scikit-learn: real data that needs no download."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fedkd.data.dataset import Dataset
from fedkd.data.images import ImageSet

MEAN = 0.3059
"""Of the training pixels scaled to [0, 1]."""
STD = 0.3764
"""Of the training pixels scaled to [0, 1]."""
TEST = 360
"""Test images; the other 1,437 are for training."""


class Digits(Dataset):
    """1,797 handwritten digits, 8x8 grey, as scikit-learn's ``load_digits`` has them.

    From the UCI repository (Alpaydin and Kaynak 1998, CC BY 4.0). Grey levels 0..16 are
    scaled to 0..255. Of each class a fifth, 360 images in all, is the test set; which
    ones is drawn once and for all. Normalised by the mean and standard deviation of the
    training pixels. No augmentation.
    """

    paper = (
        'Alpaydin, Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine '
        "Learning Repository 1998, doi:10.24432/C50P49"
    )

    def load(self, root: Path) -> ImageSet:
        """See :meth:`Dataset.load`; ``root`` is not looked at."""
        del root
        rows = _rows()
        images = np.rint(rows[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
        labels = rows[:, -1].astype(np.int64)
        x = torch.from_numpy(images).unsqueeze(1)
        y = torch.from_numpy(labels)
        test = torch.from_numpy(is_test(labels))
        return ImageSet(
            name="digits",
            x_train=x[~test],
            y_train=y[~test],
            x_test=x[test],
            y_test=y[test],
            classes=tuple("0123456789"),
            mean=(MEAN,),
            std=(STD,),
        )


def _rows() -> NDArray[np.float64]:
    """Return a row per image: 64 grey levels and the class, ``[1797, 65]``."""
    spec = find_spec("sklearn")
    home = Path(spec.origin).parent if spec and spec.origin else Path()
    path = home / "datasets" / "data" / "digits.csv.gz"
    if path.is_file():
        # Read past scikit-learn, whose import takes as long as torch's, in each process.
        return np.loadtxt(path, delimiter=",")
    from sklearn.datasets import load_digits  # noqa: PLC0415

    bunch = load_digits()
    return np.column_stack([bunch.data, bunch.target])


def is_test(labels: NDArray[np.int64], number: int = TEST) -> NDArray[np.bool_]:
    """Return which of N inputs are in the test set, ``[N]``, the same on every machine.

    Args:
        labels: Their classes, ``[N]``, from 0 on without a gap.
        number: Inputs in the test set, in the proportion of the classes.
    """
    # NumPy has promised never to change what the legacy generator draws.
    rng = np.random.RandomState(0)
    positions = [
        rng.permutation(np.flatnonzero(labels == c)) for c in range(labels.max() + 1)
    ]
    exact = np.bincount(labels) * number / len(labels)
    sizes = np.floor(exact).astype(np.int64)
    sizes[np.argsort(sizes - exact, kind="stable")[: number - sizes.sum()]] += 1
    chosen = np.zeros(len(labels), np.bool_)
    for members, size in zip(positions, sizes, strict=True):
        chosen[members[:size]] = True
    return chosen
