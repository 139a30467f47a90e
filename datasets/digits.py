"""Digits: 1,797 real handwritten digits of 8x8 pixels that scikit-learn carries.

Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine
Learning Repository, 1998 (CC BY 4.0), the test part, as in ``sklearn.load_digits``.
Values 0..16 are scaled to 0..255. A fixed split, stratified by class: 1,438 training and
359 test images. Normalised by the training images' own mean and deviation.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from fedkd.data import Dataset, ImageSet

SPLIT_SEED = 1797
TEST_SHARE = 0.2
MEAN, STD = 0.3049, 0.3757
"""Of the 1,438 training images scaled to [0, 1]."""


class Digits(Dataset):
    """The embedded set: nothing to download."""

    def load(self, root: Path) -> ImageSet:
        """Return the set; ``root`` is not used."""
        del root
        # Imported here: scikit-learn is slow to import and only this set needs it.
        from sklearn.datasets import load_digits  # noqa: PLC0415

        raw = load_digits()
        images = np.rint(raw.images * (255 / 16)).astype(np.uint8)[:, None]
        labels = raw.target.astype(np.int64)
        test = _stratified(labels, np.random.default_rng(SPLIT_SEED))
        x, y = torch.from_numpy(images), torch.from_numpy(labels)
        mask = torch.from_numpy(test)
        return ImageSet(
            "digits",
            x[~mask],
            y[~mask],
            x[mask],
            y[mask],
            tuple(str(c) for c in range(10)),
            (MEAN,),
            (STD,),
        )


def _stratified(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return which samples are test ones, booleans ``[N]``: a fifth of each class."""
    test = np.zeros(len(labels), dtype=bool)
    for label in range(10):
        members = rng.permutation(np.flatnonzero(labels == label))
        test[members[: round(TEST_SHARE * len(members))]] = True
    return test
