"""Runs for Weights & Biases, offline unless told otherwise."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from typing import Any

from fedkd.hookspecs import RunInfo
from fedkd.observers.base import Observer, folder_of, identity

PROJECT = "fedkd"
"""Where ``WANDB_PROJECT`` names no other."""


class Wandb(Observer):
    """Writes into the folder ``wandb`` of a run, for ``wandb sync``; offline by default.

    A run that goes on begins that folder anew, with the rounds of its checkpoint. With
    ``WANDB_MODE=online`` it is resumed, and W&B drops the steps that it has.
    """

    package = "wandb"
    extra = "fedkd[wandb]"

    def __init__(self) -> None:
        super().__init__()
        self._run: Any = None

    def begin(self, run: RunInfo) -> None:
        """Start a run of W&B."""
        # Imported here: it takes seconds, and only runs that are watched need it.
        import wandb  # noqa: PLC0415

        mode: Any = os.environ.get("WANDB_MODE", "offline")
        folder = folder_of(run)
        if mode == "offline":
            shutil.rmtree(folder / "wandb", ignore_errors=True)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=identity(run),
            name=run.title,
            group=run.suite,
            dir=str(folder),
            config=dict(run.config),
            mode=mode,
            resume="allow" if mode == "online" else None,
            settings=wandb.Settings(silent=True, console="off"),
        )

    def add(self, run: RunInfo, step: int, values: Mapping[str, float]) -> None:
        """Log the numbers of a round, as those of its step."""
        self._run.log(dict(values), step=step, commit=True)

    def end(self, run: RunInfo, result: Mapping[str, Any]) -> None:
        """Say how the run ended, and finish it."""
        self._run.summary.update({key: result[key] for key in ("status", "reason")})
        self._run.finish(exit_code=0 if result["status"] in ("done", "skipped") else 1)
