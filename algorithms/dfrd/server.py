"""DFRD, after the average: the generator learns, and the global model on its images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedkd.algorithms.datafree import (
    Painter,
    lesson_images,
    log_stage,
    noise_for,
    require_finite,
)
from fedkd.algorithms.dfrd.config import DFRDConfig
from fedkd.algorithms.dfrd.losses import (
    dfdg_transferability_loss,
    distillation_loss,
    fidelity_loss,
    transferability_loss,
)
from fedkd.ops.averaging import class_weights
from fedkd.ops.diversity import diversity_loss
from fedkd.ops.ensembles import LogitEnsemble, weighted_logits
from fedkd.ops.optimisers import Adam, Sgd, Stepper
from fedkd.ops.sampling import label_batches
from fedkd.ops.terms import WeightedTerms
from fedkd.strategy import Server

BETAS = (0.5, 0.999)


class Distillation:
    """The server's work of one round, on one global model and one generator."""

    def __init__(  # noqa: PLR0913 - what a round's work needs, by name
        self,
        student: nn.Module,
        teachers: LogitEnsemble,
        counts_KC: Tensor,
        painter: Painter,
        config: DFRDConfig,
        server: Server,
        *,
        averaged: Painter | None = None,
        averaged_student: bool = True,
    ) -> None:
        """Put a round's work together.

        Args:
            student: The global model, trained in place.
            teachers: The round's clients.
            counts_KC: Each client's images of each class, whole numbers.
            painter: The generator, trained in place.
            config: Losses and amounts.
            server: Counts the examples and logs.
            averaged: The averaged generator of the rounds before; None: its images are
                left out.
            averaged_student: Whether the student is an average of clients. Then it is in
                eval mode, so that its BatchNorm statistics stay those of the clients'
                data. Any other has no statistics of data: it is in train mode, and
                learns them on generated images.
        """
        self.student = student.train(not averaged_student)
        self.teachers = teachers
        self.painter = painter
        self.averaged = averaged
        self.config = config
        self._server = server
        self._counts_C = counts_KC.sum(0)
        self._tau_KC = class_weights(counts_KC).float().to(server.device)
        self._terms = WeightedTerms("transferability")
        self._lessons: list[Tensor] = []

    def run(self) -> None:
        """Train generator and global model in turns; log the means of the losses."""
        how = self.config.distil
        adam, sgd = self._optimisers()
        drawn = label_batches(self._counts_C, how.steps, how.batch_size, how.labels)
        for labels_B in drawn.to(self._server.device):
            if self.config.variant == "dfdg":
                adam, sgd = self._optimisers()
            z_BZ = noise_for(labels_B, self.config.generator.latent_size)
            self.explore(z_BZ, labels_B, adam)
            self.learn(self.lessons(z_BZ, labels_B), sgd)
        log_stage(self._terms, self._lessons, self._server)
        require_finite({"generator.lr": self.painter, "distil.lr": self.student})

    def explore(self, z_BZ: Tensor, labels_B: Tensor, adam: Stepper) -> None:
        """Train the generator towards the images that the clients know."""
        self.painter.train()
        self.student.requires_grad_(False)
        for _ in range(self.config.generator.steps):
            adam.step(self.generator_loss(z_BZ, labels_B))
            self._server.count_examples(len(labels_B))
        self.student.requires_grad_(True)

    def generator_loss(self, z_BZ: Tensor, labels_B: Tensor) -> Tensor:
        """Return L_G = L_fid + beta_tran L_tran + beta_div L_div; a scalar."""
        how, temperature = self.config.generator, self.config.distil.temperature
        dfdg = self.config.variant == "dfdg"
        h_BA = self.painter.merge(z_BZ, labels_B)
        x = self.painter.decode(h_BA)
        ensemble_BC = self.ensemble(x, labels_B)
        terms = {"fidelity": (1.0, fidelity_loss(ensemble_BC, labels_B))}
        if how.transferability_weight:
            rule = dfdg_transferability_loss if dfdg else transferability_loss
            moved = rule(ensemble_BC, self.student(x), labels_B, temperature)
            terms["transferability"] = (how.transferability_weight, moved)
        if how.diversity_weight:
            apart = diversity_loss(h_BA, x, how.diversity)
            terms["diversity"] = (how.diversity_weight, apart)
        return self._terms.sum(x, **terms)

    def ensemble(self, x: Tensor, labels_B: Tensor) -> Tensor:
        """Return sum_k tau_ky f_k(x) for images and their labels, ``[B, classes]``."""
        tau_KB = self._tau_KC[:, labels_B]
        return weighted_logits(self.teachers.each(x), tau_KB, per="image")

    @torch.no_grad()
    def lessons(
        self, z_BZ: Tensor, labels_B: Tensor
    ) -> list[tuple[float, Tensor, Tensor]]:
        """Return ``(weight, images, ensemble's logits)`` of what is taught on."""
        as_searched = self.config.variant == "paper"
        x = lesson_images(self.painter, z_BZ, labels_B, as_searched=as_searched)
        lessons = [(1.0, x, self.ensemble(x, labels_B))]
        weight = self.config.distil.ema_weight
        if self.averaged is not None and weight:
            how = self.config.distil
            drawn = label_batches(self._counts_C, 1, how.batch_size, how.labels)[0]
            labels_B = drawn.to(self._server.device, non_blocking=True)
            z_BZ = noise_for(labels_B, self.config.generator.latent_size)
            x = lesson_images(self.averaged, z_BZ, labels_B, as_searched=as_searched)
            lessons.append((weight, x, self.ensemble(x, labels_B)))
        return lessons

    def learn(
        self,
        lessons: list[tuple[float, Tensor, Tensor]],
        sgd: Stepper,
    ) -> None:
        """Train the global model on L_md of the generator and of the averaged one."""
        for _ in range(self.config.distil.global_steps):
            terms = [
                weight * distillation_loss(logits_BC, self.student(x), self._t)
                for weight, x, logits_BC in lessons
            ]
            sgd.step(torch.stack(terms).sum())
            self._lessons.append(terms[0].detach())
            self._server.count_examples(sum(len(x) for _, x, _ in lessons))

    @property
    def _t(self) -> float:
        return self.config.distil.temperature

    def _optimisers(self) -> tuple[Stepper, Stepper]:
        how = self.config.distil
        adam = Adam(lr=self.config.generator.lr, betas=BETAS)
        sgd = Sgd(lr=how.lr, momentum=how.momentum, weight_decay=how.weight_decay)
        return (
            adam.start(self.painter.parameters()),
            sgd.start(self.student.parameters()),
        )
