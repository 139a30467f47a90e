"""The hyper-parameters of DFRD and of its preset; each with its source.

The code of DFRD is not public. "DFDG" is github.com/lkyddd/DFDG by its first author; its
program ``DFAD`` is the objective of DFRD in one round and without the averaged
generator. "Paper" is what is remembered of arXiv:2309.13546.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from fedkd.algorithms.averaging import Aggregate
from fedkd.config import Config
from fedkd.ops.sampling import Sampling


class GeneratorConfig(Config):
    """The generator: what it is and what it is told."""

    merge: Literal["mul", "add", "cat", "cat_naive", "none"] = "mul"
    """How noise and label become one vector h; mul is the best in the paper."""
    output: Literal["classifier", "as_is"] = "classifier"
    """Whether images in [-1, 1] are mapped to the range of normalised data, or stay as
    they are (DFDG)."""
    latent_size: int = Field(100, ge=1)
    """Z, the length of the noise vector; DFDG: 100."""
    width: int = Field(32, ge=1)
    """Base width; DFDG: 64."""
    steps: int = Field(5, ge=1)
    """I_g: Adam steps on each batch of noise; paper, several rounds: 5; DFDG: 20."""
    lr: float = Field(2e-4, gt=0)
    """Adam's learning rate, betas (0.5, 0.999); DFDG: 2e-4."""
    transferability_weight: float = Field(1.0, ge=0)
    """beta_tran, the weight of L_tran; paper, DFDG: 1."""
    diversity_weight: float = Field(1.0, ge=0)
    """beta_div, the weight of L_div; paper, DFDG: 1."""
    diversity: Literal["l2", "norms"] = "l2"
    """What L_div = exp(-mean d_h d_x) takes as distances of merged vectors and of images:
    mean squared differences (DFDG), or Euclidean distances, as the paper is remembered
    to. Those grow with the size of an image, and the term and its gradient vanish in
    float32 from 28x28 on."""


class DistilConfig(Config):
    """The distillation of the ensemble into the global model."""

    steps: int = Field(5, ge=0)
    """I: batches of noise in a round; 0 is FedAvg, bit for bit. DFDG, in its one round:
    200, in its README 800."""
    global_steps: int = Field(2, ge=1)
    """I_d: SGD steps of the global model on each batch; paper, DFDG: 2."""
    batch_size: int = Field(64, ge=2)
    """B, generated images in a step; DFDG: 64."""
    lr: float = Field(1e-3, gt=0)
    """SGD's learning rate; DFDG: 0.01."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """SGD's momentum; DFDG: 0.9."""
    weight_decay: float = Field(1e-4, ge=0)
    """SGD's L2 weight decay; DFDG: 1e-4."""
    temperature: float = Field(4.0, gt=0)
    """T of both divergences, without a factor T^2; DFDG: 10. The paper's losses are
    those with 1."""
    labels: Sampling = "iid"
    """How labels are drawn: each by itself with the probability of its class at the
    round's clients (paper, DFDG), from a deck in that proportion, or uniformly among the
    classes that they have."""
    ema_weight: float = Field(0.5, ge=0)
    """alpha, the weight of the lesson on the averaged generator's images; paper: 0.5. 0
    leaves it out, as in DFDG."""
    ema_decay: float = Field(0.5, ge=0, lt=1)
    """lambda of the averaged generator, which moves once a round; paper: 0.5."""

    @model_validator(mode="after")
    def _the_average_is_used(self) -> DistilConfig:
        default = DistilConfig.model_fields["ema_decay"].default
        if not self.ema_weight and self.ema_decay != default:
            raise ValueError(
                f"ema_decay: found {self.ema_decay:g} with ema_weight at 0, which leaves "
                "the averaged generator out; expected a positive ema_weight, or no "
                "ema_decay"
            )
        return self


class DFRDConfig(Config):
    """Hyper-parameters of DFRD."""

    variant: Literal["paper", "dfdg"] = "paper"
    """Which form the losses have: see the deviations. The amounts are options of their
    own; the preset has those of DFDG."""
    start: Literal["auto", "average", "previous"] = "auto"
    """What is distilled into: the average of the round's clients, for which all need the
    server's architecture (``average``); the global model of the round before; or the
    average of those of the round's clients that have the server's architecture, and the
    model before where none has. A student that is no average of clients learns from
    generated images alone, for which the default amounts are too few."""
    aggregate: Aggregate = "plain"
    """What the clients' models are: ``plain``, of one architecture or of several that do
    not nest; otherwise nested widths, which hold the first channels of the global model
    (``static``, as HeteroFL), a window that moves by one channel a round (``rolling``, as
    FedRolex), or channels drawn in every round (``random``). The global model is
    distilled whole."""
    counts: Literal["dynamic", "static"] = "dynamic"
    """Which label counts weigh the clients: of the images that they trained on in this
    round (paper), or of all that they have (DFDG)."""
    generator: GeneratorConfig = GeneratorConfig()
    """The generator."""
    distil: DistilConfig = DistilConfig()
    """The distillation."""

    @model_validator(mode="after")
    def _something_to_learn(self) -> DFRDConfig:
        if self.start == "previous" and self.distil.steps == 0:
            raise ValueError(
                "expected distil.steps above 0 with start: previous, found 0; then "
                "nothing would ever change the global model"
            )
        return self


DFDG_OPTIONS: dict[str, Any] = {
    "variant": "dfdg",
    "counts": "static",
    "start": "previous",
    "generator": {
        "merge": "mul",
        "output": "as_is",
        "latent_size": 100,
        "width": 64,
        "steps": 20,
        "lr": 2e-4,
        "transferability_weight": 1.0,
        "diversity_weight": 1.0,
        "diversity": "l2",
    },
    "distil": {
        "steps": 200,
        "global_steps": 2,
        "batch_size": 64,
        "lr": 0.01,
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "temperature": 10.0,
        "labels": "iid",
        "ema_weight": 0.0,
    },
}
"""DFDG's program ``DFAD``, with its defaults."""

PUBLISHED_OPTIONS: dict[str, Any] = {
    "variant": "paper",
    "generator": DFDG_OPTIONS["generator"] | {"output": "classifier", "steps": 5},
    "distil": {
        k: v for k, v in DFDG_OPTIONS["distil"].items() if not k.startswith("ema")
    }
    | {"temperature": 1.0},
}
"""The paper's losses at its temperature, with the distances of L_div and the amounts of
DFDG and, of the generator, the steps of the paper."""
