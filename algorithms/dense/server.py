"""DENSE, Algorithm 1: data generation and model distillation, in turns, at the server."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Protocol, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedkd.algorithms.datafree import require_finite
from fedkd.algorithms.dense.config import DenseConfig, SynthesisConfig
from fedkd.ops.distillation import kl
from fedkd.ops.ensembles import LogitEnsemble, mean_logits
from fedkd.ops.generation import BatchNormMatcher, all_finite
from fedkd.ops.optimisers import Sgd, Stepper
from fedkd.ops.schedules import Schedule
from fedkd.ops.synthesis import ImagePool, Lens, adversarial_divergence, synthesise
from fedkd.ops.terms import WeightedTerms
from fedkd.strategy import Server


class Rules(Protocol):
    """What a method decides inside the loop; DENSE's choices are :class:`Plain`."""

    moves_images: bool
    """Whether the ensemble teaches on other images than those of the pool."""
    moves_weights: bool
    """Whether the ensemble's weights change."""
    weights_K: Tensor | None
    """The ensemble's weights, in the order of its members; None while they are equal."""

    def fuse(self, logits_KBC: Tensor) -> Tensor:
        """Return the ensemble's logits ``[B, C]``, the mean by the weights of now."""

    def label_loss(self, logits_BC: Tensor, labels_B: Tensor) -> Tensor:
        """Return the generator's loss of the ensemble's logits; a scalar."""

    def moved(self, x: Tensor, ensemble: LogitEnsemble, lens: Lens) -> Tensor:
        """Return what is taught on in place of normalised images ``[B, C, H, W]``."""

    def reweigh(self, logits_KBC: Tensor, labels_B: Tensor, epoch: int) -> None:
        """Change the ensemble's weights by its members' logits of a batch of the pool."""


@final
class Plain:
    """DENSE's choices: cross-entropy, images as they are, all clients alike."""

    moves_images = False
    moves_weights = False
    weights_K: Tensor | None = None

    def fuse(self, logits_KBC: Tensor) -> Tensor:
        """Return the plain mean."""
        return mean_logits(logits_KBC)

    def label_loss(self, logits_BC: Tensor, labels_B: Tensor) -> Tensor:
        """Return L_CE, the cross-entropy with the wanted labels; a scalar."""
        return F.cross_entropy(logits_BC, labels_B)

    def moved(self, x: Tensor, ensemble: LogitEnsemble, lens: Lens) -> Tensor:
        """Return the images as they are."""
        del ensemble, lens
        return x

    def reweigh(self, logits_KBC: Tensor, labels_B: Tensor, epoch: int) -> None:
        """Leave the weights equal."""


class GeneratorLoss:
    """Computes L_G = w_CE L_CE + w_BN L_BN + w_adv L_adv of images, for one ensemble."""

    def __init__(
        self,
        student: nn.Module,
        ensemble: LogitEnsemble,
        config: SynthesisConfig,
        rules: Rules,
        lens: Lens,
    ) -> None:
        """Find the BatchNorm layers of all clients; warn if L_BN has none."""
        self._student = student
        self._ensemble = ensemble
        self._config = config
        self._rules = rules
        self._lens = lens
        self._matchers = [BatchNormMatcher(member) for member in ensemble.members]
        known = any(matcher.layers for matcher in self._matchers)
        self._invert = config.inversion_weight > 0 and known
        # No image of a batch may be one that the student and the clients disagree on.
        self.terms = WeightedTerms("adversarial")
        """What the terms of all calls were."""
        if config.inversion_weight and not known:
            warnings.warn(
                "no client's model has batch normalisation, so L_BN is 0; set "
                "synthesis.inversion_weight to 0 to say that this is meant.",
                RuntimeWarning,
                stacklevel=2,
            )

    def __call__(self, images: Tensor, labels_B: Tensor) -> Tensor:
        """Return L_G of images ``[B, C, H, W]`` in [0, 1] and the wanted labels."""
        config = self._config
        x = self._lens(images)
        with ExitStack() as stack:
            for matcher in self._matchers if self._invert else ():
                stack.enter_context(matcher)
            teacher_BC = self._ensemble(x)
        terms = {}
        if config.label_weight:
            label = self._rules.label_loss(teacher_BC, labels_B)
            terms["label"] = (config.label_weight, label)
        if self._invert:
            terms["inversion"] = (config.inversion_weight, self._inversion())
        if config.adversarial_weight:
            divergence = adversarial_divergence(
                teacher_BC,
                self._student(x),
                temperature=config.adversarial_temperature,
                masked=config.adversarial_mask,
            )
            terms["adversarial"] = (config.adversarial_weight, divergence)
        # Without any term, images have no gradient and the generator stays as it is.
        return self.terms.sum(images, **terms) if terms else 0 * images.sum()

    def _inversion(self) -> Tensor:
        """Return L_BN of the pass that was watched."""
        config = self._config
        by_layer = config.inversion_over_layers == "mean"
        gaps = [
            matcher.loss() / (len(matcher.layers) if by_layer else 1)
            for matcher in self._matchers
            if matcher.layers
        ]
        by_client = config.inversion_over_clients == "mean"
        return torch.stack(gaps).sum() / (len(self._matchers) if by_client else 1)


