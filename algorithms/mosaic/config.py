"""The hyper-parameters of Mosaic and of its presets; each with its source.

"Paper" is what its abstract and published summaries show. "Released code" is
github.com/Wings-Of-Disaster/Mosaic, commit a7f8b5b. "Trial" is this project's own
measurement on Fashion-MNIST; see the results in the README.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from fedkd.algorithms.averaging import Aggregate
from fedkd.config import Config


class GeneratorConfig(Config):
    """A client's generator: what it is, how long it trains and what it is told."""

    start: Literal["warmup", "first"] = "warmup"
    """When a client trains its generator: in the last warm-up round, on the converged
    model (the paper), or in its first round (released code, ``trainer_init.py``)."""
    steps: int | None = Field(600, ge=1)
    """Optimiser steps; give this or ``epochs``."""
    epochs: int | None = Field(None, ge=1)
    """Passes over the client's images; the released code trains 200."""
    batch_size: int = Field(32, ge=2)
    """Real images, and as many generated ones, in a step; released code: 64."""
    latent_size: int = Field(64, ge=1)
    """Z, the length of the noise vector; released code: 100."""
    width: int = Field(32, ge=1)
    """Base width of generator and discriminator; released code: 64."""
    lr: float = Field(1e-3, gt=0)
    """Adam's learning rate, betas (0.5, 0.999); released code: 2e-4."""
    discriminator: Literal["separate", "local_model"] = "separate"
    """Who judges real against fake: a DCGAN discriminator (released code), or a copy of
    the local model (paper). The paper's text that could be read does not say how C
    logits become one number; here D(x) = Z/(Z+1), Z = sum_c exp(z_c) (Salimans et al.
    2016, section 5)."""
    adversarial_weight: float = Field(1.0, ge=0)
    """Weight of L_adv = BCE(D(G(z)), 1)."""
    entropy_weight: float = Field(0.0, ge=0)
    """Weight of L_entropy, the mean entropy of the classifier on generated images; the
    paper has the term, the released code has weight 0."""
    diversity_weight: float = Field(1.0, ge=0)
    """Weight of L_diversity; released code: 5."""
    diversity: Literal["own", "uniform"] = "own"
    """What the mean prediction on a batch should be: the client's label mix p_k, by
    KL(p_k || mean), or uniform, by sum_c mean_c log mean_c (paper, released code)."""
    inversion_weight: float = Field(0.0, ge=0)
    """Weight of L_inversion, BatchNorm statistics matched as in DeepInversion (paper).
    The released code would have 10 x 0.001 = 0.01, with a minus sign unless its ``flag``
    is 1; it never switches the term on, and no gradient would come of it."""
    inversion_below: int = Field(1000, ge=0)
    """tau: only clients with fewer images use L_inversion; the paper gives no value."""
    classifier: Literal["local", "fresh"] = "local"
    """Who scores generated images: a frozen copy of the local model (paper), or a network
    of the same architecture with new weights of each client's own, trained on the client's
    data and left in train mode (released code)."""
    classifier_epochs: int = Field(50, ge=1)
    """Passes that train a ``fresh`` classifier; released code: 50."""
    output_range: Literal["classifier", "tanh"] = "classifier"
    """The range of generated images: that of normalised data, or [-1, 1] (released
    code, which classifiers never see in training)."""
    drop_class_zero: bool = False
    """Leave class 0 out of each batch of real images, as the released code does by mistake
    (it tests the key and not the count). Batches get smaller, and one that becomes empty
    is passed over; ``steps`` counts it."""

    @model_validator(mode="after")
    def _exactly_one_amount(self) -> GeneratorConfig:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError(
                "expected exactly one of steps and epochs, found "
                f"steps={self.steps} and epochs={self.epochs}; set the other to null"
            )
        return self


