"""Mosaic, stage 2, generator optimisation: each client's generator, and all at the server.

A generator is label-agnostic: it makes images like the client's own. Clients train theirs
alone and send it once; the server draws from all of them.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from fedkd.algorithms.mosaic.config import GeneratorConfig
from fedkd.data.images import ImageInfo
from fedkd.errors import DivergedError
from fedkd.ops.generation import (
    BatchNormMatcher,
    adversarial_loss,
    class_evidence_logit,
    discriminator_loss,
    diversity_from_mix,
    diversity_from_uniform,
    prediction_entropy,
    to_classifier_range,
)
from fedkd.ops.optimisers import Adam
from fedkd.ops.terms import WeightedTerms
from fedkd.ops.training import train
from fedkd.payload import Weights
from fedkd.strategy import Client, ModelSpec, Server

BETAS = (0.5, 0.999)
PROBE_IMAGES = 512


def build_generator(client: Client, config: GeneratorConfig) -> nn.Module:
    """Return a new generator, noise ``[B, Z]`` to images in [-1, 1]."""
    return client.build(
        "dcgan-generator", latent_size=config.latent_size, width=config.width
    )


def networks(config: GeneratorConfig) -> tuple[ModelSpec, ...]:
    """Return the registered models that are built for the images of a run."""
    sizes = {"latent_size": config.latent_size, "width": config.width}
    generator = ModelSpec("dcgan-generator", sizes)
    if config.discriminator != "separate":
        return (generator,)
    return generator, ModelSpec("dcgan-discriminator", {"width": config.width})


def train_generator(client: Client, config: GeneratorConfig) -> nn.Module | None:
    """Train a generator on the client's images (paper: "generator optimisation").

    L_G = adversarial + entropy + diversity + inversion, each with its weight;
    L_D = BCE(D(x), 1) + BCE(D(G(z)), 0).

    Args:
        client: Its model holds the local model, which is copied and not changed.
        config: Losses and amounts.

    Returns:
        The trained generator in eval mode, or None if the released code's dropping of
        class 0 leaves the client without images.
    """
    if config.drop_class_zero and not client.data.labels.any():
        return None
    classifier = scoring_classifier(client, config)
    generator = build_generator(client, config).train()
    judge = _discriminator(client, config).train()
    counts_C = client.data.label_counts()
    losses = GeneratorLosses(classifier, judge, counts_C, config)
    adam = Adam(lr=config.lr, betas=BETAS)
    adam_g, adam_d = adam.start(generator.parameters()), adam.start(judge.parameters())
    for real in real_batches(client, config):
        z_BZ = torch.randn(len(real), config.latent_size)
        z_BZ = z_BZ.to(client.device, non_blocking=True)
        fake = in_range(generator(z_BZ), client.images, config.output_range)
        adam_d.step(losses.of_discriminator(real, fake.detach()))
        judge.requires_grad_(False)  # its gradients are of no use to the generator
        adam_g.step(losses.of_generator(fake))
        judge.requires_grad_(True)
        # The discriminator steps on real and fake images, the generator on fakes.
        client.count_examples(3 * len(real))
    generator.eval()
    for name, value in losses.terms.report().items():
        client.log(f"generator_{name}", value)
    _log_quality(client, generator, classifier, config)
    return generator


class GeneratorLosses:
    """The two sides' losses for one client's classifier, discriminator and label mix."""

    def __init__(
        self,
        classifier: nn.Module,
        discriminator: nn.Module,
        counts_C: Tensor,
        config: GeneratorConfig,
    ) -> None:
        """Take the networks; warn if the inversion loss is wanted and has no layer."""
        self._classifier = classifier
        self._discriminator = discriminator
        self._config = config
        device = next(discriminator.parameters()).device
        self._mix_C = (counts_C / counts_C.sum()).to(device)
        small = int(counts_C.sum()) < config.inversion_below
        wanted = config.inversion_weight > 0 and small
        self._invert = wanted and bool(BatchNormMatcher(classifier).layers)
        if wanted and not self._invert:
            warnings.warn(
                "a client's model has no batch normalisation, so its generator's "
                "inversion loss is 0; if no client's has any, set "
                "generator.inversion_weight to 0 to say that this is meant.",
                RuntimeWarning,
                stacklevel=2,
            )
        self.terms = WeightedTerms()
        """What the terms of :meth:`of_generator` were so far."""

    def of_discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return L_D for images ``[B, C, H, W]``; a scalar."""
        return discriminator_loss(self._discriminator(real), self._discriminator(fake))

    def of_generator(self, fake: Tensor) -> Tensor:
        """Return L_G for generated images ``[B, C, H, W]``; a scalar."""
        config = self._config
        adversarial = adversarial_loss(self._discriminator(fake))
        terms = {"adversarial": (config.adversarial_weight, adversarial)}
        if config.entropy_weight or config.diversity_weight or self._invert:
            terms |= self._of_classifier(fake)
        return self.terms.sum(fake, **terms)

    def _of_classifier(self, fake: Tensor) -> dict[str, tuple[float, Tensor]]:
        """Return the weighted terms of what the classifier sees in images."""
        config = self._config
        with BatchNormMatcher(self._classifier, active=self._invert) as matcher:
            logits_BC = self._classifier(fake)
        terms = {}
        if config.entropy_weight:
            terms["entropy"] = (config.entropy_weight, prediction_entropy(logits_BC))
        if config.diversity_weight:
            terms["diversity"] = (config.diversity_weight, self._diversity(logits_BC))
        if self._invert:
            terms["inversion"] = (config.inversion_weight, matcher.loss())
        return terms

    def _diversity(self, logits_BC: Tensor) -> Tensor:
        if self._config.diversity == "uniform":
            return diversity_from_uniform(logits_BC)
        return diversity_from_mix(logits_BC, self._mix_C)


