"""Inputs that everybody may see, without labels: a part of the world beside the clients."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedkd.base.randomness import numpy_stream
from fedkd.base.shown import brief
from fedkd.data.images import ClientData, Draw, LabelledSet
from fedkd.data.inputs import fully_described
from fedkd.data.positions import positions_in
from fedkd.errors import ConfigError

Positions: TypeAlias = NDArray[np.int64]
"""Positions in a training set, ``[n]``."""


class PublicData:
    """Unlabelled images or vectors, seen as the clients' training inputs are.

    Normalisation and augmentation are those of the clients' data set. It holds no label.
    """

    def __init__(
        self,
        pixels: Tensor,
        like: LabelledSet,
        *,
        name: str = "public",
        positions: Positions | None = None,
    ) -> None:
        """Take inputs.

        Args:
            pixels: Images uint8 ``[N, C, H, W]`` or vectors float32 ``[N, D]``.
            like: The clients' data set.
            name: What messages call the inputs.
            positions: Where they are in the training set of ``like``, if they are of it.

        Raises:
            ConfigError: If the inputs have not the shape of the clients', or have other
                positions than one each.
        """
        if tuple(pixels.shape[1:]) != like.shape:
            there = fully_described(tuple(pixels.shape[1:]))
            raise ConfigError(
                f"public data: found {there} in {name}, expected "
                f"{fully_described(like.shape)}, as {like.name} has them. Give a data set "
                f"of such, or a share of the training {like.noun}s: public: {{share: 0.1}}."
            )
        device = like.x_train.device
        unlabelled = replace(
            like,
            name=name,
            x_train=pixels.to(device),
            y_train=torch.zeros(len(pixels), dtype=torch.int64, device=device),
            groups=None,
        )
        everything = torch.arange(len(pixels), device=device)
        self._inputs = ClientData(unlabelled, everything)
        self.name = name
        self.pixels = unlabelled.x_train
        """The inputs as they are stored: images uint8 ``[N, C, H, W]``, vectors float32
        ``[N, D]``; not to be changed."""
        self.positions = None if positions is None else self._places(like, positions)
        """Where they are in the clients' training set; None for another data set."""

    def _places(self, like: LabelledSet, given: Any) -> Positions:
        """Return where the inputs are in the training set of ``like``."""
        where = f"positions of {self.name}"
        found: Positions = positions_in(len(like.y_train), given, where).numpy()
        if len(found) != len(self):
            raise ConfigError(
                f"{where}: found {len(found)}, expected {len(self)}, one for each input."
            )
        return found

    def __repr__(self) -> str:
        """Return how many inputs there are, and where they are from."""
        return brief(self, self.name, f"{len(self.pixels):,} inputs without labels")

    @classmethod
    def of_share(cls, data: LabelledSet, positions: Positions) -> PublicData:
        """Return training inputs of the clients' own data set, which no client may have.

        Args:
            data: The clients' data set.
            positions: Which of its training inputs; see :meth:`held_out`.
        """
        places = positions_in(len(data.y_train), positions, f"positions of {data.name}")
        chosen = places.to(data.x_train.device)
        return cls(data.x_train[chosen], data, name=data.name, positions=positions)

    @staticmethod
    def held_out(number: int, share: float, seed: int) -> tuple[Positions, Positions]:
        """Return which training inputs are public and which are left to the clients.

        They are drawn evenly from the stream ``(seed, "public")``, before any partition.

        Args:
            number: Inputs of the training set.
            share: Of them that is public, above 0 and below 1.
            seed: Of the run.

        Returns:
            Positions of both, ascending.

        Raises:
            ConfigError: If the share leaves nothing to one of the two.
        """
        count = round(share * number)
        if not 0 < count < number:
            raise ConfigError(
                f"public.share: found {share:g}, which is {count} of {number} training "
                "images; expected a share that leaves images to both sides."
            )
        order = numpy_stream(seed, "public").permutation(number).astype(np.int64)
        return np.sort(order[:count]), np.sort(order[count:])

    @classmethod
    def of_set(cls, data: LabelledSet, other: LabelledSet) -> PublicData:
        """Return the training inputs of another data set.

        Args:
            data: The clients' data set.
            other: The set whose training inputs are public.

        Raises:
            ConfigError: If their inputs have not one shape.
        """
        return cls(other.x_train, data, name=other.name)

    def __len__(self) -> int:
        """Return the number of inputs."""
        return len(self._inputs)

    def batches(
        self,
        size: int,
        *,
        steps: int | None = None,
        epochs: int | None = None,
        augment: bool = True,
    ) -> Iterator[Tensor]:
        """Yield shuffled batches ``[B, C, H, W]`` or ``[B, D]``, normalised.

        They are drawn as :meth:`fedkd.data.images.ClientData.batches` draws them.

        Args:
            size: Inputs in a batch.
            steps: Number of batches; passes repeat as needed. Give this or ``epochs``.
            epochs: Number of passes.
            augment: Whether the data set's augmentation is applied.
        """
        for x, _ in self._inputs.batches(
            size, steps=steps, epochs=epochs, augment=augment
        ):
            yield x

    def at(self, places: Tensor) -> Tensor:
        """Return inputs by their number here, ``[B, C, H, W]`` or ``[B, D]``, normalised.

        Args:
            places: Whole numbers ``[B]`` from 0 to ``len(self) - 1``.
        """
        chosen = places.to(self.pixels.device, torch.int64)
        x, _ = self._inputs.made(Draw(chosen))
        return x
