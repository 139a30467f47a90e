"""Co-Boosting: DENSE with harder images and an ensemble that learns its weights.

Paper: Dai, Zhang, Li, Liu, Yang, Han, "Enhancing One-Shot Federated Learning Through Data
    and Ensemble Co-Boosting", ICLR 2024, arXiv:2402.15070. Its full text was not at hand;
    what follows rests on the released code and on secondary sources.
Algorithm: Algorithm 1: hard samples from a generator, hard samples on the fly, ensemble
    weights, distillation.
Code: github.com/rong-dai/Co-Boosting, commit b95d715
Deviations: images are moved by epsilon in units of pixels in [0, 1] and not of normalised
    images (``coboosting-code``); weights that would all become 0 stay as they were; in
    each epoch, weights and student learn from some batches of the pool and not from all
    of it; models see images augmented also while these are made, if the data set has
    augmentation; labels of a batch are in order. It is lightened for a CPU: amounts and
    the generator are smaller and the student's rate is 0.02 and not 0.01
    (``coboosting-published`` and ``coboosting-code`` have the published values). The
    generator goes on from one batch to the next, the pool forgets its oldest images when
    full and rounds its 8-bit pixels, and clients train as the protocol says, as in
    ``dense``; rounds after the first are as there. The
    switches ``difficulty: 0``, ``adversarial_mask: true`` and
    ``adversarial_temperature: 1`` in ``synthesis``, ``epsilon: 0`` and
    ``weight_step: 0`` give DENSE with the other options, to the bit.
"""

from __future__ import annotations

from typing import Any, Literal, final

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from fedkd.algorithms.dense.config import DenseConfig, DistilConfig, SynthesisConfig
from fedkd.algorithms.dense.server import Rules
from fedkd.algorithms.dense.strategy import Distilling
from fedkd.config import refuse_idle
from fedkd.ops.ensembles import LogitEnsemble, mean_by
from fedkd.ops.synthesis import Lens, difficulty_cross_entropy
from fedkd.strategy import Preset

SOFTNESS = 4.0
"""Temperature of the predictions whose random direction images are moved along."""


class HardSynthesisConfig(SynthesisConfig):
    """How images are made: as in DENSE, with more weight on hard ones."""

    batch_size: int = Field(128, ge=2)
    """Images in a batch; released code: 128, in its script."""
    inversion_over_clients: Literal["mean", "sum"] = "mean"
    """How L_BN is taken over clients; released code: the mean, where it has L_BN at all.
    A client without BatchNorm adds 0."""
    adversarial_weight: float = Field(1.0, ge=0)
    """Weight of L_adv, which looks for images on which student and ensemble differ;
    released code: 1."""
    augment: bool = True
    """Whether models see generated images cropped and flipped, as the data set has it
    for training images. Released code: when the student learns from them, and not while
    they are made."""
    first_in_train_mode: bool = False
    """Whether the student is in train mode while the first batch is made, so that these
    images move its BatchNorm statistics. Released code: no."""
    difficulty: float = Field(1.0, ge=0)
    """h: L_CE counts an image (1 - p_y)^h, p_y the ensemble's probability of its label;
    released code: 1. 0 is DENSE."""
    clip_norm: float | None = Field(10.0, gt=0)
    """Largest norm of the generator's gradient; released code: 10."""
    inversion_weight: float = Field(0.0, ge=0)
    """Weight of L_BN; released code: 0."""
    adversarial_mask: bool = False
    """Whether only images count in L_adv whose class student and ensemble disagree on;
    released code: no. Yes is DENSE."""
    adversarial_temperature: float = Field(3.0, gt=0)
    """T of L_adv, which has a factor T^2; released code: 3. 1 is DENSE."""


class BoostedDistilConfig(DistilConfig):
    """How the ensemble is distilled into the student after every batch of images."""

    lr: float = Field(0.02, gt=0)
    """SGD's learning rate; released code: 0.01."""
    weight_decay: float = Field(1e-4, ge=0)
    """SGD's L2 weight decay; released code: 1e-4."""
    cosine: bool = True
    """Whether the rate falls to zero over the epochs by a cosine; released code: yes."""
    clip_norm: float | None = Field(10.0, gt=0)
    """Largest gradient norm; released code: 10."""
    temperature: float = Field(4.0, gt=0)
    """T of T^2 KL(ensemble || student); released code: 4."""


class CoBoostingConfig(DenseConfig):
    """Hyper-parameters of Co-Boosting."""

    synthesis: HardSynthesisConfig = HardSynthesisConfig()
    """How images are made."""
    distil: BoostedDistilConfig = BoostedDistilConfig()
    """How the student learns from them."""
    epsilon: float = Field(8 / 255, ge=0)
    """How far images are moved before the ensemble teaches on them; released code:
    8/255. 0 is DENSE."""
    epsilon_unit: Literal["pixel", "normalised"] = "pixel"
    """What epsilon is a part of: the range [0, 1] of pixels, or normalised images
    (released code)."""
    weight_step: float = Field(0.01, ge=0)
    """mu: step of the ensemble's weights, one on each batch, from the second epoch on;
    released code: 0.01. 0 leaves them equal, as in DENSE."""
    weight_decay_per_epoch: float = Field(0.99, gt=0, le=1)
    """Factor on mu per epoch; released code: 0.99."""

    @model_validator(mode="after")
    def _every_option_has_an_effect(self) -> CoBoostingConfig:
        if not self.epsilon:
            refuse_idle(self, "no image moves at epsilon 0", "epsilon_unit")
        if not self.weight_step:
            why = "no weight moves at weight_step 0"
            refuse_idle(self, why, "weight_decay_per_epoch")
        return self


