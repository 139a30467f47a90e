"""Images as whole uint8 tensors on the device; batches by index, prepared in the batch.

What a client has, :class:`ClientData`, are images or the vectors of
:mod:`fedkd.data.vectors`.

Nothing here touches one sample at a time: a batch is one gather, an optional crop and
flip on the whole batch, and one fused scale and shift.

What is drawn here on the CPU is sent without waiting: a plain ``.to(device)`` holds the
program up until the GPU has done all that it was given before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor

from fedkd.base.phases import phase
from fedkd.base.shown import brief
from fedkd.data.checks import IMAGES, Inputs
from fedkd.data.inputs import InputShape, described, kind_of
from fedkd.data.labelled import LabelledInputs
from fedkd.data.vectors import VectorInfo, VectorSet
from fedkd.errors import ContractError

ImageShape: TypeAlias = tuple[int, int, int]
"""``(channels, height, width)``."""


@dataclass(frozen=True)
class Augmentation:
    """Random crop and flip of training images."""

    pad: int = 0
    """Zero padding, in pixels, before a random crop of the original size; 0 for none."""
    flip: bool = False
    """Whether images are mirrored left to right with probability one half."""


@dataclass(frozen=True, repr=False)
class ImageSet(LabelledInputs):
    """A whole data set: ``x_*`` uint8 ``[N, C, H, W]``, ``y_*`` int64 ``[N]``."""

    kind: ClassVar[Inputs] = IMAGES
    noun: ClassVar[str] = IMAGES.noun

    augmentation: Augmentation = field(default=Augmentation(), kw_only=True)
    """What is done to training images."""

    def __repr__(self) -> str:
        """Return name, sizes, shape and classes: not the images."""
        sizes = f"{len(self.y_train):,} training and {len(self.y_test):,} test images"
        shape = "x".join(map(str, self.shape))
        return brief(self, self.name, sizes, shape, f"{self.num_classes} classes")

    @property
    def shape(self) -> ImageShape:
        """``(channels, height, width)`` of one image."""
        channels, height, width = self.x_train.shape[1:]
        return channels, height, width

    @property
    def info(self) -> ImageInfo:
        """The public facts: shape, classes, normalisation, augmentation."""
        return ImageInfo(
            self.shape, self.num_classes, self.mean, self.std, self.augmentation
        )

    def normalise(self, images: Tensor) -> Tensor:
        """Map uint8 images ``[B, C, H, W]`` to the range that classifiers see."""
        return self.info.normalise(images)

    def normaliser(self, device: torch.device) -> Callable[[Tensor], Tensor]:
        """Return what maps float32 ``[B, C, H, W]`` in 0..255 to the classifiers' range."""
        return partial(_normalised, *_affine(self.mean, self.std, device))


@dataclass(frozen=True)
class ImageInfo:
    """What both sides may know of the images: public facts of the data set."""

    shape: ImageShape
    """``(channels, height, width)``."""
    num_classes: int
    """Number of classes."""
    mean: tuple[float, ...]
    """Per channel, of images scaled to [0, 1]."""
    std: tuple[float, ...]
    """Per channel, of images scaled to [0, 1]."""
    augmentation: Augmentation = Augmentation()
    """What is done to training images."""

    def normalise(self, images: Tensor) -> Tensor:
        """Map uint8 images ``[B, C, H, W]`` to the range that classifiers see."""
        scale, shift = _affine(self.mean, self.std, images.device)
        return torch.addcmul(shift, images.float(), scale)


LabelledSet: TypeAlias = ImageSet | VectorSet
"""A whole data set, of one kind of inputs or the other."""
InputInfo: TypeAlias = ImageInfo | VectorInfo
"""The public facts of a data set."""


