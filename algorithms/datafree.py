"""What FedFTG, DFRD and FedGen share: label counts, and conditional generators.

Generators persist over rounds as weights. Optimisers do not: their moments start at zero
in every round, as in the released codes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fedkd.algorithms.averaging import Update
from fedkd.data.images import InputInfo
from fedkd.errors import DivergedError
from fedkd.ops.generation import all_finite, to_classifier_range
from fedkd.ops.terms import WeightedTerms
from fedkd.payload import Weights
from fedkd.strategy import Party, Server
from fedkd.weights import buffers_kept

Range = Literal["classifier", "as_is"]
"""What is done to generated images: see :class:`Painter`."""
PICTURES = 10


@dataclass(frozen=True)
class CountedUpdate:
    """What a client sends back: what it has trained, and its label counts."""

    weights: Weights
    """The locally trained model, or, where only heads are shared, its head by position."""
    label_counts: Tensor
    """n_kc, images of each class, in all or of this round; int32 ``[C]``."""


def no_counts(party: Party) -> Tensor:
    """Return label counts of no images, int32 ``[C]``: what those of a client are like."""
    return torch.zeros(party.num_classes, dtype=torch.int32)


def counts_of(ups: Mapping[int, CountedUpdate]) -> Tensor:
    """Return clients' label counts, in the order of the mapping; int64 ``[K, C]``."""
    return torch.stack([up.label_counts.long() for up in ups.values()])


def sized(ups: Mapping[int, CountedUpdate]) -> dict[int, Update]:
    """Return what averages are made of: the weights, with n_k = sum_c n_kc."""
    return {k: Update(up.weights, int(up.label_counts.sum())) for k, up in ups.items()}


class Painter(nn.Module):
    """A conditional generator whose images classifiers can read."""

    def __init__(self, generator: nn.Module, info: InputInfo, output: Range) -> None:
        """Wrap a generator.

        Args:
            generator: One of kind ``conditional-generator``.
            info: Normalisation of the data set.
            output: ``classifier``: images in [-1, 1] are mapped to the range of
                normalised data. ``as_is``: they stay as the generator makes them.
        """
        super().__init__()
        self.generator = generator
        self._info = info
        self._output = output

    @property
    def latent_size(self) -> int:
        """Z, the length of a noise vector."""
        return int(self.generator.latent_size)  # type: ignore[arg-type]

    def merge(self, z_BZ: Tensor, labels_B: Tensor) -> Tensor:
        """Return noise and label as one vector, ``[B, A]``."""
        merged: Tensor = self.generator.merge(z_BZ, labels_B)  # type: ignore[operator]
        return merged

    def decode(self, h_BA: Tensor) -> Tensor:
        """Map merged vectors ``[B, A]`` to images ``[B, C, H, W]``."""
        images: Tensor = self.generator.decode(h_BA)  # type: ignore[operator]
        if self._output == "as_is":
            return images
        return to_classifier_range(images, self._info.mean, self._info.std)

    def forward(self, z_BZ: Tensor, labels_B: Tensor) -> Tensor:
        """Map noise ``[B, Z]`` and labels ``[B]`` to images ``[B, C, H, W]``."""
        return self.decode(self.merge(z_BZ, labels_B))


def painter_of(
    server: Server, weights: Weights | None, kind: str, output: Range, **options: Any
) -> Painter:
    """Return a generator with its weights of the round before, as a painter.

    Args:
        server: Builds it.
        weights: Those of the generator; new ones if None.
        kind: The registered network.
        output: What is done to its images.
        options: Those of the network.
    """
    generator = server.build(kind, **options)
    if weights is not None:
        generator.load_state_dict(dict(weights))
    return Painter(generator, server.inputs, output)


def noise_for(labels_B: Tensor, size: int) -> Tensor:
    """Return noise ``[B, Z]`` from N(0, 1) for labels, on their device."""
    z_BZ = torch.randn(len(labels_B), size)
    return z_BZ.to(labels_B.device, non_blocking=True)


def require_finite(networks: Mapping[str, nn.Module]) -> None:
    """Refuse what a round at the server has made if it is not finite.

    Args:
        networks: Those that were trained, by the option that holds their rate, such as
            ``"generator.lr"``.

    Raises:
        DivergedError: Naming the options of all networks that are not finite.
    """
    lost = [option for option, network in networks.items() if not all_finite(network)]
    if lost:
        raise DivergedError(
            "training at the server gave weights that are not finite; lower "
            f"{' or '.join(lost)}."
        )


def log_stage(terms: WeightedTerms, lessons: Sequence[Tensor], server: Server) -> None:
    """Log what the generator's loss was made of, and the mean loss of the student.

    Args:
        terms: Those of the generator.
        lessons: The student's loss at each step, scalars without graph.
        server: Is given ``NAME_loss`` and ``NAME_share`` of each term, and
            ``student_loss``.

    Warns:
        RuntimeWarning: If a term that has weight stayed 0.
    """
    for name, value in terms.report().items():
        server.log(name, value)
    server.log("student_loss", torch.stack(list(lessons)).mean())


@torch.no_grad()
def lesson_images(
    painter: Painter, z_BZ: Tensor, labels_B: Tensor, *, as_searched: bool
) -> Tensor:
    """Return images to teach on, ``[B, C, H, W]``; the painter does not change.

    Args:
        painter: Makes them.
        z_BZ: Noise.
        labels_B: Their labels.
        as_searched: Whether BatchNorm uses the statistics of the batch, as while the
            generator learns, so that these are the images of its search. The running
            ones of a generator with few steps make other, almost flat images.
    """
    if not as_searched:
        flat: Tensor = painter.eval()(z_BZ, labels_B)
        return flat
    with buffers_kept(painter):
        images: Tensor = painter.train()(z_BZ, labels_B)
    return images


@torch.no_grad()
def pictures(painter: Painter, server: Server) -> Tensor:
    """Return one image of each class, at most ten, in the classifiers' range."""
    number = min(PICTURES, server.num_classes)
    z_BZ = torch.randn(number, painter.latent_size).to(server.device)
    images: Tensor = painter.eval()(z_BZ, torch.arange(number).to(server.device))
    return images
