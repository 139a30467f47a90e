"""The hyper-parameters of DENSE, shared by Co-Boosting; each with its source.

"Released code" is github.com/zj-jayzhang/DENSE, commit 237c5dd; its README's values are
those of CIFAR-10 on a GPU, and the presets ``dense-published``, ``dense-paper`` and
``dense-code`` have them. The defaults here are lightened for a CPU: amounts, the
generator's width and its going on from one batch to the next, and the student's learning
rate were chosen on the digits (5 clients, Dirichlet 0.3, cnn, seeds 100 and 101); the
mean of L_BN over layers on the same with five architectures (``mix-5``, seeds 100 to
102).
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from fedkd.config import Config


class SynthesisConfig(Config):
    """How images are made: a generator that is trained with its noise."""

    epochs: int = Field(25, ge=0)
    """T: how often a batch of images is made and the pool distilled; 0 leaves the
    student as it starts. Released code: 200."""
    generator_steps: int = Field(15, ge=1)
    """Adam steps on generator and noise for one batch; the batch of least loss is kept.
    Released code: 30."""
    batch_size: int = Field(128, ge=2)
    """Images in a batch; released code: 256, in its README and as its program's default.
    """
    lr: float = Field(1e-3, gt=0)
    """Adam's learning rate, betas (0.5, 0.999); released code: 1e-3."""
    clip_norm: float | None = Field(None, gt=0)
    """Largest norm of the generator's gradient; None for no clipping (released code)."""
    latent_size: int = Field(256, ge=1)
    """Z, the length of the noise vector; released code: 256."""
    width: int = Field(32, ge=1)
    """Channels of the generator's last hidden map; released code: 64."""
    reinitialise: bool = False
    """Whether the generator starts from new weights for every batch (released code) or
    goes on from the last one's, which needs fewer steps. One whose weights are no longer
    finite starts anew in any case."""
    label_weight: float = Field(1.0, ge=0)
    """Weight of L_CE, the ensemble's cross-entropy with the wanted labels; released
    code: 1."""
    inversion_weight: float = Field(1.0, ge=0)
    """Weight of L_BN, BatchNorm statistics of the clients matched; paper and README: 1,
    with the sum over layers.
    The released code never computes it, see ``dense-code``."""
    inversion_over_clients: Literal["mean", "sum"] = "mean"
    """How L_BN is taken over clients: the mean, or the sum as the released code means
    to. A client without BatchNorm adds 0."""
    inversion_over_layers: Literal["mean", "sum"] = "mean"
    """How L_BN of a client is taken over its BatchNorm layers: the mean, so that a model
    of 52 layers does not outweigh L_CE, or the sum (paper, ``dense-paper``)."""
    adversarial_weight: float = Field(1.0, ge=0)
    """Weight of L_adv, which looks for images on which student and ensemble differ;
    README: 1."""
    adversarial_mask: bool = True
    """Whether only images count in L_adv whose class student and ensemble disagree on
    (paper)."""
    adversarial_temperature: float = Field(1.0, gt=0)
    """T of L_adv; released code: 1."""
    augment: bool = True
    """Whether models see generated images cropped and flipped, as the data set has it
    for training images. Released code: crop with padding 4 and flip."""
    pool_images: int = Field(20_000, ge=2)
    """Images that the pool holds at most; the oldest leave. Released code: all."""
    pool_exact: bool = False
    """Whether the pool keeps images as they are and not as 8-bit pixels, rounded.
    Released code: PNG files, whose values are cut off and not rounded."""
    first_in_train_mode: bool = False
    """Whether the student is in train mode while the first batch is made, so that these
    images move its BatchNorm statistics (released code)."""

    @model_validator(mode="after")
    def _something_to_learn(self) -> SynthesisConfig:
        weights = (self.label_weight, self.inversion_weight, self.adversarial_weight)
        if not any(weights):
            raise ValueError(
                "expected a positive label_weight, inversion_weight or "
                "adversarial_weight, found all three at 0; set epochs to 0 for no "
                "synthesis"
            )
        return self


class DistilConfig(Config):
    """How the ensemble is distilled into the student after every batch of images."""

    steps: int | None = Field(30, ge=1)
    """SGD steps on batches of the pool, in each epoch; give this or ``passes``."""
    passes: int | None = Field(None, ge=1)
    """Passes over the whole pool, in each epoch; released code: 1. The pool grows, so
    the cost grows with the square of the epochs."""
    batch_size: int = Field(128, ge=2)
    """Images in a step; released code: that of synthesis."""
    lr: float = Field(0.02, gt=0)
    """SGD's learning rate; README: 0.005."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """SGD's momentum, which lasts over epochs; released code: 0.9."""
    weight_decay: float = Field(0.0, ge=0)
    """SGD's L2 weight decay; released code: 0."""
    cosine: bool = False
    """Whether the rate falls to zero over the epochs by a cosine; released code: no."""
    clip_norm: float | None = Field(None, gt=0)
    """Largest gradient norm; None for no clipping."""
    temperature: float = Field(20.0, gt=0)
    """T of T^2 KL(ensemble || student); README: 20."""

    @model_validator(mode="after")
    def _exactly_one_amount(self) -> DistilConfig:
        if (self.steps is None) == (self.passes is None):
            raise ValueError(
                "expected exactly one of steps and passes, found "
                f"steps={self.steps} and passes={self.passes}; set the other to null"
            )
        return self


class DenseConfig(Config):
    """Hyper-parameters of DENSE."""

    start: Literal["average", "initial"] = "initial"
    """Where the student starts: at its own weights (the initial ones, then those of the
    last round), or at the average of the round's models by n_k if all clients of the
    federation have its architecture (else at its own)."""
    synthesis: SynthesisConfig = SynthesisConfig()
    """How images are made."""
    distil: DistilConfig = DistilConfig()
    """How the student learns from them."""


PUBLISHED_SYNTHESIS: dict[str, Any] = {
    "epochs": 200,
    "generator_steps": 30,
    "batch_size": 256,
    "width": 64,
    "reinitialise": True,
    "pool_images": 51_200,
}
PUBLISHED_DISTIL: dict[str, Any] = {
    "steps": None,
    "passes": 1,
    "batch_size": 256,
    "lr": 0.005,
    "cosine": False,
}
PUBLISHED_OPTIONS: dict[str, Any] = {
    "start": "initial",
    "synthesis": PUBLISHED_SYNTHESIS,
    "distil": PUBLISHED_DISTIL,
}
"""The method as read here, with the amounts of the README."""
PAPER_OPTIONS: dict[str, Any] = {
    "start": "initial",
    "synthesis": {
        **PUBLISHED_SYNTHESIS,
        "inversion_weight": 1.0,
        "inversion_over_layers": "sum",
    },
    "distil": PUBLISHED_DISTIL,
}
"""The paper's losses, L_BN among them, in the released program's loop and amounts."""
CODE_OPTIONS: dict[str, Any] = {
    "start": "initial",
    "synthesis": {
        **PUBLISHED_SYNTHESIS,
        "inversion_weight": 0.0,
        "first_in_train_mode": True,
    },
    "distil": PUBLISHED_DISTIL,
}
"""What the released code does, with the values of its README."""
