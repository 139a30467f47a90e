"""The presets of Mosaic, and where their options come from."""

from __future__ import annotations

from typing import Any

from fedkd.algorithms.mosaic.strategy import Mosaic
from fedkd.strategy import Preset

CODE_OPTIONS: dict[str, Any] = {
    # README of the released code: 300 rounds of FedAvg, then 41 of 80 before
    # distillation. Give ``warmup: 341`` with 380 rounds; the share is the same.
    "warmup": 341 / 380,
    "finetune_lr": 1e-4,
    "generator": {
        "start": "first",
        "steps": None,
        "epochs": 200,
        "batch_size": 64,
        "latent_size": 100,
        "width": 64,
        "lr": 2e-4,
        "diversity_weight": 5.0,
        "diversity": "uniform",
        "classifier": "fresh",
        "output_range": "tanh",
        "drop_class_zero": True,
    },
    "teacher": {
        "kind": "meta",
        "meta": "transformer",
        "prototypes": "features",
        "prototype_rounds": 41,
        "steps": 150,
        "lr": 1e-3,
        "ema_correction": False,
        "holdout": 0.0,
    },
    "distil": {
        "steps": 1500,
        "batch_size": 320,
        "sampling": "equal",
        "lr": 1e-4,
        "cosine": False,
        "kl_weight": 0.8,
        "ce_weight": 0.2,
        "overlap_weight": 1.0,
        "overlap": "bhattacharyya",
    },
}

MOSAIC_CODE = Preset(
    Mosaic,
    CODE_OPTIONS,
    doc="The behaviour of the released code, switch by switch.",
    deviations=(
        "one program instead of two: the 300 rounds of FedAvg before are warm-up rounds",
        "rounds are whole passes from named streams, not iterators kept over rounds",
        "features are taken from all local images, not from I batches",
        "prototypes are not sent after distillation, where the code does not use them",
        "two parameters of the meta model that nothing reads (110 values) are left out",
        "a client that only holds class 0 sends no generator; the code divides by zero",
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
        "the teacher is that of 'mosaic' plus log((p_k(c) + eps) / (1 + C eps)), k the "
        "client whose generator made the image; with teacher.kind: global it needs "
        "neither experts nor a meta model",
    ),
)
