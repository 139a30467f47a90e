"""The benchmark data sets; registered through the same hook as third-party sets."""

from collections.abc import Callable

from fedkd.hookspecs import hookimpl

BUILT_IN = {
    "digits": ("digits:Digits", "1,797 grey 8x8 digits, embedded"),
    "mnist": ("mnist:Mnist", "70,000 grey 28x28 digits"),
    "fashion-mnist": ("fashion_mnist:FashionMnist", "70,000 grey 28x28 garments"),
    "cifar10": ("cifar10:Cifar10", "60,000 colour 32x32 photographs of 10 classes"),
    "cifar100": ("cifar100:Cifar100", "60,000 colour 32x32 photographs of 100 classes"),
}


@hookimpl
def fedkd_register_datasets(register: Callable[..., None]) -> None:
    """Register every built-in data set."""
    for name, (target, summary) in BUILT_IN.items():
        register(name, f"fedkd.datasets.{target}", summary=summary)
