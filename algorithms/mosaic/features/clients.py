"""What a client does in the round of features: its head, and its generator."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedkd.algorithms.mosaic.features.config import GeneratorConfig
from fedkd.algorithms.mosaic.generators import BETAS
from fedkd.errors import DivergedError
from fedkd.ops.ema import WeightAverage
from fedkd.ops.generation import adversarial_loss, discriminator_loss
from fedkd.ops.heads import feature_size, nonnegative_features
from fedkd.ops.optimisers import Adam
from fedkd.ops.terms import WeightedTerms
from fedkd.strategy import Client, Party

_FORWARD = 256
"""Images in a forward pass."""


def features_of_all(client: Client) -> tuple[Tensor, Tensor]:
    """Return features ``[N, D]`` and labels ``[N]`` of all inputs, without augmentation.

    Each is counted once: it goes through the body.
    """
    model: Any = client.model.eval()
    features, labels = [], []
    with torch.no_grad():
        for x, y in client.data.inputs(_FORWARD):
            features.append(model.features(x))
            labels.append(y)
    client.count_examples(len(client.data))
    return torch.cat(features), torch.cat(labels)


def build_generator(party: Party, config: GeneratorConfig) -> nn.Module:
    """Return a new generator of the features of a side's model."""
    return party.build(
        "feature-generator",
        feature_size=feature_size(party.model),
        latent_size=config.latent_size,
        hidden=config.hidden,
        nonnegative=nonnegative_features(party.model),
    )


class Discriminator(nn.Module):
    """Features and labels to the logit of being real: two hidden layers, LeakyReLU 0.2."""

    def __init__(self, size: int, num_classes: int, hidden: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.layers = nn.Sequential(
            nn.Linear(size + num_classes, hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden, hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden, 1),
        )

    def forward(self, features_BD: Tensor, labels_B: Tensor) -> Tensor:
        """Map features ``[B, D]`` and labels ``[B]`` to logits ``[B]``."""
        told_BC = F.one_hot(labels_B, self.num_classes).to(features_BD)
        logits_B: Tensor = self.layers(torch.cat([features_BD, told_BC], 1)).squeeze(1)
        return logits_B


class ClassMoments:
    """Means and mean squares of a client's features, by class."""

    def __init__(self, features: Tensor, labels: Tensor, num_classes: int) -> None:
        """Take features ``[N, D]`` and labels ``[N]``."""
        self._classes = num_classes
        self._means_CD, self._squares_CD = self._of(features, labels)
        variance = features.var(0, unbiased=False).mean()
        # Features that do not differ have no scale of their own.
        self._variance = torch.where(variance > 0, variance, torch.ones_like(variance))

    def loss(self, features_BD: Tensor, labels_B: Tensor) -> Tensor:
        """Return L_mom = sum_c b_c/B mean_d ((m - M)^2 + |q - Q|) / v; a scalar.

        Over the classes c with b_c of the B features: m and q are the mean and the mean
        square of value d, M and Q those of the client's features, v the mean variance of
        all values of the client's features.

        Args:
            features_BD: Generated features.
            labels_B: The labels that they were made for.
        """
        means_CD, squares_CD = self._of(features_BD, labels_B)
        of_mean_C = (means_CD - self._means_CD).square().mean(1)
        of_square_C = (squares_CD - self._squares_CD).abs().mean(1)
        number_C = torch.bincount(labels_B, minlength=self._classes)
        share_C = number_C / len(labels_B)
        return (share_C * (of_mean_C + of_square_C)).sum() / self._variance

    def _of(self, features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return means and mean squares ``[C, D]``; zeros for a class without features."""
        told_BC = F.one_hot(labels, self._classes).to(features)
        number_C1 = told_BC.sum(0).clamp(min=1).unsqueeze(1)
        means_CD = told_BC.T @ features / number_C1
        return means_CD, told_BC.T @ features.square() / number_C1


def train_generator(
    client: Client, features: Tensor, labels: Tensor, config: GeneratorConfig
) -> nn.Module:
    """Train a generator on a client's features; return its average in eval mode.

    L_G = w_adv BCE(D(G(z, y), y), 1) + w_mom L_mom and
    L_D = BCE(D(f, y), 1) + BCE(D(G(z, y), y), 0), y the labels of the real features f.

    Args:
        client: Counts three examples for each feature of a step, as Mosaic does for
            images: the discriminator sees a real and a generated one, the generator one.
        features: Of all its images, ``[N, D]``.
        labels: Theirs, ``[N]``.
        config: Losses and amounts.

    Raises:
        DivergedError: If a generated feature is not finite.
    """
    classes = client.num_classes
    generator = build_generator(client, config).train()
    judge = Discriminator(features.shape[1], classes, config.hidden).to(client.device)
    known = ClassMoments(features, labels, classes)
    adam = Adam(lr=config.lr, betas=BETAS)
    adam_g, adam_d = adam.start(generator.parameters()), adam.start(judge.parameters())
    average = WeightAverage(generator, config.ema_decay, corrected=True)
    terms = WeightedTerms()
    for _ in range(config.steps):
        chosen = torch.randint(len(labels), (config.batch_size,)).to(client.device)
        real, y = features[chosen], labels[chosen]
        fake = generator(_noise(y, config), y)
        adam_d.step(discriminator_loss(judge(real, y), judge(fake.detach(), y)))
        weighted = {
            "adversarial": (
                config.adversarial_weight,
                adversarial_loss(judge(fake, y)),
            ),
            "moment": (config.moment_weight, known.loss(fake, y)),
        }
        adam_g.step(terms.sum(fake, **weighted))
        average.update(generator)
        client.count_examples(3 * len(y))
    for name, value in terms.report().items():
        client.log(f"generator_{name}", value)
    if not torch.isfinite(fake).all():
        raise DivergedError(
            "the generator gives features that are not finite; lower generator.lr."
        )
    average.copy_to(generator)
    return generator.eval()


@torch.no_grad()
def draw(generator: nn.Module, labels_B: Tensor, config: GeneratorConfig) -> Tensor:
    """Return a generated feature for each label, ``[B, D]``."""
    features_BD: Tensor = generator(_noise(labels_B, config), labels_B)
    return features_BD


def _noise(labels_B: Tensor, config: GeneratorConfig) -> Tensor:
    """Return normal noise ``[B, Z]`` on the labels' device, drawn on the CPU."""
    noise_BZ = torch.randn(len(labels_B), config.latent_size)
    return noise_BZ.to(labels_B.device, non_blocking=True)
