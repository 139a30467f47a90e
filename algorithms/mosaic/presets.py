"""The presets of Mosaic, and where their options come from."""

from __future__ import annotations

from typing import Any

from fedkd.algorithms.mosaic.strategy import Mosaic
from fedkd.strategy import Preset

# The amounts of the released code, which stand in for the paper's: those could not be read.
_GENERATOR: dict[str, Any] = {
    "steps": None,
    "epochs": 200,
    "batch_size": 64,
    "latent_size": 100,
    "width": 64,
    "lr": 2e-4,
    "diversity_weight": 5.0,
    "diversity": "uniform",
}
_TEACHER: dict[str, Any] = {
    "kind": "meta",
    "meta": "transformer",
    "prototypes": "features",
    "steps": 150,
    "lr": 1e-3,
    "holdout": 0.0,
}
_DISTIL: dict[str, Any] = {
    "steps": 1500,
    "batch_size": 32,
    "sampling": "each",
    "lr": 1e-4,
    "cosine": False,
    "kl_weight": 0.8,
    "ce_weight": 0.2,
    "overlap_weight": 1.0,
    "overlap": "bhattacharyya",
}
# README of the released code: 300 rounds of FedAvg, then 41 of 80 before distillation.
# Give ``warmup: 341`` with 380 rounds; the share is the same.
_ROUNDS: dict[str, Any] = {"warmup": 341 / 380, "finetune_lr": 1e-4}

PAPER_OPTIONS: dict[str, Any] = {
    **_ROUNDS,
    "generator": {
        **_GENERATOR,
        "discriminator": "local_model",
        "entropy_weight": 1.0,
        "inversion_weight": 0.01,
    },
    "teacher": _TEACHER,
    "distil": _DISTIL,
}
CODE_OPTIONS: dict[str, Any] = {
    **_ROUNDS,
    "generator": {
        **_GENERATOR,
        "start": "first",
        "classifier": "fresh",
        "output_range": "tanh",
        "drop_class_zero": True,
    },
    "teacher": {
        **_TEACHER,
        "centres_sent": 10,
        "features_of": "batches",
        "prototype_rounds": 41,
        "ema_correction": False,
    },
    "distil": _DISTIL,
}
CIFAR100_OPTIONS: dict[str, Any] = {
    **CODE_OPTIONS,
    # 1000 rounds of FedAvg; of the 80 that follow, 41, as on CIFAR-10.
    "warmup": 1041 / 1080,
    "teacher": {**CODE_OPTIONS["teacher"], "per_class": 60, "pooling": "mean"},
    "distil": {**_DISTIL, "lr": 1e-5},
}

_FROM_CODE = (
    "paper: four stages; a generator of each client's own, sent once; class experts; a "
    "meta model; distillation on the images of all generators"
)
_CODE_IS_OURS = (
    "ours: one program instead of two (the rounds of FedAvg before are warm-up rounds); "
    "batches are drawn anew for every purpose and round, from named streams, not from "
    "iterators over unshuffled data that last; one image left alone in a batch is taken "
    "twice; a client that only holds class 0 sends no generator (the code divides by "
    "zero); no NaN where a class is never predicted; the generators of round 249, which "
    "nothing reads, are not trained (there, this also moves the BatchNorm statistics that "
    "clients send); prototypes are not sent after distillation, where nothing reads them; "
    "two parameters of the meta model that nothing reads (110 values, on CIFAR-100 200) "
    "are left out"
)
MOSAIC_PAPER = Preset(
    Mosaic,
    PAPER_OPTIONS,
    doc=(
        "The method as its paper describes it, as far as the abstract and published "
        "summaries show; where they are silent, the released code's amounts."
    ),
    deviations=(
        "paper: the local model is discriminator (a copy, which the game trains) and "
        "classifier (a frozen copy); adversarial, entropy, diversity (to the uniform mix) "
        "and inversion losses, the last for clients with few images; generators start "
        "from the converged model and are sent once; class experts, a meta model trained "
        "on prototypes, distillation on the images of all generators",
        "released code: schedule, networks, amounts and learning rates; experts as "
        "averages by class counts; the transformer and its feature prototypes; the "
        "diversity weight 5 and the inversion weight 10 x 0.001; the loss of distillation",
        "ours: D(x) = Z/(Z+1) of the local model's logits; the entropy weight 1; the "
        "threshold of 1000 images for inversion; images in the range of normalised data; "
        "prototypes of all local images in the last warm-up round alone; an average of the "
        "meta model that forgets its start",
    ),
)
MOSAIC_CODE = Preset(
    Mosaic,
    CODE_OPTIONS,
    doc="The behaviour of the released code, switch by switch, with CIFAR-10's values.",
    deviations=(
        _FROM_CODE,
        "released code: every option; class 0 is dropped in each batch; "
        "a separate discriminator; a fresh classifier in train mode; entropy and inversion "
        "losses off; images in [-1, 1]; centres of features of training batches, "
        "accumulated over 41 rounds; 32 images of each generator in a step",
        _CODE_IS_OURS,
    ),
)
MOSAIC_CODE_CIFAR100 = Preset(
    Mosaic,
    CIFAR100_OPTIONS,
    doc=(
        "The behaviour of the released code with its values for CIFAR-100; its README has "
        "20 local steps there."
    ),
    deviations=(
        _FROM_CODE,
        "released code: as mosaic-code, but 1000 rounds before, k = 60 of which the first "
        "ten centres are sent, the mean over experts, and distillation at 1e-5",
        _CODE_IS_OURS
        + "; the steps of meta model and distillation, which it names for "
        "CIFAR-10 alone",
    ),
)
MOSAIC_ORIGIN = Preset(
    Mosaic,
    {"teacher": {"origin_prior": True}},
    doc=(
        "Our extension, in neither the paper nor the released code: the teacher's "
        "logits carry the log label prior of the client whose generator made the image."
    ),
    deviations=(
        "paper: what mosaic has of it",
        "released code: what mosaic has of it",
        "ours: what mosaic has, and the teacher is that of mosaic plus "
        "log((p_k(c) + eps) / (1 + C eps)), k the client whose generator made the image; "
        "with teacher.kind: global it needs neither experts nor a meta model",
    ),
)