@dataclass(frozen=True, repr=False)
class Draw:
    """A batch that is drawn and not made yet."""

    chosen: Tensor
    """Positions in the training set, int64 ``[B]``."""
    corners: Tensor | None = None
    """Top and left of each crop, int64 ``[2, B]``; None for no crop."""
    mirrored: Tensor | None = None
    """Which images are mirrored, booleans ``[B]``; None for none."""

    @staticmethod
    def joined(draws: Sequence[Draw]) -> Draw:
        """Return draws of one data set, all augmented or none, as a single one."""
        corners = [d.corners for d in draws if d.corners is not None]
        mirrored = [d.mirrored for d in draws if d.mirrored is not None]
        return Draw(
            torch.cat([d.chosen for d in draws]),
            torch.cat(corners, 1) if corners else None,
            torch.cat(mirrored) if mirrored else None,
        )


class ClientData:
    """The training inputs of one client: indices into tensors shared by all clients.

    They are images ``[B, C, H, W]`` or, of a :class:`VectorSet`, vectors ``[B, D]``.
    """

    def __init__(self, source: LabelledSet, indices: Tensor) -> None:
        """Args: ``indices`` int64 ``[n]`` into the training inputs of ``source``."""
        self._source = source
        self.indices = indices.to(source.x_train.device)
        """Positions of this client's inputs in the training set, ``[n]``."""
        self._how = source.augmentation if isinstance(source, ImageSet) else None
        self._normalise = source.normaliser(self.device)

    def __repr__(self) -> str:
        """Return how many inputs there are, and of which set."""
        return brief(self, f"{len(self):,} {self._source.noun}s of {self._source.name}")

    def __len__(self) -> int:
        """Return the number of inputs."""
        return len(self.indices)

    @property
    def device(self) -> torch.device:
        """Where the inputs are and where batches are made."""
        return self._source.x_train.device

    @property
    def labels(self) -> Tensor:
        """Labels of this client's inputs, int64 ``[n]``."""
        return self._source.y_train[self.indices]

    def subset(self, keep: Tensor) -> ClientData:
        """Return the inputs where ``keep``, booleans ``[n]``, is True."""
        return ClientData(self._source, self.indices[keep])

    def label_counts(self) -> Tensor:
        """Return the number of inputs of each class, int64 ``[C]``, on the CPU."""
        counts = torch.bincount(self.labels, minlength=self._source.num_classes)
        return counts.cpu()

    def batches(
        self,
        size: int,
        *,
        steps: int | None = None,
        epochs: int | None = None,
        drop_last: str = "singleton",
        augment: bool = True,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield shuffled batches ``(x [B, C, H, W] or [B, D] normalised, y [B])``.

        Order and augmentation are drawn from torch's default CPU generator. Every pass
        is shuffled anew. A client with fewer than ``size`` inputs gives them all in one
        batch; one with a single input gives it twice, because batch normalisation
        cannot train on one.

        Args:
            size: Inputs in a batch.
            steps: Number of batches; passes repeat as needed. Give this or ``epochs``.
            epochs: Number of passes.
            drop_last: ``singleton``, ``always`` or ``never``: which short last batch of
                a pass is left out (never the only one).
            augment: Whether the data set's augmentation is applied; vectors have none.
        """
        for draw in self.draws(
            size, steps=steps, epochs=epochs, drop_last=drop_last, augment=augment
        ):
            yield self.made(draw)

    def draws(
        self,
        size: int,
        *,
        steps: int | None = None,
        epochs: int | None = None,
        drop_last: str = "singleton",
        augment: bool = True,
    ) -> Iterator[Draw]:
        """Draw what :meth:`batches`, with the same arguments, makes its batches of."""
        done = 0
        passes = 0
        while (steps is None or done < steps) and (epochs is None or passes < epochs):
            for chosen in self._pass(size, drop_last):
                if steps is not None and done >= steps:
                    return
                yield _drawn(chosen, self._how if augment else None)
                done += 1
            passes += 1

    def made(self, draw: Draw) -> tuple[Tensor, Tensor]:
        """Return the batch ``(x [B, C, H, W] or [B, D] normalised, y [B])`` of a draw."""
        with phase("data"):
            x = self._source.x_train[draw.chosen].float()
            if self._how is not None:
                # Before normalisation, so that padding is black, as the data sets'
                # users do.
                x = _moved(x, self._how.pad, draw)
            x = self._normalise(x)
        return x, self._source.y_train[draw.chosen]

    @property
    def source_id(self) -> int:
        """Equal for clients of one data set, whose draws can be made together."""
        return id(self._source)

    def inputs(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield all inputs once, in stored order, un-augmented, in batches of ``size``."""
        for chosen in self.indices.split(size):
            yield self.made(Draw(chosen))

    def images(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield what :meth:`inputs` does, of a client that has images.

        Raises:
            ContractError: If its data are vectors.
        """
        require_images(self._source.shape, "client.data.images", "client.data.inputs")
        return self.inputs(size)

    def _pass(self, size: int, drop_last: str) -> Iterator[Tensor]:
        number = len(self.indices)
        if number == 1:
            yield self.indices.repeat(2)
            return
        order = self.indices[torch.randperm(number).to(self.device, non_blocking=True)]
        pieces = order.split(size)
        short = len(pieces[-1]) if len(pieces[-1]) < size else 0
        dropped = drop_last == "always" or (drop_last == "singleton" and short == 1)
        yield from pieces[:-1] if short and dropped and len(pieces) > 1 else pieces


def require_images(shape: InputShape, asked: str, instead: str) -> None:
    """Refuse to give images where the data are none.

    Args:
        shape: That of one input.
        asked: What a strategy asked for: ``"client.data.images"``.
        instead: What gives inputs of any kind.

    Raises:
        ContractError: If the data are vectors.
    """
    if kind_of(shape) != "images":
        raise ContractError(
            f"{asked} was asked for, and the data are {described(shape)}; take "
            f"{instead}, which is there for both kinds, or declare "
            "Requires(images=True), so that the bench skips such data."
        )


def augmented(x: Tensor, how: Augmentation) -> Tensor:
    """Crop and flip a batch ``[B, C, H, W]`` at random, each image on its own draw."""
    return _moved(x, how.pad, _drawn(torch.arange(len(x)), how))


def _drawn(chosen: Tensor, how: Augmentation | None) -> Draw:
    """Draw the augmentation of a batch; None for none."""
    corners = mirrored = None
    if how is not None and how.pad:
        corners = torch.randint(0, 2 * how.pad + 1, (2, len(chosen)))
    if how is not None and how.flip:
        mirrored = torch.rand(len(chosen)) < 0.5
    return Draw(chosen, corners, mirrored)


def _moved(x: Tensor, pad: int, draw: Draw) -> Tensor:
    """Crop and flip images ``[B, C, H, W]`` as was drawn."""
    if draw.corners is not None:
        x = _cropped(x, pad, draw.corners.to(x.device, non_blocking=True))
    if draw.mirrored is not None:
        mirrored = draw.mirrored.to(x.device, non_blocking=True)
        x = torch.where(mirrored[:, None, None, None], x.flip(-1), x)
    return x


def _cropped(x: Tensor, pad: int, corners: Tensor) -> Tensor:
    number, _, height, width = x.shape
    padded = torch.nn.functional.pad(x, (pad, pad, pad, pad))
    top, left = corners
    rows = top[:, None] + torch.arange(height, device=x.device)
    columns = left[:, None] + torch.arange(width, device=x.device)
    image = torch.arange(number, device=x.device)[:, None, None]
    # Advanced indices around a slice come out first: [B, H, W, C].
    cropped = padded[image, :, rows[:, :, None], columns[:, None, :]]
    return cropped.permute(0, 3, 1, 2)


def _normalised(scale: Tensor, shift: Tensor, pixels: Tensor) -> Tensor:
    return torch.addcmul(shift, pixels, scale)


def _affine(
    mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return scale and shift ``[1, C, 1, 1]`` that normalise pixels in 0..255."""
    spread = torch.tensor(std, dtype=torch.float64).view(1, -1, 1, 1)
    centre = torch.tensor(mean, dtype=torch.float64).view(1, -1, 1, 1)
    scale = (1 / (255 * spread)).float().to(device)
    shift = (-centre / spread).float().to(device)
    return scale, shift
