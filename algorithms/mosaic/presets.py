"""The options of Mosaic's presets, and where each comes from."""

from __future__ import annotations

from typing import Any

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

ORIGIN_OPTIONS: dict[str, Any] = {"teacher": {"origin_prior": True}}
