"""The hooks a plug-in may implement: some register things, the others observe.

A plug-in is a module named by an entry point of group ``fedkd``, or a file given with
``--plugin``. It marks its hooks with :data:`fedkd.hookimpl`::

    import fedkd

    @fedkd.hookimpl
    def fedkd_register_strategies(register):
        register("median", "my_package.median:Median", summary="Median of weights.")

Arguments are matched by name, and a hook may leave out those that it does not use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pluggy

from fedkd.base.runname import RunName
from fedkd.base.shown import brief

GROUP = "fedkd"
"""Name of the pluggy project and of the entry-point group."""

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)
"""Marks a function of a plug-in as the implementation of the hook of the same name."""


class Register(Protocol):
    """What a registering hook is given; it may call it never, once or often."""

    def __call__(
        self, name: str, target: str, *, summary: str = "", kind: str = ""
    ) -> None:
        """Offer ``target`` under ``name``.

        Args:
            name: Lower case with hyphens: ``mosaic-code``; of a metric, whose columns are
                named after it, with underscores: ``macro_f1``.
            target: ``"package.module:attribute"``, imported when it is first needed.
                ``":attribute"`` is short for one in the plug-in's own module.
            summary: One line for ``fedkd list``.
            kind: For models: ``classifier`` (the default), ``generator`` (noise to
                images), ``conditional-generator`` (noise and labels to images),
                ``feature-generator`` (noise and labels to features),
                ``discriminator``, or ``mix``: a tuple of mappings, each with the
                ``name`` of a model and its options.
        """


@dataclass(frozen=True)
class RunInfo(RunName):
    """Which run an observer is told about: what it is called, and where it is."""

    run_id: str
    """Name of the run's folder, unique within its results folder."""
    folder: Path | None = None
    """The run's own folder; None when nothing is written."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """The resolved configuration, as in ``config.yaml``."""
    rounds_done: int = 0
    """Rounds of the checkpoint that it goes on from; 0 for a run that starts. Later
    rounds that were heard of before are run, and told, again; ``metrics.jsonl`` has the
    lines of the earlier ones."""

    def __repr__(self) -> str:
        """Return what messages call the run."""
        return brief(self, self.title)


@hookspec
def fedkd_register_strategies(register: Register) -> None:
    """Register strategies: each a ``fedkd.Strategy`` subclass or a ``fedkd.Preset``."""


@hookspec
def fedkd_register_datasets(register: Register) -> None:
    """Register data sets: each a subclass of ``fedkd.Dataset``."""


@hookspec
def fedkd_register_models(register: Register) -> None:
    """Register models: each a class ``(image_shape, num_classes, config)`` with a Config.

    A model without options may be any callable ``(image_shape, num_classes)``.
    """


@hookspec
def fedkd_register_partitioners(register: Register) -> None:
    """Register partitioners: each a subclass of ``fedkd.Partitioner``."""


@hookspec
def fedkd_register_executors(register: Register) -> None:
    """Register executors: each a subclass of ``fedkd.Executor``."""


@hookspec
def fedkd_register_metrics(register: Register) -> None:
    """Register metrics: each a subclass of ``fedkd.Metric``."""


@hookspec
def fedkd_register_observers(register: Register) -> None:
    """Register observers, which run where ``--observer`` names them: ``fedkd.Observer``."""


@hookspec
def fedkd_run_started(run: RunInfo) -> None:
    """Observe that a run starts or goes on from a checkpoint, after ``rounds_done``."""


@hookspec
def fedkd_round_ended(run: RunInfo, metrics: Mapping[str, Any]) -> None:
    """Observe the end of a round; ``metrics`` is its line of ``metrics.jsonl``."""


@hookspec
def fedkd_run_ended(run: RunInfo, result: Mapping[str, Any]) -> None:
    """Observe the end of a run; ``result`` is its row of ``results.csv``.

    ``result.json`` is written after it: a run that is killed before all observers have
    heard of its end goes on from its last checkpoint and tells them again.
    """
