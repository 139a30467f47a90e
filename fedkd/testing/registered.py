"""The conformance suite on what is registered: any strategy, data set, model and so on."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fedkd.errors import ConfigError
from fedkd.plugins.entries import KINDS, Entry
from fedkd.plugins.registry import Registry
from fedkd.testing.checks import STRATEGY_CHECKS
from fedkd.testing.datasets import DATASET_CHECKS
from fedkd.testing.metrics import METRIC_CHECKS
from fedkd.testing.models import MODEL_CHECKS
from fedkd.testing.partitioners import PARTITIONER_CHECKS
from fedkd.testing.report import Report, report
from fedkd.testing.runs import run

_CHECKS = {
    "strategies": STRATEGY_CHECKS,
    "datasets": DATASET_CHECKS,
    "partitioners": PARTITIONER_CHECKS,
    "metrics": METRIC_CHECKS,
}
WITHOUT_CHECKS = {
    "executors": "an executor, of which nothing is promised but the results of serial: run "
    "a suite with both and compare.",
    "observers": "an observer, which is only shown what a run does: run a suite with "
    "--observer and read what it writes.",
}
"""Why things of some kinds are not checked."""
TIMES = 3
"""Runs of each side of which the fastest counts."""


def report_of(
    registry: Registry, entry: Entry, options: Mapping[str, Any], root: Path
) -> Report:
    """Hold a registered thing against the promises of its kind.

    Args:
        registry: Where it is registered.
        entry: What it is.
        options: Its options; those that are left out have their defaults.
        root: The folder with the files of data sets.

    Raises:
        ConfigError: If it is of a kind without checks, or an option is wrong.
        PluginError: If it cannot be loaded.
        ContractError: If it is not what its name must stand for.
    """
    if why := WITHOUT_CHECKS.get(entry.kind_of_thing):
        raise ConfigError(f"{entry.name} is {why}")
    if entry.kind == "mix":
        raise ConfigError(
            f"{entry.name} is a mix of models: check each of them by its name."
        )
    if entry.kind_of_thing == "models":
        build = registry.model(entry.name)
        build((1, 8, 8), 4, **options)  # a wrong option is the user's
        made = functools.partial(build, **options)
        return report(made, MODEL_CHECKS[entry.kind])
    make = maker(registry, entry, options)
    is_data = entry.kind_of_thing == "datasets"
    return report(make, _CHECKS[entry.kind_of_thing], root if is_data else None)


def maker(
    registry: Registry, entry: Entry, options: Mapping[str, Any]
) -> Callable[[], Any]:
    """Return what makes a registered thing with options.

    Raises:
        ConfigError: If an option is wrong, or one that has no default is missing.
    """
    builders: dict[str, Callable[..., tuple[Any, Any]]] = {
        "strategies": registry.strategy,
        "datasets": registry.dataset,
        "partitioners": registry.partitioner,
        "metrics": registry.metric,
    }
    build = builders[entry.kind_of_thing]
    build(entry.name, options)
    return lambda: build(entry.name, options)[0]


def speed_of(registry: Registry, entry: Entry, options: Mapping[str, Any]) -> float:
    """Return a strategy's seconds over those of FedAvg, for a run of the same toy world.

    Each does one run to warm up and then :data:`TIMES`, by turns; the fastest counts.

    Raises:
        ConfigError: If it is no strategy, or an option is wrong.
        NotApplicable: If there is no toy world for it.
    """
    if entry.kind_of_thing != "strategies":
        raise ConfigError(
            f"--speed compares strategies with FedAvg; {entry.name} is a "
            f"{KINDS[entry.kind_of_thing]}. Leave it out."
        )
    sides = (
        maker(registry, entry, options),
        maker(registry, registry.entry("strategies", "fedavg"), {}),
    )
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(TIMES + 1):
        for make, spent in zip(sides, seconds, strict=True):
            began = time.perf_counter()
            run(make())
            spent.extend([time.perf_counter() - began] if turn else [])
    return min(seconds[0]) / min(seconds[1])
