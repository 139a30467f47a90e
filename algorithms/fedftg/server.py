"""FedFTG, after the average: the search for hard images, and the lesson from them."""

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
from fedkd.algorithms.fedftg.config import FedFTGConfig
from fedkd.algorithms.fedftg.losses import (
    class_loss,
    discrepancy,
    official_class_loss,
    official_discrepancy,
    official_student_loss,
)
from fedkd.ops.averaging import class_weights
from fedkd.ops.diversity import diversity_loss
from fedkd.ops.ensembles import LogitEnsemble
from fedkd.ops.optimisers import Adam, Sgd, Stepper
from fedkd.ops.sampling import label_batches
from fedkd.ops.schedules import Schedule
from fedkd.ops.terms import WeightedTerms
from fedkd.strategy import Server


class FineTuning:
    """The server's work of one round, on one global model and one generator."""

    def __init__(
        self,
        student: nn.Module,
        teachers: LogitEnsemble,
        counts_KC: Tensor,
        painter: Painter,
        config: FedFTGConfig,
        server: Server,
    ) -> None:
        """Put a round's work together.

        Args:
            student: The global model, trained in place, in eval mode: its BatchNorm
                statistics stay those of the clients' data.
            teachers: The round's clients.
            counts_KC: Each client's images of each class, whole numbers.
            painter: The generator, trained in place.
            config: Losses and amounts.
            server: Counts the examples and logs.
        """
        self.student = student.eval()
        self.teachers = teachers
        self.painter = painter
        self.config = config
        self._server = server
        self._counts_C = counts_KC.sum(0)
        self._tau_KC = class_weights(counts_KC).float().to(server.device)
        self._terms = WeightedTerms()
        self._lessons: list[Tensor] = []

    def run(self, round: int) -> None:
        """Search and learn in turns; log the means of the losses over the round.

        Args:
            round: The round from 0, for the decay of the learning rates.
        """
        how, search = self.config.distil, self.config.generator
        rates = Schedule(decay=how.lr_decay)
        adam = Adam(lr=search.lr, betas=(search.beta1, 0.999), schedule=rates)
        sgd = Sgd(lr=how.lr, weight_decay=how.weight_decay, schedule=rates)
        searching = adam.start(self.painter.parameters(), round)
        learning = sgd.start(self.student.parameters(), round)
        drawn = label_batches(self._counts_C, how.steps, how.batch_size, how.labels)
        for labels_B in drawn.to(self._server.device):
            if self.config.variant == "lightfed":
                searching = adam.start(self.painter.parameters(), round)
            z_BZ = noise_for(labels_B, search.latent_size)
            self.search(z_BZ, labels_B, searching)
            self.learn(z_BZ, labels_B, learning)
        log_stage(self._terms, self._lessons, self._server)
        require_finite({"generator.lr": self.painter, "distil.lr": self.student})

    def search(self, z_BZ: Tensor, labels_B: Tensor, adam: Stepper) -> None:
        """Train the generator to find images on which the models differ."""
        weights_KB = self._tau_KC[:, labels_B]
        self.painter.train()
        self.student.requires_grad_(False)
        for _ in range(self.config.generator.steps):
            if self.config.variant != "official":
                adam.step(self.generator_loss(z_BZ, labels_B))
                self._server.count_examples(len(labels_B))
                continue
            for k, member in enumerate(self.teachers.members):
                adam.step(self.official_loss(z_BZ, labels_B, member, weights_KB[k]))
                self._server.count_examples(len(labels_B))
        self.student.requires_grad_(True)

    def generator_loss(self, z_BZ: Tensor, labels_B: Tensor) -> Tensor:
        """Return L_G = lambda_cls L_cls + lambda_dis L_dis - L_md; a scalar.

        LightFed's L_md is the mean over classes, its global model's logits are detached,
        and its L_dis takes squares on both sides.
        """
        how = self.config.generator
        lightfed = self.config.variant == "lightfed"
        x = self.painter(z_BZ, labels_B)
        logits_KBC, global_BC = self.teachers.each(x), self.student(x)
        weights_KB = self._tau_KC[:, labels_B]
        gap = discrepancy(
            global_BC.detach() if lightfed else global_BC,
            logits_KBC,
            weights_KB,
            direction="global_local" if lightfed else self.config.distil.direction,
            temperature=self.config.distil.temperature,
        )
        gap = gap / global_BC.shape[1] if lightfed else gap
        terms = {"discrepancy": (-how.discrepancy_weight, gap)}
        if how.class_weight:
            of_class = class_loss(logits_KBC, labels_B, weights_KB)
            terms["class"] = (how.class_weight, of_class)
        if how.diversity_weight:
            apart = diversity_loss(z_BZ, x, "l2" if lightfed else "l1")
            terms["diversity"] = (how.diversity_weight, apart)
        return self._terms.sum(x, **terms)

    def official_loss(
        self, z_BZ: Tensor, labels_B: Tensor, member: nn.Module, weights_B: Tensor
    ) -> Tensor:
        """Return the released code's loss of the generator for one client; a scalar."""
        how = self.config.generator
        x = self.painter(z_BZ, labels_B)
        logits_BC = member(x)
        gap = official_discrepancy(self.student(x), logits_BC, weights_B)
        of_class = official_class_loss(logits_BC, labels_B, weights_B)
        apart = diversity_loss(z_BZ, x, "l1") / len(self.teachers.members)
        terms = {
            "class": (how.class_weight, of_class),
            "diversity": (how.diversity_weight, apart),
            "discrepancy": (-how.discrepancy_weight, gap),
        }
        return self._terms.sum(x, **terms)

    def learn(self, z_BZ: Tensor, labels_B: Tensor, sgd: Stepper) -> None:
        """Train the global model to answer the images of the search as the clients do."""
        as_searched = self.config.variant == "paper"
        x = lesson_images(self.painter, z_BZ, labels_B, as_searched=as_searched)
        with torch.no_grad():
            logits_KBC = self.teachers.each(x)
        weights_KB = self._tau_KC[:, labels_B]
        for _ in range(self.config.distil.global_steps):
            loss = self.student_loss(self.student(x), logits_KBC, weights_KB)
            self._lessons.append(sgd.step(loss))
            self._server.count_examples(len(x))

    def student_loss(
        self, global_BC: Tensor, logits_KBC: Tensor, weights_KB: Tensor
    ) -> Tensor:
        """Return the loss of the global model; a scalar."""
        if self.config.variant == "official":
            return official_student_loss(global_BC, logits_KBC, weights_KB)
        lightfed = self.config.variant == "lightfed"
        loss = discrepancy(
            global_BC,
            logits_KBC,
            weights_KB,
            direction="local_global" if lightfed else self.config.distil.direction,
            temperature=self.config.distil.temperature,
        )
        return loss / global_BC.shape[1] if lightfed else loss
