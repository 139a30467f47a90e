"""The hyper-parameters of FedGen; each with its source.

"Released code" is github.com/zhuangdizhu/FedGen, commit 67f2cd7, with its settings for
MNIST. Of these, the weights of the clients' terms are lightened to a tenth by default, for
short runs; ``fedgen-published`` has the published ones.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from fedkd.config import Config
from fedkd.ops.sampling import Sampling


class GeneratorConfig(Config):
    """The generator of features: what it is and how the server trains it."""

    latent_size: int = Field(32, ge=1)
    """Z, the length of the noise vector; released code: 32, CIFAR-10 64."""
    hidden: int = Field(256, ge=1)
    """Units of the hidden layer; released code: 256, CIFAR-10 512."""
    embedding: bool = False
    """Whether labels are learnt vectors and not one-hot; released code: no."""
    nonnegative: bool = True
    """Whether generated features are never negative where those of all models are not, as
    after a ReLU. Released code: no; its networks have none before the head."""
    noise: Literal["uniform", "normal"] = "uniform"
    """Noise from U(0, 1), as the released code has it, or from N(0, 1), as its comment
    and the paper say."""
    steps: int = Field(50, ge=0)
    """Adam steps a round; 0 is FedAvg, bit for bit. Released code: 10 times 5."""
    batch_size: int = Field(32, ge=2)
    """Features in a step; released code: 32."""
    lr: float = Field(3e-4, gt=0)
    """Adam's learning rate; released code: 3e-4, EMNIST 1e-4."""
    lr_decay: float = Field(0.98, gt=0, le=1)
    """Factor on the learning rate per round; released code: 0.98."""
    weight_decay: float = Field(1e-2, ge=0)
    """Adam's L2 weight decay; released code: 1e-2."""
    labels: Sampling = "uniform"
    """How labels are drawn: uniformly among the classes of the round's clients (released
    code), or in the proportion in which these have them (``iid``, ``deck``)."""
    teacher_weight: float = Field(1.0, ge=0)
    """alpha, the weight of the clients' cross-entropy; released code: 1."""
    student_weight: float = Field(0.0, ge=0)
    """beta, the weight of -KL(ensemble || global head); released code: 0."""
    released_terms: bool = False
    """Whether the terms of alpha and beta are the released code's: a client's mean
    cross-entropy times its mean weight, so that a class's weight reaches all features;
    and the divergence divided by the number of classes."""
    diversity_weight: float = Field(1.0, ge=0)
    """eta, the weight of the diversity loss; released code: 1."""


class FedGenConfig(Config):
    """Hyper-parameters of FedGen."""

    share: Literal["auto", "model", "head"] = "auto"
    """What is averaged: the whole model, for which all need one architecture; the head
    alone, the rest staying at the clients; or the one where it can be and else the
    other."""
    label_weight: float = Field(1.0, ge=0)
    """a, the weight of the head's cross-entropy on generated features, in the first
    round; released code: 10."""
    agreement_weight: float = Field(1.0, ge=0)
    """b, the weight of KL(head on generated features || model on the images of the same
    labels), in the first round; released code: 10, EMNIST 1."""
    fading: float = Field(0.98, gt=0, le=1)
    """Factor on both weights per round; released code: 0.98."""
    batch_size: int = Field(32, ge=1)
    """B_g, generated features in a local step. The cross-entropy is multiplied by B_g
    over the local batch size. Released code: 32."""
    generator: GeneratorConfig = GeneratorConfig()
    """The generator."""


PUBLISHED_OPTIONS: dict[str, Any] = {
    "label_weight": 10.0,
    "agreement_weight": 10.0,
    "fading": 0.98,
    "batch_size": 32,
    "generator": {
        "latent_size": 32,
        "hidden": 256,
        "noise": "uniform",
        "steps": 50,
        "batch_size": 32,
        "lr": 3e-4,
        "lr_decay": 0.98,
        "weight_decay": 1e-2,
        "labels": "uniform",
        "teacher_weight": 1.0,
        "student_weight": 0.0,
        "diversity_weight": 1.0,
    },
}
"""The published amounts for MNIST."""
CODE_OPTIONS: dict[str, Any] = {
    **PUBLISHED_OPTIONS,
    "generator": {
        **PUBLISHED_OPTIONS["generator"],
        "nonnegative": False,
        "released_terms": True,
    },
}
"""The released code, with its terms and its amounts for MNIST."""
