"""Mosaic, stage 4, distillation: the teacher's answers on generated images, learnt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedkd.algorithms.mosaic import extensions
from fedkd.algorithms.mosaic.config import LessonConfig, MosaicConfig
from fedkd.algorithms.mosaic.experts import Members, TeacherFunction, with_weights
from fedkd.algorithms.mosaic.generators import (
    ImageSource,
    Source,
    load_generator,
    split_batch,
)
from fedkd.algorithms.mosaic.teacher import make_teacher
from fedkd.ops.distillation import bhattacharyya, jensen_shannon, kl
from fedkd.ops.optimisers import Adam
from fedkd.ops.schedules import Schedule
from fedkd.payload import Weights
from fedkd.strategy import Server, read_weights


@dataclass(frozen=True)
class Stage:
    """What the distillation round began with, kept for one measurement."""

    members: Members
    """The models when warm-up ended."""
    meta: Weights | None
    """The meta model; None if the teacher has none."""


def distilled(
    config: MosaicConfig,
    members: Members,
    generators: Mapping[int, Weights],
    features: Mapping[int, Tensor],
    server: Server,
) -> tuple[Weights, Stage]:
    """Form the teacher and distil it into the average of the clients.

    Args:
        config: The strategy's.
        members: The models when warm-up ended.
        generators: Weights of the generators, by client.
        features: Feature prototypes by class, ``[N, D]`` each.
        server: The server's side.

    Returns:
        The new global model, and what it came from.
    """
    loaded = {
        k: load_generator(sent, server, config.generator)
        for k, sent in generators.items()
    }
    source = ImageSource(loaded, config.generator, server)
    student = with_weights(server, members.fleet.whole)
    teacher, meta = make_teacher(config.teacher, members, source, features, server)
    counts = [members.label_counts[k] for k in source.clients]
    if config.teacher.origin_prior:
        epsilon = config.teacher.origin_epsilon
        teacher = extensions.with_origin_prior(teacher, counts, epsilon, server)
    asked, new = config.distil.batch_norm, members.fleet.server_is_new
    student.train(asked == "train" or (asked == "auto" and new))
    sizes = [int(counts_C.sum()) for counts_C in counts]
    distil(student, teacher, source, sizes, config.distil, server)
    return read_weights(student), Stage(members, meta)


def distil(
    student: nn.Module,
    teacher: TeacherFunction,
    source: Source,
    sizes: Sequence[int],
    config: LessonConfig,
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
    falling = Schedule(cosine=config.steps if config.cosine else None, per="step")
    adam = Adam(lr=config.lr, schedule=falling).start(student.parameters())
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
        losses.append(adam.step(loss))
        server.count_examples(len(x))
    tenth = max(1, len(losses) // 10)
    server.log("distil_loss_first", torch.stack(losses[:tenth]).mean())
    server.log("distil_loss_last", torch.stack(losses[-tenth:]).mean())


def mosaic_distillation(  # noqa: PLR0913 - the weights of one sum, given by name
    student_BC: Tensor,
    teacher_BC: Tensor,
    *,
    kl_weight: float,
    ce_weight: float,
    overlap_weight: float,
    overlap: Literal["bhattacharyya", "jensen_shannon"],
    temperature: float,
) -> Tensor:
    """Return w_kl T^2 KL(t || s) + w_ce CE(s, argmax t) + w_overlap J(s, t).

    The released code has this loss in ``manager_mosaic.py``. A term of weight 0 is skipped.

    Args:
        student_BC: Logits of the student.
        teacher_BC: Logits of the teacher.
        kl_weight: Weight of the Kullback-Leibler term.
        ce_weight: Weight of the cross-entropy with the teacher's class.
        overlap_weight: Weight of the symmetric term J.
        overlap: Which symmetric term J is.
        temperature: T of the Kullback-Leibler term.

    Raises:
        ValueError: If all weights are 0: then there is nothing to learn.
    """
    terms = []
    if kl_weight:
        terms.append(kl_weight * kl(teacher_BC, student_BC, temperature))
    if ce_weight:
        hard = F.cross_entropy(student_BC, teacher_BC.argmax(dim=1))
        terms.append(ce_weight * hard)
    if overlap_weight:
        symmetric = bhattacharyya if overlap == "bhattacharyya" else jensen_shannon
        terms.append(overlap_weight * symmetric(student_BC, teacher_BC))
    if not terms:
        raise ValueError(
            "a distillation loss needs a term; found kl_weight, ce_weight and "
            "overlap_weight all 0. Set one of them above 0."
        )
    return torch.stack(terms).sum()
