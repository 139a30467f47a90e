"""Runs for TensorBoard: ``tensorboard --logdir RESULTS`` shows those of a folder."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from typing import Any

from fedkd.hookspecs import RunInfo
from fedkd.observers.base import Observer, folder_of

FOLDER = "tensorboard"
"""Of the event files, in the folder of a run."""


class Tensorboard(Observer):
    """Writes event files into the folder ``tensorboard`` of a run.

    A run that goes on begins the folder anew, with the rounds of its checkpoint.
    """

    package = "tensorboard"
    extra = "fedkd[tensorboard]"

    def __init__(self) -> None:
        super().__init__()
        self._writer: Any = None

    def begin(self, run: RunInfo) -> None:
        """Open an event file in an empty folder."""
        # Imported here: it takes a second, and only runs that are watched need it.
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415

        folder = folder_of(run) / FOLDER
        shutil.rmtree(folder, ignore_errors=True)
        self._writer = SummaryWriter(str(folder))

    def add(self, run: RunInfo, step: int, values: Mapping[str, float]) -> None:
        """Write a scalar for each number."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def end(self, run: RunInfo, result: Mapping[str, Any]) -> None:
        """Write how the run ended, and close the file."""
        text = " ".join(str(result[key]) for key in ("status", "reason"))
        self._writer.add_text("status", text.strip(), run.rounds)
        self._writer.close()
