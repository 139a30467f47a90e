"""FedGen, Algorithm 1: the generator, which the server trains and clients learn from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from fedkd.algorithms.datafree import require_finite
from fedkd.algorithms.fedftg.losses import class_loss, official_class_loss
from fedkd.algorithms.fedgen.config import FedGenConfig, GeneratorConfig
from fedkd.ops.averaging import class_weights
from fedkd.ops.distillation import kl
from fedkd.ops.diversity import diversity_loss
from fedkd.ops.ensembles import weighted_logits
from fedkd.ops.optimisers import Adam
from fedkd.ops.sampling import label_batches
from fedkd.ops.schedules import Schedule
from fedkd.ops.training import LossFunction
from fedkd.strategy import Party, Server

Head = Callable[[Tensor], Tensor]
"""Maps features ``[B, D]`` to logits ``[B, classes]``."""


def build_generator(
    party: Party, config: GeneratorConfig, size: int, *, nonnegative: bool
) -> nn.Module:
    """Return a new generator of features of length ``size``.

    Args:
        party: Builds it.
        config: Its sizes.
        size: D, the length of a feature vector.
        nonnegative: Whether no feature is to be negative.
    """
    return party.build(
        "feature-generator",
        feature_size=size,
        latent_size=config.latent_size,
        hidden=config.hidden,
        embedding=config.embedding,
        nonnegative=nonnegative,
    )


def draw_noise(labels_B: Tensor, config: GeneratorConfig) -> Tensor:
    """Return noise ``[B, Z]`` for labels, from U(0, 1) or N(0, 1), on their device."""
    draw = torch.rand if config.noise == "uniform" else torch.randn
    noise_BZ = draw(len(labels_B), config.latent_size)
    return noise_BZ.to(labels_B.device, non_blocking=True)


def generator_loss(
    heads_KBC: Tensor,
    global_BC: Tensor | None,
    labels_B: Tensor,
    weights_KB: Tensor,
    config: GeneratorConfig,
) -> Tensor:
    """Return alpha sum_k mean_b tau_ky CE(head_k, y) - beta KL(ensemble || global).

    With ``released_terms`` the first is sum_k (mean_b tau_ky) (mean_b CE(head_k, y)), and
    the second is divided by the number of classes.

    Args:
        heads_KBC: Logits of the clients' heads on generated features.
        global_BC: Those of the global head; None with beta = 0.
        labels_B: y, the labels that the generator was told.
        weights_KB: tau_ky = n_ky / sum_j n_jy; the ensemble's logits are sum_k tau_ky z_k.
        config: alpha and beta.
    """
    if config.released_terms:
        pairs = zip(heads_KBC, weights_KB, strict=True)
        told = [official_class_loss(head, labels_B, tau) for head, tau in pairs]
        loss = config.teacher_weight * torch.stack(told).sum()
    else:
        loss = config.teacher_weight * class_loss(heads_KBC, labels_B, weights_KB)
    if global_BC is not None and config.student_weight:
        ensemble_BC = weighted_logits(heads_KBC, weights_KB, per="image")
        parts = global_BC.shape[1] if config.released_terms else 1
        loss = loss - config.student_weight * kl(ensemble_BC, global_BC) / parts
    return loss


def batch_loss(
    generator: nn.Module,
    heads: Sequence[Head],
    whole: Head,
    labels_B: Tensor,
    weights_KB: Tensor,
    config: GeneratorConfig,
) -> Tensor:
    """Return the generator's loss on a batch of new noise, with diversity; a scalar.

    Args:
        generator: Maps noise and labels to features.
        heads: The clients' heads, frozen.
        whole: The global head, frozen; not asked with beta = 0.
        labels_B: y, the labels that the generator is told.
        weights_KB: tau_ky of each client and label.
        config: alpha, beta and eta.
    """
    noise_BZ = draw_noise(labels_B, config)
    features_BD = generator(noise_BZ, labels_B)
    logits_KBC = torch.stack([head(features_BD) for head in heads])
    global_BC = whole(features_BD) if config.student_weight else None
    loss = generator_loss(logits_KBC, global_BC, labels_B, weights_KB, config)
    if config.diversity_weight:
        apart = diversity_loss(noise_BZ, features_BD, "l1")
        loss = loss + config.diversity_weight * apart
    return loss


def train_generator(  # noqa: PLR0913 - what one round's training needs, by name
    generator: nn.Module,
    heads: Sequence[Head],
    whole: Head,
    counts_KC: Tensor,
    *,
    config: GeneratorConfig,
    round: int,
    moments: Mapping[str, Tensor],
    server: Server,
) -> dict[str, Tensor]:
    """Train the generator in place; return Adam's moments.

    Args:
        generator: Maps noise and labels to features.
        heads: The clients' heads, frozen.
        whole: The global head, frozen.
        counts_KC: Each client's images of each class.
        config: Weights and amounts.
        round: The round from 0, for the decay of the learning rate.
        moments: Adam's moments of the round before; empty at first.
        server: Counts the examples and logs the loss.
    """
    adam = Adam(
        lr=config.lr,
        weight_decay=config.weight_decay,
        schedule=Schedule(decay=config.lr_decay),
    ).start(generator.parameters(), round)
    adam.restore(moments)
    generator.train()
    tau_KC = class_weights(counts_KC).float().to(server.device)
    drawn = label_batches(
        counts_KC.sum(0), config.steps, config.batch_size, config.labels
    )
    losses = []
    for labels_B in drawn.to(server.device):
        tau_KB = tau_KC[:, labels_B]
        loss = batch_loss(generator, heads, whole, labels_B, tau_KB, config)
        losses.append(adam.step(loss))
        server.count_examples(len(labels_B))
    require_finite({"generator.lr": generator})
    server.log("generator_loss", torch.stack(losses).mean())
    return adam.moments()


def regularised(
    head: Head,
    generator: nn.Module,
    classes: Tensor,
    config: FedGenConfig,
    *,
    decay: float,
    batch_size: int,
) -> LossFunction:
    """Return the clients' loss: CE + a (B_g/B) CE(head, generated) + b KL.

    Args:
        head: The head of the client's model.
        generator: Frozen, in eval mode.
        classes: The labels that the generator knows, int64, on the device.
        config: a, b and B_g.
        decay: What both weights are multiplied by in this round.
        batch_size: B, the local batch size.
    """
    how = config.generator
    of_labels = config.label_weight * decay * config.batch_size / batch_size
    of_agreement = config.agreement_weight * decay

    def generated(labels_B: Tensor) -> Tensor:
        noise_BZ = draw_noise(labels_B, how)
        with torch.no_grad():
            features_BD: Tensor = generator(noise_BZ, labels_B)
        return head(features_BD)

    def loss(logits_BC: Tensor, labels_B: Tensor) -> Tensor:
        total = nn.functional.cross_entropy(logits_BC, labels_B)
        if of_agreement:
            target_BC = generated(labels_B).detach()
            total = total + of_agreement * kl(target_BC, logits_BC)
        if of_labels:
            chosen = torch.randint(len(classes), (config.batch_size,))
            made_B = classes[chosen.to(classes.device, non_blocking=True)]
            told = nn.functional.cross_entropy(generated(made_B), made_B)
            total = total + of_labels * told
        return total

    return loss
