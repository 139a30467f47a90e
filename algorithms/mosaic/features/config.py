"""The hyper-parameters of Mosaic in feature space, all of them ours.

Values are from trials on Fashion-MNIST (10 clients, Dirichlet 0.05, 30 rounds), on seeds
that no table of the README has.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from fedkd.algorithms.mosaic.config import LessonConfig, MetaConfig, check_warmup
from fedkd.config import Config
from fedkd.ops.heads import HeadTraining


class GeneratorConfig(Config):
    """A client's generator of features: what it is and how it is trained."""

    steps: int = Field(600, ge=1)
    """Adam steps: as many, and of as many examples, as Mosaic's generators of images
    have. Half as many steps of twice as many features are 0.4 points worse."""
    batch_size: int = Field(32, ge=2)
    """Features of images, and as many generated ones, in a step; drawn with replacement,
    so that a client of few images has full batches, too."""
    latent_size: int = Field(32, ge=1)
    """Z, the length of the noise vector."""
    hidden: int = Field(128, ge=1)
    """Units of the hidden layer; the discriminator has two such layers."""
    lr: float = Field(1e-3, gt=0)
    """Adam's learning rate, betas (0.5, 0.999)."""
    ema_decay: float = Field(0.99, ge=0, lt=1)
    """Decay of the generator's averaged copy, which is what is sent; 0 sends the last
    one, which was 0.3 points worse; 0.98, 0.99 and 0.995 were equal."""
    adversarial_weight: float = Field(1.0, ge=0)
    """Weight of L_adv = BCE(D(G(z, y), y), 1)."""
    moment_weight: float = Field(1.0, ge=0)
    """Weight of L_mom, how far mean and mean square of generated features are from those
    of the client's, class by class. Without it the generator needs many more steps."""


class LocalHeadConfig(HeadTraining):
    """How a client trains its copy of the head."""

    steps: int = Field(10, ge=0)
    """Steps of SGD; few, as a head that a client trains for long forgets what the client
    has no images of."""
    lr: float = Field(0.05, ge=0)
    """Learning rate of these steps."""
    momentum: float = Field(0.0, ge=0, lt=1)
    """Their momentum."""


class HeadTeacherConfig(MetaConfig):
    """What teaches the head."""

    kind: Literal["meta", "experts", "global"] = "meta"
    """The meta model over the experts' heads; their plain mean; the global head, which
    then learns what the prior of the label says."""
    label_epsilon: float = Field(1e-3, gt=0)
    """eps: log((1 + eps) / (1 + C eps)) is added to the logit of the class that the
    generator was told and log(eps / (1 + C eps)) to all others. A small one trusts the
    label alone, a large one the experts alone; in trials the label was nearly all that
    helped: 79.9 at 0.001 and 79.6 at 0.01."""
    samples_per_client: int = Field(200, ge=1)
    """Virtual features of each client that the meta model learns from."""
    steps: int = Field(300, ge=0)
    """Adam steps of the meta model."""


class HeadLessonConfig(LessonConfig):
    """Distillation of the teacher into the head."""

    steps: int = Field(500, ge=0)
    """Adam steps; 0 switches the whole round of features off."""
    lr: float = Field(3e-3, gt=0)
    """Adam's learning rate."""


class MosaicFeaturesConfig(Config):
    """Hyper-parameters of Mosaic in feature space."""

    warmup: int | float = Field(1.0, gt=0)
    """Rounds of FedAvg before the round of features: a number, or a share of all rounds
    (a number with a point, at most 1.0). The round of features is the last one at the
    latest, and 1.0 makes it so."""
    finetune_lr: float | None = Field(1e-3, gt=0)
    """Learning rate of the clients after it; null keeps the protocol's."""
    head: LocalHeadConfig = LocalHeadConfig()
    """The clients' heads."""
    generator: GeneratorConfig = GeneratorConfig()
    """The clients' generators."""
    teacher: HeadTeacherConfig = HeadTeacherConfig()
    """Experts and meta model."""
    distil: HeadLessonConfig = HeadLessonConfig()
    """Distillation."""

    @model_validator(mode="after")
    def _warmup_is_a_share_or_a_number(self) -> MosaicFeaturesConfig:
        check_warmup(self.warmup)
        return self
