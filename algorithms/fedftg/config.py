"""The hyper-parameters of FedFTG and of its presets; each with its source.

"Released code" is github.com/ZhangLin-PKU/FedFTG; "LightFed" is the form of
github.com/lkyddd/DFDG (``horizontal/fedFTG``), by the authors of DFRD.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from fedkd.algorithms.averaging import Aggregate
from fedkd.config import Config
from fedkd.ops.sampling import Sampling


class GeneratorConfig(Config):
    """The generator and its search for images on which models differ."""

    kind: Literal["upsampling-generator", "acgan-generator", "vector-generator"] = (
        "upsampling-generator"
    )
    """Which network: that of the released code, that of LightFed, or, where the data are
    vectors, our counterpart of the first."""
    merge: Literal["mul", "add", "cat", "cat_naive"] = "cat"
    """How the ``acgan-generator`` joins noise and label; LightFed: cat. Not an option of
    the others: the ``upsampling-generator`` has a linear layer for each."""
    output: Literal["classifier", "as_is"] = "as_is"
    """Whether images in [-1, 1] are mapped to the range of normalised data, or stay as
    the generator makes them. Leave it as it is for the ``upsampling-generator``
    and the ``vector-generator``, whose output is standardised; take ``classifier`` for
    the other."""
    latent_size: int = Field(100, ge=1)
    """Z, the length of the noise vector; released code: 100, CIFAR-100 256."""
    width: int = Field(32, ge=1)
    """Channels of the last hidden map; released code: 64."""
    steps: int = Field(1, ge=1)
    """I_g: Adam steps on each batch of noise; released code: 1, LightFed 20."""
    lr: float = Field(1e-3, gt=0)
    """Adam's learning rate; released code: 0.01, LightFed 2e-4."""
    beta1: float = Field(0.9, ge=0, lt=1)
    """Adam's first beta; released code: 0.9, LightFed 0.5. The second is 0.999."""
    class_weight: float = Field(1.0, ge=0)
    """lambda_cls, the weight of L_cls; paper: 1."""
    discrepancy_weight: float = Field(0.1, ge=0)
    """Weight of -L_md in the generator's loss; paper: 1. With 1 the images leave those
    that the clients know, and fine-tuning costs accuracy on digits."""
    diversity_weight: float = Field(1.0, ge=0)
    """lambda_dis, the weight of L_dis; paper: 1. The released code divides the term by
    the number of clients."""


class DistilConfig(Config):
    """The fine-tuning of the global model."""

    steps: int = Field(5, ge=0)
    """I: batches of noise in a round; 0 is FedAvg, bit for bit. Released code: 10."""
    global_steps: int = Field(2, ge=1)
    """I_d: SGD steps of the global model on each batch; released code: 5, LightFed 2."""
    batch_size: int = Field(50, ge=2)
    """B, generated images in a step; released code: 50, LightFed 64."""
    lr: float = Field(1e-3, gt=0)
    """SGD's learning rate; released code: that of the clients, 0.1; LightFed 0.01."""
    weight_decay: float = Field(1e-3, ge=0)
    """SGD's L2 weight decay; released code: 1e-3, LightFed 1e-4."""
    lr_decay: float = Field(0.998, gt=0, le=1)
    """Factor on both learning rates per round; released code: 0.998, LightFed 1."""
    temperature: float = Field(1.0, gt=0)
    """T of the divergence, without a factor T^2; paper: 1, LightFed 10. ``official`` has
    none, so it is 1 there."""
    direction: Literal["global_local", "local_global"] = "local_global"
    """D of variant ``paper``, and of no other: KL(local || global), as distillation has
    it, or KL(global || local), as the paper is remembered to have it."""
    labels: Sampling = "deck"
    """How labels are drawn: from a deck in the proportion of the round's clients (paper
    and released code), each by itself with that probability (``iid``), or uniformly
    among the classes that these clients have (``uniform``; LightFed)."""


class FedFTGConfig(Config):
    """Hyper-parameters of FedFTG."""

    variant: Literal["paper", "official", "lightfed"] = "paper"
    """Which form the losses have: see the deviations. The amounts are options of their
    own; the presets have those of the released codes."""
    aggregate: Aggregate = "plain"
    """What the clients' models are: ``plain``, of one architecture; otherwise nested
    widths, which hold the first channels of the global model (``static``, as HeteroFL), a
    window that moves by one channel a round (``rolling``, as FedRolex), or channels drawn
    in every round (``random``). The global model is distilled whole."""
    generator: GeneratorConfig = GeneratorConfig()
    """The generator."""
    distil: DistilConfig = DistilConfig()
    """The fine-tuning of the global model."""

    @model_validator(mode="after")
    def _every_option_has_an_effect(self) -> FedFTGConfig:
        how, search = self.distil, self.generator
        if self.variant == "official" and how.temperature != 1:
            raise ValueError(
                f"distil.temperature: found {how.temperature:g} with variant: official, "
                "whose losses have no temperature; expected 1"
            )
        if self.variant != "paper" and how.direction != "local_global":
            raise ValueError(
                f"distil.direction: found {how.direction} with variant: {self.variant}, "
                "whose divergences have directions of their own; leave it out"
            )
        if search.kind != "acgan-generator" and search.merge != "cat":
            raise ValueError(
                f"generator.merge: found {search.merge} with the {search.kind}, "
                "which has a linear layer each for noise and label; leave it out, or set "
                "generator.kind to acgan-generator"
            )
        if search.kind == "vector-generator" and search.output != "as_is":
            raise ValueError(
                f"generator.output: found {search.output} with the vector-generator, "
                "whose vectors are standardised already; leave it out"
            )
        return self


PAPER_OPTIONS: dict[str, Any] = {
    "variant": "paper",
    "generator": {
        "kind": "upsampling-generator",
        "output": "as_is",
        "latent_size": 100,
        "width": 64,
        "steps": 1,
        "lr": 0.01,
        "beta1": 0.9,
        "class_weight": 1.0,
        "discrepancy_weight": 1.0,
        "diversity_weight": 1.0,
    },
    "distil": {
        "steps": 10,
        "global_steps": 5,
        "batch_size": 50,
        "lr": 0.1,
        "weight_decay": 1e-3,
        "lr_decay": 0.998,
        "temperature": 1.0,
        "direction": "global_local",
        "labels": "deck",
    },
}
"""The paper's losses, with the amounts of the released code."""

PUBLISHED_OPTIONS: dict[str, Any] = {
    **PAPER_OPTIONS,
    "distil": {**PAPER_OPTIONS["distil"], "direction": "local_global"},
}
"""Our reading's losses, with the amounts of the released code."""

OFFICIAL_OPTIONS: dict[str, Any] = {
    **PAPER_OPTIONS,
    "variant": "official",
    "distil": {k: v for k, v in PAPER_OPTIONS["distil"].items() if k != "direction"},
}
"""The released code, with its amounts."""

LIGHTFED_OPTIONS: dict[str, Any] = {
    "variant": "lightfed",
    "generator": {
        "kind": "acgan-generator",
        "merge": "cat",
        "output": "as_is",
        "latent_size": 100,
        "width": 64,
        "steps": 20,
        "lr": 2e-4,
        "beta1": 0.5,
        "class_weight": 1.0,
        "discrepancy_weight": 1.0,
        "diversity_weight": 1.0,
    },
    "distil": {
        "steps": 200,
        "global_steps": 2,
        "batch_size": 64,
        "lr": 0.01,
        "weight_decay": 1e-4,
        "lr_decay": 1.0,
        "temperature": 10.0,
        "labels": "uniform",
    },
}
"""LightFed's form, with the defaults of its program."""
