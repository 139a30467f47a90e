"""The models that come with fedkd: one file for each family of architectures."""

from __future__ import annotations

from fedkd.hookspecs import Register, hookimpl

CLASSIFIERS = {
    "mlp": ("mlp:Mlp", "Fully connected layers on pixels; two of 200 by default."),
    "cnn": ("cnn:Cnn", "Small: convolutions 16-32-64 with BatchNorm, 64 features."),
    "cnn-plain": (
        "cnn:cnn_plain",
        "The small convolutional network without normalisation.",
    ),
    "lenet4": (
        "cnn:Lenet4",
        'The "Lenet" of DFRD: convolutions 64-128-256-512 with BatchNorm.',
    ),
    "resnet18": ("resnet:resnet18", "ResNet-18 with the stem for small images."),
    "resnet34": ("resnet:resnet34", "ResNet-34 with the stem for small images."),
    "resnet50": ("resnet:resnet50", "ResNet-50 with the stem for small images."),
}


@hookimpl
def fedkd_register_models(register: Register) -> None:
    """Register the built-in models."""
    here = "fedkd.models"
    for name, (target, summary) in CLASSIFIERS.items():
        register(name, f"{here}.{target}", summary=summary, kind="classifier")
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