@final
class Boosted:
    """Co-Boosting's choices inside DENSE's loop."""

    def __init__(self, config: CoBoostingConfig) -> None:
        self._config = config
        self.moves_images = config.epsilon > 0
        self.moves_weights = config.weight_step > 0
        self.weights_K: Tensor | None = None

    def fuse(self, logits_KBC: Tensor) -> Tensor:
        """Return sum_k w_k z_k / sum_k w_k by the weights w of now."""
        return mean_by(self.weights_K)(logits_KBC)

    def label_loss(self, logits_BC: Tensor, labels_B: Tensor) -> Tensor:
        """Return mean_b (1 - p_b)^h CE(z_b, y_b)."""
        exponent = self._config.synthesis.difficulty
        return difficulty_cross_entropy(logits_BC, labels_B, exponent)

    def moved(self, x: Tensor, ensemble: LogitEnsemble, lens: Lens) -> Tensor:
        """Move normalised images by epsilon along a random output of the ensemble."""
        epsilon = self._config.epsilon
        in_pixels = self._config.epsilon_unit == "pixel"
        return perturbed(x, ensemble, lens.pixels(epsilon) if in_pixels else epsilon)

    def reweigh(self, logits_KBC: Tensor, labels_B: Tensor, epoch: int) -> None:
        """Take a step of the ensemble's weights, which start equal."""
        config, members = self._config, len(logits_KBC)
        equal_K = logits_KBC.new_full((members,), 1 / members)
        before_K = equal_K if self.weights_K is None else self.weights_K
        step = config.weight_step * config.weight_decay_per_epoch**epoch
        self.weights_K = moved_weights(before_K, logits_KBC, labels_B, step)


def perturbed(x: Tensor, model: nn.Module, step: Tensor | float) -> Tensor:
    """Return x + step * sign(grad_x <u, softmax(z(x)/4)>), u uniform in [-1, 1].

    Args:
        x: Normalised images ``[B, C, H, W]``.
        model: Gives the logits z.
        step: epsilon; a number or one per channel, in the units of ``x``.
    """
    images = x.detach().clone().requires_grad_()
    soft_BC = (model(images) / SOFTNESS).softmax(dim=1)
    u_BC = (2 * torch.rand(soft_BC.shape) - 1).to(soft_BC, non_blocking=True)
    (gradient,) = torch.autograd.grad((u_BC * soft_BC).sum(), images)
    return x + step * gradient.sign()


def moved_weights(
    weights_K: Tensor, logits_KBC: Tensor, labels_B: Tensor, step: float
) -> Tensor:
    """Return clamp(w - step * sign(grad_w CE(sum_k w_k z_k / sum_k w_k, y)), 0, 1).

    Weights that would all be 0, by which nothing can be divided, stay as they are.
    """
    w_K = weights_K.detach().clone().requires_grad_()
    with torch.enable_grad():
        fused_BC = torch.einsum("k,kbc->bc", w_K / w_K.sum(), logits_KBC.detach())
        (gradient_K,) = torch.autograd.grad(F.cross_entropy(fused_BC, labels_B), w_K)
    moved_K = (w_K.detach() - step * gradient_K.sign()).clamp(0, 1)
    return torch.where(moved_K.sum() > 0, moved_K, weights_K)


@final
class CoBoosting(Distilling):
    """DENSE whose images get harder and whose ensemble weighs its members."""

    Config = CoBoostingConfig
    config: CoBoostingConfig

    def rules(self) -> Rules:
        """Move the images and the weights of the ensemble."""
        return Boosted(self.config)


PUBLISHED_OPTIONS: dict[str, Any] = {
    "synthesis": {
        "epochs": 200,
        "generator_steps": 30,
        "width": 64,
        "reinitialise": True,
        "pool_images": 25_600,
    },
    "distil": {"steps": None, "passes": 1, "lr": 0.01},
}
CODE_OPTIONS: dict[str, Any] = {**PUBLISHED_OPTIONS, "epsilon_unit": "normalised"}
_HERE = (
    "weights that would all become 0 stay as they were",
    "generated images are cropped and flipped only where training images are, and there "
    "also while they are made; the released program does so from the pool only",
    "images keep the size of the data set's; the released program makes 32x32 of MNIST's",
    "8-bit pixels of the pool are rounded, in the released program cut off",
    "clients train as the protocol says; in the released program for 100 epochs by SGD "
    "at 0.01 with momentum 0.9 and gradients of norm 10 at most",
    "the last student is the result; the released program also reports the best one on "
    "the test images",
)
COBOOSTING_CODE = Preset(
    CoBoosting,
    CODE_OPTIONS,
    doc="The behaviour of the released code, with its amounts.",
    deviations=_HERE,
)
COBOOSTING_PUBLISHED = Preset(
    CoBoosting,
    PUBLISHED_OPTIONS,
    doc="Co-Boosting as read here with the amounts of its released code, not lightened.",
    deviations=(
        "epsilon is in units of pixels in [0, 1], in the released program of normalised "
        "images",
        *_HERE,
    ),
)