class LocalDiscriminator(nn.Module):
    """The local model as discriminator: logit of D(x) = Z/(Z+1), Z = sum_c exp(z_c)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``[B, C, H, W]`` to logits ``[B]``."""
        return class_evidence_logit(self.model(x))


def scoring_classifier(client: Client, config: GeneratorConfig) -> nn.Module:
    """Return the network that scores generated images; it is never trained further."""
    classifier = copy.deepcopy(client.model)
    if config.classifier == "fresh":
        classifier = _fresh_classifier(client, config.classifier_epochs)
    classifier.requires_grad_(False)
    return classifier.train(config.classifier == "fresh")


def _fresh_classifier(client: Client, epochs: int) -> nn.Module:
    """Train a new network on the client's data (released code, ``trainer_init.py``)."""
    local = {n: v.clone() for n, v in client.model.state_dict().items()}
    model = client.load(client.initial)
    draw_weights_anew(model)
    amount = {"local_steps": None, "local_epochs": epochs}
    # Not by client.train: the loss that is logged is the local model's.
    report = train(model, client.data, client.training.model_copy(update=amount))
    client.count_examples(report.examples)
    fresh = copy.deepcopy(model)
    client.load(local)
    return fresh


def draw_weights_anew(model: nn.Module) -> None:
    """Give the layers of a model new initial weights, as their constructors draw them.

    What belongs to no layer of torch keeps its values.
    """
    for layer in model.modules():
        if callable(reset := getattr(layer, "reset_parameters", None)):
            reset()


def _discriminator(client: Client, config: GeneratorConfig) -> nn.Module:
    if config.discriminator == "separate":
        return client.build("dcgan-discriminator", width=config.width)
    return LocalDiscriminator(copy.deepcopy(client.model))


def real_batches(client: Client, config: GeneratorConfig) -> Iterator[Tensor]:
    """Return the real images ``[B, C, H, W]`` of each step; see ``drop_class_zero``."""
    batches = client.data.batches(
        config.batch_size,
        steps=config.steps,
        epochs=config.epochs,
        drop_last=client.training.drop_last,
        augment=client.training.augment,
    )
    if not config.drop_class_zero:
        return (x for x, _ in batches)
    return (kept for x, y in batches if len(kept := without_class_zero(x, y)))