class MetaConfig(Config):
    """How the meta model starts and is trained."""

    gate_start: float = Field(2.0, ge=0)
    """Logit of the diagonal at the start, of a gate; 2 gives the class's own expert 0.45
    of 10."""
    steps: int = Field(600, ge=0)
    """Adam steps of the meta model; Mosaic's released code: 30 x 5, each on one batch."""
    batch_size: int = Field(128, ge=1)
    """Prototypes in a step; Mosaic's released code: 128."""
    lr: float = Field(1e-2, gt=0)
    """Adam's learning rate; Mosaic's released code: 1e-3."""
    ema_decay: float = Field(0.99, ge=0, lt=1)
    """Decay of the averaged copy that is used; Mosaic's released code: 0.99."""
    ema_correction: bool = True
    """Whether the average forgets its start; without it 22 % of the initial weights
    remain after 150 steps (Mosaic's released code)."""
    holdout: float = Field(0.2, ge=0, lt=1)
    """Share of prototypes kept to measure the meta model; Mosaic's released code:
    0."""


class TeacherConfig(MetaConfig):
    """What teaches the student, and how the meta model that fuses experts is trained."""

    kind: Literal["meta", "experts", "diagonal", "clients", "global", "own_client"] = (
        "meta"
    )
    """The meta model over class experts (paper); the plain mean of the experts; expert c
    for class c; the mean of the clients; the global model (with several architectures,
    the mean of their averages); for each image, the model of the client whose generator
    made it."""
    experts: Literal["auto", "parameters", "logits"] = "auto"
    """Class experts as averages of client models, weighted by n_kc (the paper's
    setting; one architecture), as mixtures of the clients' logits, weighted alike
    (ours), or the first where the clients' models allow it."""
    origin_prior: bool = False
    """Whether the log label prior of the client whose generator made an image is added
    to the teacher's logits. Ours: not in the paper, not in the released code."""
    origin_epsilon: float = Field(0.1, gt=0)
    """Floor of the origin prior, where there is one: log((p_k(c) + eps) / (1 + C eps)). A
    small floor trusts the origin alone: it gains most where the global model is poor and
    costs most where it is good."""
    meta: Literal["gate", "transformer"] = "gate"
    """A convex mix of the experts' logits per class that starts at the class diagonal,
    or the transformer of the released code."""
    expert_embedding: bool = False
    """Whether the transformer is told which expert is which; without it the released
    form cannot tell them apart."""
    expansion: int = Field(10, ge=1)
    """a: the transformer works in a*C dimensions; released code: 10."""
    pooling: Literal["sum", "mean"] = "sum"
    """How the transformer pools over experts; released code: sum, CIFAR-100 mean."""
    prototypes: Literal["samples", "features"] = "samples"
    """What the meta model learns from: generator samples, labelled by the client's own
    model, through whole experts; or k-means centres of the global model's features,
    through the experts' heads (released code)."""
    per_class: int = Field(10, ge=1)
    """With ``prototypes: features``, k: centres per class and client; released code: 10
    (CIFAR-100: 60)."""
    centres_sent: int | None = Field(None, ge=1)
    """With ``prototypes: features``: how many of the k centres a client sends, the first of
    them; null for all.
    Released code: 10, whatever k is."""
    features_of: Literal["images", "batches"] = "images"
    """With ``prototypes: features``, of what they are taken: of all the client's images as
    they are, or of as many training batches, augmented, as its local training has
    (released code)."""
    prototype_rounds: int = Field(1, ge=1)
    """Last warm-up rounds in which clients send features, if any; they accumulate. The
    released code has 41."""
    samples_per_client: int = Field(200, ge=1)
    """With ``prototypes: samples``: generator samples a client contributes."""

    @property
    def wants_features(self) -> bool:
        """Whether clients have to send feature prototypes."""
        return self.kind == "meta" and self.prototypes == "features"


