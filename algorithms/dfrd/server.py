"""DFRD, server side: the generator's training and the distillation of a round."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fedkd.algorithms.datafree import Painter, Teachers, lesson_images
from fedkd.algorithms.dfrd.config import DFRDConfig
from fedkd.algorithms.dfrd.losses import (
    dfdg_transferability_loss,
    distillation_loss,
    fidelity_loss,
    transferability_loss,
)
from fedkd.ops.diversity import diversity_loss
from fedkd.ops.ensembles import weighted_logits
from fedkd.ops.sampling import label_batches
from fedkd.strategy import Server

BETAS = (0.5, 0.999)


class Distillation:
    """The server's work of one round, on one global model and one generator."""

    def __init__(  # noqa: PLR0913 - what a round's work needs, by name
        self,
        student: nn.Module,
        teachers: Teachers,
        painter: Painter,
        averaged: Painter | None,
        config: DFRDConfig,
        server: Server,
        *,
        averaged_student: bool = True,
    ) -> None:
        """Put a round's work together.

        Args:
            student: The global model, trained in place.
            teachers: The round's clients.
            painter: The generator, trained in place.
            averaged: The averaged generator of the rounds before; None: its images are
                left out.
            config: Losses and amounts.
            server: Counts the examples and logs.
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
        self._losses: dict[str, list[Tensor]] = {}

    def run(self, counts_C: Tensor) -> None:
        """Train generator and global model in turns; log the means of the losses.

        Args:
            counts_C: Images of each class at the round's clients.
        """
        how = self.config.distil
        adam, sgd = self._optimisers()
        drawn = label_batches(counts_C, how.steps, how.batch_size, how.labels)
        for labels_B in drawn.to(self._server.device):
            if self.config.variant == "dfdg":
                adam, sgd = self._optimisers()
            z_BZ = self._noise(labels_B)
            self.explore(z_BZ, labels_B, adam)
            self.learn(self.lessons(z_BZ, labels_B, counts_C), sgd)
        for name, found in self._losses.items():
            self._server.log(name, torch.stack(found).mean())

    def explore(
        self, z_BZ: Tensor, labels_B: Tensor, adam: torch.optim.Optimizer
    ) -> None:
        """Train the generator towards the images that the clients know."""
        self.painter.train()
        self.student.requires_grad_(False)
        for _ in range(self.config.generator.steps):
            adam.zero_grad(set_to_none=True)
            self.generator_loss(z_BZ, labels_B).backward()
            adam.step()
            self._server.count_examples(len(labels_B))
        self.student.requires_grad_(True)

    def generator_loss(self, z_BZ: Tensor, labels_B: Tensor) -> Tensor:
        """Return L_G = L_fid + beta_tran L_tran + beta_div L_div; a scalar."""
        how, temperature = self.config.generator, self.config.distil.temperature
        dfdg = self.config.variant == "dfdg"
        h_BA = self.painter.merge(z_BZ, labels_B)
        x = self.painter.decode(h_BA)
        ensemble_BC = self.ensemble(x, labels_B)
        loss = fidelity_loss(ensemble_BC, labels_B)
        self._note("fidelity_loss", loss)
        if how.transferability_weight:
            rule = dfdg_transferability_loss if dfdg else transferability_loss
            moved = rule(ensemble_BC, self.student(x), labels_B, temperature)
            loss = loss + how.transferability_weight * moved
            self._note("transferability_loss", moved)
        if how.diversity_weight:
            apart = diversity_loss(h_BA, x, "l2" if dfdg else "norms")
            loss = loss + how.diversity_weight * apart
            self._note("diversity_loss", apart)
        return loss

    def ensemble(self, x: Tensor, labels_B: Tensor) -> Tensor:
        """Return sum_k tau_ky f_k(x) for images and their labels, ``[B, classes]``."""
        weights_KB = self.teachers.weights_of(labels_B)
        return weighted_logits(self.teachers(x), weights_KB, per="image")

    @torch.no_grad()
    def lessons(
        self, z_BZ: Tensor, labels_B: Tensor, counts_C: Tensor
    ) -> list[tuple[float, Tensor, Tensor]]:
        """Return ``(weight, images, ensemble's logits)`` of what is taught on."""
        as_searched = self.config.variant == "paper"
        x = lesson_images(self.painter, z_BZ, labels_B, as_searched=as_searched)
        found = [(1.0, x, self.ensemble(x, labels_B))]
        weight = self.config.distil.ema_weight
        if self.averaged is not None and weight:
            how = self.config.distil
            drawn = label_batches(counts_C, 1, how.batch_size, how.labels)[0]
            labels_B = drawn.to(self._server.device, non_blocking=True)
            z_BZ = self._noise(labels_B)
            x = lesson_images(self.averaged, z_BZ, labels_B, as_searched=as_searched)
            found.append((weight, x, self.ensemble(x, labels_B)))
        return found

    def learn(
        self,
        lessons: list[tuple[float, Tensor, Tensor]],
        sgd: torch.optim.Optimizer,
    ) -> None:
        """Train the global model on L_md of the generator and of the averaged one."""
        for _ in range(self.config.distil.global_steps):
            terms = [
                weight * distillation_loss(logits_BC, self.student(x), self._t)
                for weight, x, logits_BC in lessons
            ]
            sgd.zero_grad(set_to_none=True)
            torch.stack(terms).sum().backward()
            sgd.step()
            self._note("student_loss", terms[0])
            self._server.count_examples(sum(len(x) for _, x, _ in lessons))

    @property
    def _t(self) -> float:
        return self.config.distil.temperature

    def _noise(self, labels_B: Tensor) -> Tensor:
        size = self.config.generator.latent_size
        z_BZ = torch.randn(len(labels_B), size)
        return z_BZ.to(labels_B.device, non_blocking=True)

    def _optimisers(self) -> tuple[torch.optim.Optimizer, torch.optim.Optimizer]:
        how = self.config.distil
        adam = torch.optim.Adam(
            self.painter.parameters(), self.config.generator.lr, BETAS
        )
        sgd = torch.optim.SGD(
            self.student.parameters(),
            how.lr,
            momentum=how.momentum,
            weight_decay=how.weight_decay,
            foreach=True,
        )
        return adam, sgd

    def _note(self, name: str, value: Tensor) -> None:
        self._losses.setdefault(name, []).append(value.detach())