def without_class_zero(x: Tensor, y: Tensor) -> Tensor:
    """Return the images ``[B, C, H, W]`` whose label is not 0 (the released code's defect).

    One that is left alone is given twice, as batch normalisation needs two.
    """
    kept = x[y != 0]
    return kept.repeat(2, 1, 1, 1) if len(kept) == 1 else kept


def in_range(images: Tensor, info: ImageInfo, output_range: str) -> Tensor:
    """Map images in [-1, 1] to the classifiers' range, unless they stay as they are."""
    if output_range == "tanh":
        return images
    return to_classifier_range(images, info.mean, info.std)


@torch.no_grad()
def draw(
    generator: nn.Module, number: int, config: GeneratorConfig, info: ImageInfo
) -> Tensor:
    """Return ``number`` generated images ``[N, C, H, W]`` in the classifiers' range."""
    device = next(generator.parameters()).device
    z_BZ = torch.randn(number, config.latent_size).to(device, non_blocking=True)
    return in_range(generator(z_BZ), info, config.output_range)


@torch.no_grad()
def _log_quality(
    client: Client, generator: nn.Module, classifier: nn.Module, config: GeneratorConfig
) -> None:
    """Log what the classifier sees in generated images, against the client's mix.

    ``generator_own_share``: images classified as a class the client holds.
    ``generator_mix_distance``: total variation between predicted and real label mix.

    Raises:
        DivergedError: If a generated image is not finite.
    """
    images = draw(generator, PROBE_IMAGES, config, client.images)
    if not torch.isfinite(images).all():
        raise DivergedError(
            "the generator gives images that are not finite; lower generator.lr."
        )
    classifier.eval()
    predicted = classifier(images).argmax(1).cpu()
    counts_C = client.data.label_counts()
    predicted_C = torch.bincount(predicted, minlength=len(counts_C)) / len(predicted)
    client.log("generator_own_share", predicted_C[counts_C > 0].sum())
    distance = (predicted_C - counts_C / counts_C.sum()).abs().sum() / 2
    client.log("generator_mix_distance", distance)


def load_generator(
    weights: Weights, server: Server, config: GeneratorConfig
) -> nn.Module:
    """Return a client's generator in eval mode, frozen."""
    generator = server.build(
        "dcgan-generator", latent_size=config.latent_size, width=config.width
    )
    generator.load_state_dict(dict(weights))
    return generator.eval().requires_grad_(False)


class Source(Protocol):
    """The clients' generators asked together."""

    def draw(self, numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Draw ``numbers[i]`` inputs of generator ``i``; return also their origin."""


class ImageSource:
    """The clients' generators asked together; ``origin`` says whose an image is."""

    def __init__(
        self,
        generators: Mapping[int, nn.Module],
        config: GeneratorConfig,
        server: Server,
    ) -> None:
        self.clients = sorted(generators)
        """Client of generator ``i``."""
        self._generators = [generators[k] for k in self.clients]
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


def split_batch(sizes: Sequence[int], total: int, sampling: str) -> list[int]:
    """Return how many of ``total`` images each generator gives in a step.

    ``equal`` gives each the same (what is left over is drawn by lot); ``proportional``
    draws the origin of each image with probability n_k / n; ``each`` gives ``total`` of
    each generator (released code).
    """
    number = len(sizes)
    if sampling == "each":
        return [total] * number
    if sampling == "proportional":
        drawn = torch.multinomial(
            torch.tensor(sizes, dtype=torch.double), total, replacement=True
        )
        return torch.bincount(drawn, minlength=number).tolist()
    lucky = torch.randperm(number)[: total % number]
    shares = torch.full((number,), total // number)
    shares[lucky] += 1
    return [int(n) for n in shares]
