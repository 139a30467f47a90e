"""The data sets that come with fedkd: how to read and check the files of each."""

from __future__ import annotations

from fedkd.hookspecs import Register, hookimpl

DATASETS = {
    "digits": ("digits:Digits", "1,797 digits, 8x8 grey; comes with scikit-learn."),
    "mnist": ("mnist:MNIST", "70,000 handwritten digits, 28x28 grey."),
    "fashion-mnist": (
        "fashion_mnist:FashionMNIST",
        "70,000 articles of clothing, 28x28 grey.",
    ),
    "svhn": ("svhn:SVHN", "99,289 digits of house numbers, 32x32 colour."),
    "cifar10": ("cifar10:CIFAR10", "60,000 photos of 10 classes, 32x32 colour."),
    "cifar100": ("cifar100:CIFAR100", "60,000 photos of 100 classes, 32x32 colour."),
    "tiny-imagenet": (
        "tiny_imagenet:TinyImageNet",
        "110,000 photos of 200 classes, 64x64 colour.",
    ),
    "food101": ("food101:Food101", "101,000 photos of 101 dishes, of many sizes."),
    "digits-five": (
        "digits_five:DigitsFive",
        "Digits of several sets, each a domain; 32x32 colour.",
    ),
    "wine": ("tables:Wine", "178 wines, 13 values; comes with scikit-learn."),
    "breast-cancer": (
        "tables:BreastCancer",
        "569 tumours, 30 values; comes with scikit-learn.",
    ),
    "vectors": ("vectors:Vectors", "Your own vectors, such as embeddings: an .npz."),
    "folder": ("folder:Folder", "Your own images: a folder by class, or an .npz."),
}


@hookimpl
def fedkd_register_datasets(register: Register) -> None:
    """Register the built-in data sets."""
    for name, (target, summary) in DATASETS.items():
        register(name, f"fedkd.datasets.{target}", summary=summary)
