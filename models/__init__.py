"""The models that come with fedkd: a module for each family of architectures."""

from __future__ import annotations

from fedkd.hookspecs import Register, hookimpl

CLASSIFIERS = {
    "mlp": (
        "mlp:Mlp",
        "Fully connected layers; two of 200 by default. For vectors, too.",
    ),
    "linear": (
        "mlp:Linear",
        "Softmax regression on vectors or pixels.",
    ),
    "cnn": ("cnn:Cnn", "Small: convolutions 16-32-64 with BatchNorm, 64 features."),
    "cnn-plain": (
        "cnn:CnnPlain",
        "The small convolutional network without normalisation.",
    ),
    "lenet4": (
        "cnn:Lenet4",
        'The "Lenet" of DFRD: convolutions 64-128-256-512 with BatchNorm.',
    ),
    "resnet18": ("resnet:ResNet18", "ResNet-18 with the stem for small images."),
    "resnet34": ("resnet:ResNet34", "ResNet-34 with the stem for small images."),
    "resnet50": ("resnet:ResNet50", "ResNet-50 with the stem for small images."),
    "vgg11": ("vgg:Vgg11", "VGG-11 with BatchNorm and one linear layer."),
    "mobilenet": (
        "mobilenet:MobileNet",
        "MobileNet v2 with the stem for small images.",
    ),
    "shufflenet": (
        "shufflenet:ShuffleNet",
        "ShuffleNet v2 1x with the stem for small images; has no widths.",
    ),
    "vit": ("vit:Vit", "Vision transformer: small patches, 192 values, 6 blocks."),
}

MIXES = {
    "mix-2": ("MIX_2", "Two light families: cnn, resnet18."),
    "mix-3": ("MIX_3", "Three light families: cnn, resnet18, vgg11."),
    "mix-4": ("MIX_4", "Four light families: cnn, resnet18, vgg11, mobilenet."),
    "mix-5": ("MIX_5", "Five light families: cnn, resnet18, vgg11, mobilenet, vit."),
}

CONDITIONAL = {
    "acgan-generator": (
        "AcganGenerator",
        "Noise and labels to images, by transposed convolutions (DFRD).",
        "conditional-generator",
    ),
    "upsampling-generator": (
        "UpsamplingGenerator",
        "Noise and labels to standardised images, by upsampling (FedFTG).",
        "conditional-generator",
    ),
    "vector-generator": (
        "VectorGenerator",
        "Noise and labels to standardised vectors, by linear layers.",
        "conditional-generator",
    ),
    "feature-generator": (
        "FeatureGenerator",
        "Noise and labels to features (FedGen).",
        "feature-generator",
    ),
}


@hookimpl
def fedkd_register_models(register: Register) -> None:
    """Register the built-in models."""
    here = "fedkd.models"
    for name, (target, summary) in CLASSIFIERS.items():
        register(name, f"{here}.{target}", summary=summary, kind="classifier")
    for name, (target, summary) in MIXES.items():
        register(name, f"{here}.mixes:{target}", summary=summary, kind="mix")
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
    register(
        "dense-generator",
        f"{here}.dense_generator:Generator",
        summary="DENSE's generator: noise to images in [0, 1].",
        kind="generator",
    )
    for name, (target, summary, kind) in CONDITIONAL.items():
        register(name, f"{here}.conditional:{target}", summary=summary, kind=kind)