class Distillation:
    """Synthesis and distillation in turns, on one student (DENSE, Algorithm 1)."""

    def __init__(
        self,
        student: nn.Module,
        members: Sequence[nn.Module],
        config: DenseConfig,
        rules: Rules,
        server: Server,
    ) -> None:
        """Put a stage together.

        Args:
            student: Trained in place.
            members: The clients' models.
            config: Amounts and weights.
            rules: What differs between methods.
            server: Builds the generator, counts examples and logs.
        """
        self.student = student
        self.ensemble = LogitEnsemble(members, rules.fuse)
        self.config = config
        self._rules = rules
        self._server = server
        how = config.synthesis
        self._lens = Lens(server.images, server.device, augment=how.augment)
        self._loss = GeneratorLoss(student, self.ensemble, how, rules, self._lens)
        self.pool = ImagePool(how.pool_images, exact=how.pool_exact)
        # Members always answer alike to an image that always looks alike.
        self._answers_last = not self._lens.is_random

    def run(self) -> None:
        """Train the student for all epochs, at least one."""
        how, config = self.config.synthesis, self.config.distil
        sgd = Sgd(
            lr=config.lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            schedule=Schedule(cosine=how.epochs if config.cosine else None),
        ).start(self.student.parameters())
        generator = self._new_generator()
        diverged = 0
        for epoch in range(how.epochs):
            # One that is not finite would make black images for the rest of the run.
            lost = not all_finite(generator)
            diverged += lost
            if epoch and (how.reinitialise or lost):
                generator = self._new_generator()
            images, labels_B = self.make_images(generator, epoch)
            if epoch and self._rules.moves_weights:
                self._reweigh(epoch)
            self._keep(images, labels_B)
            self.teach(sgd)
            sgd.advance()
        for name, value in self._loss.terms.report().items():
            self._server.log(name, value)
        require_finite({"distil.lr": self.student})
        if diverged:
            self._server.log("diverged_generators", diverged)

    def make_images(self, generator: nn.Module, epoch: int) -> tuple[Tensor, Tensor]:
        """Return a new batch ``[B, C, H, W]`` in [0, 1], and its labels in order."""
        how, server = self.config.synthesis, self._server
        z_BZ = torch.randn(how.batch_size, how.latent_size)
        z_BZ = z_BZ.to(server.device, non_blocking=True)
        drawn_B = torch.randint(server.num_classes, (how.batch_size,))
        labels_B = drawn_B.sort().values.to(server.device, non_blocking=True)
        self.student.requires_grad_(False)
        self.student.train(epoch == 0 and how.first_in_train_mode)
        images = synthesise(
            generator,
            z_BZ,
            lambda images: self._loss(images, labels_B),
            steps=how.generator_steps,
            lr=how.lr,
            clip_norm=how.clip_norm,
        )
        server.count_examples(how.generator_steps * len(images))
        return images, labels_B

    def teach(self, sgd: Stepper) -> None:
        """Distil the ensemble into the student on batches of the pool.

        L = T^2 KL(softmax(t/T) || softmax(s/T)), mean over the batch.
        """
        config = self.config.distil
        self.student.train().requires_grad_(True)
        losses = []
        for images, _, *known in self._batches():
            x = self._lens(images)
            if self._rules.moves_images:
                x = self._rules.moved(x, self.ensemble, self._lens)
                known.clear()
            teacher_BC = self.ensemble.fuse(self._members(x, known))
            loss = kl(teacher_BC, self.student(x), config.temperature)
            losses.append(sgd.step(loss, config.clip_norm))
            self._server.count_examples(len(x))
        self._server.log("distil_loss", torch.stack(losses).mean())

    def newest(self, number: int) -> Tensor:
        """Return some of the last batch of images, normalised, on the CPU."""
        newest = self.pool.newest(self.config.synthesis.batch_size)
        chosen = torch.linspace(0, len(newest) - 1, min(number, len(newest))).long()
        info, device = self._server.images, newest.device
        return Lens(info, device, augment=False)(newest[chosen.to(device)]).cpu()

    def _keep(self, images: Tensor, labels_B: Tensor) -> None:
        """Add images to the pool, with the members' logits if they stay true."""
        notes = [labels_B]
        if self._answers_last:
            x = self._lens(self.pool.as_kept(images))
            notes.append(self._members(x, []).transpose(0, 1))
        self.pool.add(images, *notes)

    def _reweigh(self, epoch: int) -> None:
        for images, labels_B, *known in self._batches():
            logits_KBC = self._members(self._lens(images), known)
            self._rules.reweigh(logits_KBC, labels_B, epoch)
            self._server.count_examples(len(images))

    def _batches(self) -> Iterator[tuple[Tensor, ...]]:
        config = self.config.distil
        return self.pool.batches(
            config.batch_size, steps=config.steps, passes=config.passes
        )

    @torch.no_grad()
    def _members(self, x: Tensor, known: Sequence[Tensor]) -> Tensor:
        """Return the members' logits ``[K, B, C]``: those kept, or asked for now."""
        return known[0].transpose(0, 1) if known else self.ensemble.each(x)

    def _new_generator(self) -> nn.Module:
        how = self.config.synthesis
        return self._server.build(
            "dense-generator", latent_size=how.latent_size, width=how.width
        )
