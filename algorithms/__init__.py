"""The strategies that come with fedkd: one file each, with both halves in it."""

from __future__ import annotations

from fedkd.hookspecs import Register, hookimpl


@hookimpl
def fedkd_register_strategies(register: Register) -> None:
    """Register the built-in strategies."""
    here = "fedkd.algorithms"
    register(
        "fedavg",
        f"{here}.fedavg:FedAvg",
        summary="Average of the clients' weights by number of samples.",
    )
    register(
        "fedprox",
        f"{here}.fedprox:FedProx",
        summary="FedAvg with a proximal term that holds clients near the global model.",
    )
    register(
        "fedbn",
        f"{here}.fedbn:FedBN",
        summary="FedAvg that leaves batch normalisation with each client.",
    )
    register(
        "fedrs",
        f"{here}.fedrs:FedRS",
        summary="FedAvg with a restricted softmax for classes a client does not have.",
    )
    register(
        "mosaic",
        f"{here}.mosaic:Mosaic",
        summary="Local generators, class experts and a meta model distilled into one.",
    )
    register(
        "mosaic-code",
        f"{here}.mosaic:MOSAIC_CODE",
        summary="Mosaic as its released code runs it.",
    )
    register(
        "mosaic-origin",
        f"{here}.mosaic:MOSAIC_ORIGIN",
        summary="Mosaic with the origin prior, an extension of this project.",
    )
