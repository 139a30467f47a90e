"""A plug-in of fedkd: what it registers, and a logger. Imports nothing heavy."""

import os
from pathlib import Path

import fedkd


@fedkd.hookimpl
def fedkd_register_strategies(register):
    register(
        "median-avg",
        "fedkd_example.median:MedianAvg",
        summary="Coordinate-wise median of the clients' weights.",
    )


@fedkd.hookimpl
def fedkd_register_datasets(register):
    register(
        "stripes",
        "fedkd_example.stripes:Stripes",
        summary="Generated 8x8 images of bars in four directions.",
    )


@fedkd.hookimpl
def fedkd_register_partitioners(register):
    register(
        "round-robin",
        "fedkd_example.robin:RoundRobin",
        summary="Sample i goes to client i mod n.",
    )


@fedkd.hookimpl
def fedkd_round_ended(run, metrics):
    _log(f"round {metrics['round']} of {run.strategy}")


@fedkd.hookimpl
def fedkd_run_ended(run, result):
    _log(f"end of {run.strategy} on {run.dataset}: {result['status']}")


def _log(line):
    path = os.environ.get("FEDKD_EXAMPLE_LOG")
    if path:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(line + "\n")
