"""The models that come with fedkd: one file for each family of architectures."""

from __future__ import annotations

from fedkd.hookspecs import Register, hookimpl


@hookimpl
def fedkd_register_models(register: Register) -> None:
    """Register the built-in models."""
    here = "fedkd.models"
    register(
        "mlp",
        f"{here}.mlp:Mlp",
        summary="Fully connected layers on pixels; two of 200 units by default.",
        kind="classifier",
    )
    register(
        "cnn",
        f"{here}.cnn:Cnn",
        summary="Small: convolutions 16-32-64 with BatchNorm, 64 features.",
        kind="classifier",
    )
    register(
        "cnn-plain",
        f"{here}.cnn:cnn_plain",
        summary="The small convolutional network without normalisation.",
        kind="classifier",
    )
    register(
        "lenet4",
        f"{here}.cnn:Lenet4",
        summary='The "Lenet" of DFRD: convolutions 64-128-256-512 with BatchNorm.',
        kind="classifier",
    )
    for depth in (18, 34, 50):
        register(
            f"resnet{depth}",
            f"{here}.resnet:resnet{depth}",
            summary=f"ResNet-{depth} with the stem for small images.",
            kind="classifier",
        )
    register(
        "dcgan-generator",
        f"{here}.dcgan:Generator",
        summary="DCGAN generator: noise to images in [-1, 1].",
        kind="generator",
    )
    register(
        "dcgan-discriminator",
        f"{here}.dcgan:Discriminator",
        summary="DCGAN discriminator: images to the logit of being real.",
        kind="discriminator",
    )
