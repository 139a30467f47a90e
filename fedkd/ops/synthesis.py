"""Images that a server without data makes to teach a student: losses, search, pool.

Images are in [0, 1] here, as generators give them and files of 8 bits hold them.
Classifiers of this library are trained on normalised images, so :class:`Lens` stands
between the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedkd.data.images import Augmentation, ImageInfo, augmented
from fedkd.ops.distillation import kl_rows
from fedkd.ops.optimisers import Adam

BETAS = (0.5, 0.999)
"""Adam's momenta in the search for images."""


class Lens:
    """How classifiers see images in [0, 1]: augmented, then normalised."""

    def __init__(self, info: ImageInfo, device: torch.device, *, augment: bool) -> None:
        """Take the data set's rules.

        Args:
            info: Normalisation and augmentation of the data set.
            device: Where the images are.
            augment: Whether images are cropped and flipped as training images are.
        """
        std = torch.tensor(info.std, device=device).view(1, -1, 1, 1)
        mean = torch.tensor(info.mean, device=device).view(1, -1, 1, 1)
        self._scale, self._shift = 1 / std, -mean / std
        self._how = info.augmentation if augment else Augmentation()

    @property
    def is_random(self) -> bool:
        """Whether an image looks different at every view."""
        return self._how != Augmentation()

    def __call__(self, images: Tensor) -> Tensor:
        """Map images ``[B, C, H, W]`` in [0, 1] to what classifiers see; differentiable.

        Crops come before normalisation, so that their padding is black.
        """
        seen = augmented(images, self._how)
        return torch.addcmul(self._shift, seen, self._scale)

    def pixels(self, amount: float) -> Tensor:
        """Return how far ``amount`` of the range [0, 1] is after normalisation."""
        return amount * self._scale


def disagreement(teacher_BC: Tensor, student_BC: Tensor) -> Tensor:
    """Return where the student's class is not the teacher's, booleans ``[B]``."""
    return teacher_BC.argmax(dim=1) != student_BC.argmax(dim=1)


def adversarial_divergence(
    teacher_BC: Tensor,
    student_BC: Tensor,
    *,
    temperature: float = 1.0,
    masked: bool = True,
) -> Tensor:
    """Return L_adv = -T^2 (1/B) sum_b m_b KL(softmax(t_b/T) || softmax(s_b/T)).

    It rewards images on which student and teacher differ. m is the disagreement of their
    classes, or 1. The sum is divided by all B images, so an empty mask gives 0. Source:
    DENSE, arXiv:2112.12371, loss of "transferability"; the released code has T = 1.
    """
    rows_B = kl_rows(teacher_BC, student_BC, temperature)
    if masked:
        rows_B = rows_B * disagreement(teacher_BC, student_BC)
    return -rows_B.mean()


def difficulty_cross_entropy(
    logits_BC: Tensor, labels_B: Tensor, exponent: float
) -> Tensor:
    """Return mean_b (1 - p_b)^h CE(z_b, y_b), p_b the probability of y_b, detached.

    With h = 0 it is the cross-entropy, to the bit. Source: Co-Boosting, arXiv:2402.15070,
    the loss of its generator of hard samples.
    """
    if exponent == 0:
        return F.cross_entropy(logits_BC, labels_B)
    rows_B = F.cross_entropy(logits_BC, labels_B, reduction="none")
    # expm1 keeps 1 - p exact where p is near 1.
    difficulty_B = -torch.expm1(-rows_B.detach())
    return (difficulty_B**exponent * rows_B).mean()


