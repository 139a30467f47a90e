"""Subsets of a data set: the same share, or the same number, of every class.

Which inputs a subset holds depends on the data set, on ``subset_seed`` and on nothing
else: runs of every seed share it, and a larger subset holds the smaller ones.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from fedkd.base.randomness import numpy_stream
from fedkd.config import Config
from fedkd.data.images import LabelledSet
from fedkd.errors import ConfigError, counted
from fedkd.partition.base import Indices, class_pools


class DatasetConfig(Config):
    """Options of every data set: which part of it is used."""

    fraction: float | None = Field(None, gt=0, le=1)
    """Share of the training inputs that is used, the same of each class; None for all.
    Give this or ``per_class``."""
    per_class: int | None = Field(None, ge=1)
    """Training inputs of each class that are used; None for all."""
    test_fraction: float | None = Field(None, gt=0, le=1)
    """Share of the test inputs that is used, the same of each class; None for all."""
    subset_seed: int = Field(0, ge=0)
    """Which images a subset holds; not the seed of a run, so that all runs share it."""

    @model_validator(mode="after")
    def _one_way_to_choose(self) -> DatasetConfig:
        if self.fraction is not None and self.per_class is not None:
            raise ValueError("expected fraction or per_class, found both; remove one")
        return self


def subset(whole: LabelledSet, config: object) -> LabelledSet:
    """Return the part of a data set that its options ask for, in the original order.

    Only the inputs that are kept are copied, so a memory-mapped set stays on the disk.

    Args:
        whole: The whole set.
        config: The options of the set. A plug-in's options that do not extend
            :class:`DatasetConfig` know no subsets: all is kept.

    Raises:
        ConfigError: If a class has fewer than ``per_class`` training inputs.
    """
    if not isinstance(config, DatasetConfig):
        return whole
    if config.fraction is not None or config.per_class is not None:
        kept = _kept(whole, "train", config)
        x, y = whole.x_train[kept], whole.y_train[kept]
        groups = whole.groups and whole.groups.kept(train=kept)
        whole = replace(whole, x_train=x, y_train=y, groups=groups)
    if config.test_fraction is not None:
        kept = _kept(whole, "test", config)
        x, y = whole.x_test[kept], whole.y_test[kept]
        groups = whole.groups and whole.groups.kept(test=kept)
        whole = replace(whole, x_test=x, y_test=y, groups=groups)
    return whole


def _kept(whole: LabelledSet, half: str, config: DatasetConfig) -> Tensor:
    """Return the positions that are kept of the ``train`` or the ``test`` half."""
    labels = whole.y_train if half == "train" else whole.y_test
    pools = class_pools(
        labels.cpu().numpy(),
        whole.num_classes,
        numpy_stream(config.subset_seed, "subset", half),
    )
    sizes = np.array([len(pool) for pool in pools], np.int64)
    if half == "train" and config.per_class is not None:
        shares = _equal(sizes, config.per_class, whole)
    else:
        share = config.fraction if half == "train" else config.test_fraction
        shares = _proportional(sizes, 1.0 if share is None else share)
    chosen = [pool[:number] for pool, number in zip(pools, shares, strict=True)]
    return torch.from_numpy(np.sort(np.concatenate(chosen))).to(labels.device)


def _equal(sizes: Indices, number: int, whole: LabelledSet) -> Indices:
    """Return ``number`` for every class that is there at all."""
    present = np.flatnonzero(sizes)
    smallest = present[np.argmin(sizes[present])]
    if sizes[smallest] < number:
        raise ConfigError(
            f"{whole.name}: found per_class {number}, but class "
            f"{whole.classes[smallest]!r} has "
            f"{counted(sizes[smallest], f'training {whole.noun}')}. "
            f"Expected {sizes[smallest]} or less; 'fraction' fits classes of any size."
        )
    return np.where(sizes > 0, number, 0)


def _proportional(sizes: Indices, fraction: float) -> Indices:
    """Return each class's share, rounded to the nearest; 1 at least where there is one.

    Each class is rounded on its own. Largest remainders would keep the sum exact, but a
    class could then lose an image when the fraction grows.
    """
    shares: Indices = np.floor(sizes * fraction + 0.5).astype(np.int64)
    return np.maximum(shares, np.minimum(sizes, 1))
