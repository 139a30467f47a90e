"""Options with which every strategy does all of its stages in a moment, and their names."""

import pytest

from fedkd.plugins.registry import load_registry

QUICK_MOSAIC = {
    "generator": {"steps": 2, "epochs": None, "batch_size": 8, "width": 2},
    "teacher": {"steps": 3, "samples_per_client": 8},
    "distil": {"steps": 2, "batch_size": 8},
}
QUICK_CODE = {
    **QUICK_MOSAIC,
    "generator": {**QUICK_MOSAIC["generator"], "classifier_epochs": 1},
    "teacher": {"steps": 3, "expansion": 2},
}
QUICK_DENSE = {
    "synthesis": {"epochs": 2, "generator_steps": 2, "batch_size": 8, "width": 2},
    "distil": {"batch_size": 8},
}
SHORT_DENSE = {**QUICK_DENSE, "distil": {"steps": 2, "batch_size": 8}}
QUICK_PICTURES = {
    "generator": {"steps": 2, "latent_size": 4, "width": 2},
    "distil": {"steps": 2, "global_steps": 2, "batch_size": 8},
}
QUICK_FEATURES = {"generator": {"steps": 2, "hidden": 8, "batch_size": 8}}
QUICK_SERVER = {"server": {"epochs": 2}}
SETTINGS = {
    "fedala": {"start_window": 2, "start_passes": 2},
    "sda-fl": {
        "images": 4,
        "threshold": 0.4,
        "generator": {"steps": 2, "batch_size": 8, "width": 2},
    },
    "dfrd": QUICK_PICTURES,
    "dfrd-published": QUICK_PICTURES,
    "dfrd-dfdg": QUICK_PICTURES,
    "fedftg": QUICK_PICTURES,
    "fedftg-paper": QUICK_PICTURES,
    "fedftg-published": QUICK_PICTURES,
    "fedftg-official": QUICK_PICTURES,
    "fedftg-lightfed": QUICK_PICTURES,
    "fedgen": QUICK_FEATURES,
    "fedgen-code": QUICK_FEATURES,
    "fedgen-published": QUICK_FEATURES,
    "dense": SHORT_DENSE,
    "dense-paper": QUICK_DENSE,
    "dense-code": QUICK_DENSE,
    "dense-published": QUICK_DENSE,
    "coboosting": SHORT_DENSE,
    "coboosting-code": QUICK_DENSE,
    "coboosting-published": QUICK_DENSE,
    "mosaic": QUICK_MOSAIC,
    "mosaic-paper": {**QUICK_MOSAIC, "teacher": {"steps": 3, "expansion": 2}},
    "mosaic-code": QUICK_CODE,
    "mosaic-code-cifar100": QUICK_CODE,
    "mosaic-origin": QUICK_MOSAIC,
    "mosaic-features": {
        "generator": {"steps": 2, "hidden": 8, "batch_size": 8},
        "teacher": {"steps": 3, "samples_per_client": 8},
        "distil": {"steps": 2, "batch_size": 8},
    },
    "fedtgp": QUICK_SERVER,
    "fedgh-htfllib": QUICK_SERVER,
    "feddf": {"steps": 2, "batch_size": 8},
    "feddf-published": {"steps": 2, "batch_size": 8},
    "fedmd": {"images": 8, "batch_size": 4},
    "fedet": {"steps": 2, "batch_size": 8},
}

EVERY_KIND = (
    *("fedavg", "fedbn", "scaffold", "moon", "heterofl", "fedper", "fedproto"),
    *("feddf", "dense", "fedftg", "dfrd", "fedgen", "mosaic-features"),
    *("mosaic", "mosaic-origin", "mosaic-code"),
)
"""Strategies that between them do all that a strategy does: averages, control variates, own
models, models of several widths, prototypes, public images, generators at either side."""


def marks_of(name):
    """Return the marks of a test of the engine with a strategy.

    The kinds stand for the others: with these the test is a thorough one.
    """
    return [] if name in EVERY_KIND else [pytest.mark.thorough]


def each_strategy(names=None):
    """Return strategies as arguments of a test of the engine; by default all there are."""
    every = load_registry().entries("strategies") if names is None else names
    return [pytest.param(name, marks=marks_of(name)) for name in every]
