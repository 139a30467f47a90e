"""The observers that come with fedkd; each is named with ``--observer``."""

from __future__ import annotations

from fedkd.hookspecs import Register, hookimpl

OBSERVERS = {
    "csv": ("tidy:Tidy", "A tidy CSV file in each run's folder."),
    "mlflow": ("mlflow:Mlflow", "MLflow; needs the extra mlflow."),
    "tensorboard": ("tensorboard:Tensorboard", "TensorBoard; extra tensorboard."),
    "wandb": ("wandb:Wandb", "Weights & Biases, offline; needs the extra wandb."),
}


@hookimpl
def fedkd_register_observers(register: Register) -> None:
    """Register the built-in observers."""
    for name, (target, summary) in OBSERVERS.items():
        register(name, f"fedkd.observers.{target}", summary=summary)