class LessonConfig(Config):
    """How the student learns from the teacher, whatever it is shown."""

    steps: int = Field(300, ge=0)
    """Adam steps; 0 switches generators, experts and distillation off. Mosaic's released
    code: 1500 at alpha 0.01, 2500 at 0.1 and 1."""
    batch_size: int = Field(128, ge=1)
    """What is generated for a step, or with ``sampling: each`` by one generator; Mosaic's
    released code: 32 images from each."""
    sampling: Literal["proportional", "equal", "each"] = "proportional"
    """How a batch is shared out among generators: by n_k, equally, or ``batch_size`` from
    each of them, however many there are (Mosaic's released code)."""
    lr: float = Field(1e-3, gt=0)
    """Adam's learning rate; Mosaic's released code: 1e-4, CIFAR-100 1e-5."""
    cosine: bool = True
    """Whether the rate falls to zero by a cosine; Mosaic's released code: no."""
    temperature: float = Field(1.0, gt=0)
    """T of the Kullback-Leibler term; Mosaic's released code: 1."""
    kl_weight: float = Field(1.0, ge=0)
    """Weight of T^2 KL(teacher || student); Mosaic's released code: 0.8."""
    ce_weight: float = Field(0.0, ge=0)
    """Weight of the cross-entropy with the teacher's class; Mosaic's released code: 0.2."""
    overlap_weight: float = Field(0.0, ge=0)
    """Weight of the symmetric term; Mosaic's released code: 1."""
    overlap: Literal["bhattacharyya", "jensen_shannon"] = "bhattacharyya"
    """The symmetric term: what Mosaic's released code computes and calls JSD, or the true
    Jensen-Shannon divergence."""

    @model_validator(mode="after")
    def _something_to_learn(self) -> LessonConfig:
        if self.steps and not (self.kl_weight or self.ce_weight or self.overlap_weight):
            raise ValueError(
                "expected a positive kl_weight, ce_weight or overlap_weight, found all "
                "three at 0; set steps to 0 for no distillation"
            )
        return self


class DistilConfig(LessonConfig):
    """Distillation of the teacher into the global model on generated images."""

    batch_norm: Literal["auto", "eval", "train"] = "auto"
    """Whether the student's BatchNorm keeps the statistics of the clients' data (released
    code) or takes those of generated images. ``auto`` keeps them unless no client has
    the student's architecture, so that there are none."""


class MosaicConfig(Config):
    """Hyper-parameters of Mosaic."""

    warmup: int | float = Field(0.75, gt=0)
    """Rounds of FedAvg before distillation: a number, or a share of all rounds (a number
    with a point, at most 1.0). Released code: 41 of 80, after 300 more of FedAvg. Of a run
    that has fewer rounds, all of them: the last one distils."""
    finetune_lr: float | None = Field(1e-3, gt=0)
    """Learning rate of the clients after distillation; null keeps the protocol's.
    Released code: 1e-4."""
    aggregate: Aggregate = "plain"
    """What the clients' models are: ``plain``, of one architecture or of several that do
    not nest; otherwise nested widths, which hold the first channels of the global model
    (``static``, as HeteroFL), a window that moves by one channel a round (``rolling``, as
    FedRolex), or channels drawn in every round (``random``)."""
    generator: GeneratorConfig = GeneratorConfig()
    """The clients' generators."""
    teacher: TeacherConfig = TeacherConfig()
    """Experts and meta model."""
    distil: DistilConfig = DistilConfig()
    """Distillation."""

    @model_validator(mode="after")
    def _warmup_is_a_share_or_a_number(self) -> MosaicConfig:
        check_warmup(self.warmup)
        return self


def check_warmup(warmup: int | float) -> None:
    """Refuse a share of the rounds that is more than all.

    Raises:
        ValueError: If it is a number with a point above 1.
    """
    if isinstance(warmup, float) and warmup > 1:
        raise ValueError(
            f"warmup: found {warmup}; expected a whole number of rounds or a share of at "
            "most 1.0"
        )
