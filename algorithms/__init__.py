"""The strategies that come with fedkd: one file each, with both halves in it."""

from __future__ import annotations

from fedkd.hookspecs import Register, hookimpl

STRATEGIES = {
    "fedavg": (
        "fedavg:FedAvg",
        "Average of the clients' weights by number of samples.",
    ),
    "local": ("local:Local", "Reference: every client trains alone."),
    "ensemble": (
        "ensemble:Ensemble",
        "Reference: the mean logits of models that clients trained alone.",
    ),
    "central": ("central:Central", "Reference: training on all data in one place."),
    "fedprox": (
        "fedprox:FedProx",
        "FedAvg with a proximal term that holds clients near the global model.",
    ),
    "fedbn": (
        "fedbn:FedBN",
        "FedAvg that leaves batch normalisation with each client.",
    ),
    "fedrs": (
        "fedrs:FedRS",
        "FedAvg with a restricted softmax for classes a client does not have.",
    ),
    "mosaic": (
        "mosaic:Mosaic",
        "Local generators, class experts and a meta model distilled into one.",
    ),
    "mosaic-code": ("mosaic:MOSAIC_CODE", "Mosaic as its released code runs it."),
    "mosaic-origin": (
        "mosaic:MOSAIC_ORIGIN",
        "Mosaic with the origin prior, an extension of this project.",
    ),
}


@hookimpl
def fedkd_register_strategies(register: Register) -> None:
    """Register the built-in strategies."""
    for name, (target, summary) in STRATEGIES.items():
        register(name, f"fedkd.algorithms.{target}", summary=summary)
