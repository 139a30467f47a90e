"""Groups of samples: who wrote an image, which domain it is of, whose it is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedkd.base.shown import brief
from fedkd.errors import DataError


@dataclass(frozen=True)
class Groups:
    """The group of every training and test sample of a data set: writer, domain, user.

    Partitioners that look at groups deal samples by them, and a client that is of one
    group is measured on test samples of that group.
    """

    train: Tensor
    """Groups of the training samples, int64 ``[N]``, from 0."""
    test: Tensor
    """Groups of the test samples, int64 ``[M]``; the same numbers as in training."""
    names: tuple[str, ...] = ()
    """What group ``g`` is called, ``names[g]``; its number if none are given."""

    def __repr__(self) -> str:
        """Return how many groups and samples there are."""
        sizes = f"{len(self.train):,} training and {len(self.test):,} test samples"
        return brief(self, f"{len(self.names)} groups of {sizes}")

    def __post_init__(self) -> None:
        """Check it, and call groups without names by their numbers.

        Raises:
            DataError: If it is not what its fields say.
        """
        for key in ("train", "test"):
            _require_numbers(f"groups.{key}", getattr(self, key))
        highest = max(int(g.max()) for g in (self.train, self.test) if len(g))
        if not self.names and highest >= len(self.train) + len(self.test):
            raise DataError(
                f"found the group {highest} of {len(self.train) + len(self.test):,} "
                "samples, expected numbers from 0 without gaps; torch.unique with "
                "return_inverse=True gives them, and the names beside."
            )
        if not self.names:
            names = tuple(str(number) for number in range(highest + 1))
            object.__setattr__(self, "names", names)
        if highest >= len(self.names):
            raise DataError(
                f"found the group {highest} and {len(self.names)} names of groups, "
                "expected a name for each; give more names, or none to number them."
            )

    def require_fit(self, name: str, train: int, test: int) -> None:
        """Refuse groups that are not one for each sample.

        Args:
            name: What the data set is called.
            train: Its training samples.
            test: Its test samples.

        Raises:
            DataError: If there are more or fewer.
        """
        for key, number in (("train", train), ("test", test)):
            if len(getattr(self, key)) != number:
                raise DataError(
                    f"{name}: found {len(getattr(self, key)):,} groups in groups.{key} "
                    f"and {number:,} samples in x_{key}, expected a group for each."
                )

    def kept(self, train: Tensor | None = None, test: Tensor | None = None) -> Groups:
        """Return the groups of a part of the set, names unchanged.

        Args:
            train: Positions of the training samples that are kept, int64 ``[n]``; all
                if None.
            test: Positions of the test samples that are kept, int64 ``[m]``; all if None.
        """
        return Groups(
            self.train if train is None else self.train[train.cpu()],
            self.test if test is None else self.test[test.cpu()],
            self.names,
        )


def _require_numbers(key: str, numbers: object) -> None:
    if not isinstance(numbers, Tensor):
        raise DataError(
            f"found {key} of type {type(numbers).__name__}, expected a tensor; "
            "torch.from_numpy makes one of an array."
        )
    if numbers.dtype != torch.int64 or numbers.ndim != 1:
        raise DataError(
            f"found {key} of type {str(numbers.dtype).removeprefix('torch.')} and shape "
            f"{list(numbers.shape)}, expected int64 [N]; use .long().reshape(-1)."
        )
    if len(numbers) and int(numbers.min()) < 0:
        raise DataError(
            f"found the group {int(numbers.min())} in {key}, expected numbers from 0."
        )