def synthesise(
    generator: nn.Module,
    z_BZ: Tensor,
    loss: Callable[[Tensor], Tensor],
    *,
    steps: int,
    lr: float,
    clip_norm: float | None = None,
) -> Tensor:
    """Train a generator together with its noise; return the images of least loss.

    Source: DENSE, released code (``synthesizers.py``): Adam with betas (0.5, 0.999) on
    the generator's weights and on z.

    Args:
        generator: Maps noise to images in [0, 1]; trained in place, in train mode.
        z_BZ: The noise to start from; it is not changed.
        loss: ``loss(images [B, C, H, W]) -> scalar``.
        steps: Adam steps; the images before each of them are candidates.
        lr: Adam's learning rate.
        clip_norm: Largest norm of the generator's gradient; None for no clipping.

    Returns:
        Images ``[B, C, H, W]`` in [0, 1]. A loss that is not finite is never the least;
        if none is finite, the first images, with 0 for values that are no numbers.
    """
    noise_BZ = z_BZ.detach().clone().requires_grad_()
    weights = list(generator.parameters())
    adam = Adam(lr=lr, betas=BETAS).start([*weights, noise_BZ])

    def clipped() -> None:
        # The generator's gradient alone: the noise goes as far as it will.
        if clip_norm is not None:
            nn.utils.clip_grad_norm_(weights, clip_norm)

    generator.train()
    best = None
    least = torch.full((), torch.inf, device=z_BZ.device)
    for _ in range(steps):
        images = generator(noise_BZ)
        value = adam.step(loss(images), gradient=clipped)
        # Compared on the device: asking for the number would wait for a GPU.
        kept = images.detach() if best is None else best
        best = torch.where(value < least, images.detach(), kept)
        least = torch.where(value < least, value, least)
    if best is None:
        raise ValueError(f"found steps={steps}; expected 1 or more.")
    # A generator that has diverged gives black images, not ones that poison a student.
    return torch.where(torch.isfinite(least), best, torch.nan_to_num(best))


class ImagePool:
    """Generated images with labels, kept as 8-bit pixels on the device.

    8 bits are what the files of the released code hold. The oldest images leave when the
    pool is full.
    """

    def __init__(self, capacity: int, *, exact: bool = False) -> None:
        """Make an empty pool.

        Args:
            capacity: Images that the pool holds at most.
            exact: Whether images are kept as they are, in four times the memory.
        """
        self._capacity = capacity
        self._exact = exact
        self._parts: tuple[Tensor, ...] = ()

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._parts[0]) if self._parts else 0

    def as_kept(self, images: Tensor) -> Tensor:
        """Return images ``[B, C, H, W]`` in [0, 1] as the pool gives them back."""
        return self._read(self._write(images))

    def add(self, images: Tensor, *notes: Tensor) -> None:
        """Add images.

        Args:
            images: ``[B, C, H, W]`` in [0, 1].
            notes: What to keep beside each image: labels ``[B]``, logits ``[B, C]``; the
                same kinds every time.
        """
        new = (self._write(images), *(note.detach() for note in notes))
        pairs = zip(self._parts, new, strict=True) if self._parts else ()
        joined = tuple(torch.cat(pair) for pair in pairs) or new
        self._parts = tuple(part[-self._capacity :] for part in joined)

    def batches(
        self, size: int, *, steps: int | None = None, passes: int | None = None
    ) -> Iterator[tuple[Tensor, ...]]:
        """Yield shuffled batches ``(images [B, C, H, W] in [0, 1], *notes)``.

        Every pass over the pool is shuffled anew; a short batch of one image, which batch
        normalisation cannot use, is left out.

        Args:
            size: Images in a batch; a smaller pool gives all it has.
            steps: Number of batches; passes repeat as needed. Give this or ``passes``.
            passes: Number of passes.
        """
        done = turns = 0
        while (steps is None or done < steps) and (passes is None or turns < passes):
            for chosen in self._pass(size):
                if done == steps:
                    return
                yield self._take(chosen)
                done += 1
            turns += 1

    def newest(self, number: int) -> Tensor:
        """Return the last images that came, at most ``number``, in [0, 1]."""
        return self._read(self._parts[0][-number:])

    def _pass(self, size: int) -> Iterator[Tensor]:
        order = torch.randperm(len(self))
        order = order.to(self._parts[0].device, non_blocking=True)
        pieces = order.split(size)
        alone = len(pieces) > 1 and len(pieces[-1]) == 1
        yield from pieces[:-1] if alone else pieces

    def _take(self, chosen: Tensor) -> tuple[Tensor, ...]:
        images, *notes = (part[chosen] for part in self._parts)
        return (self._read(images), *notes)

    def _write(self, images: Tensor) -> Tensor:
        pixels = images.detach()
        return pixels if self._exact else (pixels.clamp(0, 1) * 255).round().byte()

    def _read(self, kept: Tensor) -> Tensor:
        return kept if self._exact else kept.float() / 255
