"""Mosaic, server side: distillation of the teacher on generated images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from fedkd.algorithms.mosaic.config import DistilConfig, GeneratorConfig
from fedkd.algorithms.mosaic.generator import draw
from fedkd.ops.distillation import mosaic_distillation
from fedkd.payload import Weights
from fedkd.strategy import Server

TeacherFunction = Callable[[Tensor, Tensor], Tensor]
"""``teacher(images [B, C, H, W], origin [B]) -> logits [B, classes]``."""


class ImageSource:
    """The clients' generators, asked together; ``origin`` says whose an image is."""

    def __init__(
        self,
        generators: Mapping[int, nn.Module],
        config: GeneratorConfig,
        server: Server,
    ) -> None:
        self.clients = sorted(generators)
        """Client of generator ``i``."""
        self._generators = [generators[k].eval() for k in self.clients]
        self._config = config
        self._server = server

    def draw(self, numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Draw ``numbers[i]`` images of generator ``i``.

        Returns:
            Images ``[B, C, H, W]`` in the classifiers' range and, for each, the
            position of its client in ``clients``, int64 ``[B]``.
        """
        images = [
            draw(generator, number, self._config, self._server.images)
            for generator, number in zip(self._generators, numbers, strict=True)
            if number
        ]
        origin = torch.repeat_interleave(
            torch.arange(len(numbers)), torch.tensor(numbers)
        )
        return torch.cat(images), origin.to(self._server.device, non_blocking=True)


def load_generator(
    weights: Weights, server: Server, config: GeneratorConfig
) -> nn.Module:
    """Return a client's generator in eval mode, frozen."""
    generator = server.build(
        "dcgan-generator", latent_size=config.latent_size, width=config.width
    )
    generator.load_state_dict(dict(weights))
    return generator.eval().requires_grad_(False)


def split_batch(sizes: Sequence[int], total: int, sampling: str) -> list[int]:
    """Return how many of ``total`` images each generator gives in a step.

    ``equal`` gives each the same (what is left over is drawn by lot); ``proportional``
    draws the origin of each image with probability n_k / n.
    """
    number = len(sizes)
    if sampling == "proportional":
        drawn = torch.multinomial(
            torch.tensor(sizes, dtype=torch.double), total, replacement=True
        )
        return torch.bincount(drawn, minlength=number).tolist()
    lucky = torch.randperm(number)[: total % number]
    shares = torch.full((number,), total // number)
    shares[lucky] += 1
    return [int(n) for n in shares]


def distil(
    student: nn.Module,
    teacher: TeacherFunction,
    source: ImageSource,
    sizes: Sequence[int],
    config: DistilConfig,
    server: Server,
) -> None:
    """Train ``student`` in place to answer like ``teacher`` on generated images.

    L = w_kl T^2 KL(t || s) + w_ce CE(s, argmax t) + w_overlap J(s, t). In eval mode its
    BatchNorm statistics stay those of the clients' data (released code,
    ``manager_mosaic.py``); its weights, BatchNorm's included, are trained.

    Args:
        student: The global model, in train or eval mode: it is left so.
        teacher: Gives logits for images and their origin.
        source: The clients' generators.
        sizes: n_k of the source's clients.
        config: Loss weights and amounts.
        server: Counts the examples and logs the first and last loss.
    """
    student.requires_grad_(True)
    adam = torch.optim.Adam(student.parameters(), config.lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, config.steps)
    losses = []
    for _ in range(config.steps):
        x, origin = source.draw(split_batch(sizes, config.batch_size, config.sampling))
        with torch.no_grad():
            teacher_BC = teacher(x, origin)
        loss = mosaic_distillation(
            student(x),
            teacher_BC,
            kl_weight=config.kl_weight,
            ce_weight=config.ce_weight,
            overlap_weight=config.overlap_weight,
            overlap=config.overlap,
            temperature=config.temperature,
        )
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
        if config.cosine:
            schedule.step()
        losses.append(loss.detach())
        server.count_examples(len(x))
    tenth = max(1, len(losses) // 10)
    server.log("distil_loss_first", torch.stack(losses[:tenth]).mean())
    server.log("distil_loss_last", torch.stack(losses[-tenth:]).mean())
