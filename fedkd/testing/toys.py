"""A toy world: a federation that trains in milliseconds, for tests of strategies."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from fedkd.data.images import ImageSet, LabelledSet
from fedkd.data.public import PublicData
from fedkd.data.vectors import VectorSet, vector_moments
from fedkd.ops.training import TrainingConfig
from fedkd.party import ModelSpec
from fedkd.plugins.registry import Registry, load_registry
from fedkd.simulation.federation import Federation
from fedkd.simulation.protocol import Protocol


def toy_images(
    classes: int = 3, per_class: int = 24, size: int = 8, channels: int = 1
) -> ImageSet:
    """Return a small data set that can be learnt: a bright band per class, and noise."""
    rng = np.random.default_rng(7)
    labels = np.repeat(np.arange(classes), per_class)
    images = rng.integers(0, 96, (len(labels), channels, size, size))
    band = max(1, size // classes)
    for row, label in enumerate(labels):
        images[row, :, label * band : (label + 1) * band, :] += 128
    pixels = torch.from_numpy(images.astype(np.uint8))
    y = torch.from_numpy(labels)
    names = tuple(f"class {c}" for c in range(classes))
    half = torch.arange(len(labels)) % 2 == 0
    mean, std = (0.3,) * channels, (0.25,) * channels
    return ImageSet(
        "toy", pixels[half], y[half], pixels[~half], y[~half], names, mean, std
    )


def toy_vectors(classes: int = 3, per_class: int = 12, values: int = 6) -> VectorSet:
    """Return a small data set of vectors that can be learnt: a corner per class, and noise.

    Its test vectors are the training vectors, moved.
    """
    rng = np.random.default_rng(3)
    y = np.repeat(np.arange(classes), per_class)
    centres = 3 * np.eye(classes, values)
    x = torch.from_numpy(centres[y] + rng.normal(0, 1, (len(y), values))).float()
    mean, std = vector_moments(x)
    labels = torch.from_numpy(y)
    names = tuple(f"class {c}" for c in range(classes))
    return VectorSet("toy", x, labels, x + 0.5, labels, names, mean, std)


def toy_federation(
    clients: int = 3,
    models: Sequence[str | ModelSpec] = ("cnn",),
    data: LabelledSet | None = None,
    public: bool = True,
) -> Federation:
    """Return a federation of toy images with skewed labels: client k lacks class k.

    Args:
        clients: Number of clients.
        models: The mix: client ``i`` has entry ``i mod n``.
        data: The images; :func:`toy_images` if None.
        public: Whether the training images that no client has are public.
    """
    images = toy_images() if data is None else data
    y = images.y_train.numpy()
    shards = [
        np.flatnonzero((np.arange(len(y)) % clients == k) & (y != k))
        for k in range(clients)
    ]
    tests = [np.arange(len(images.y_test))[k::clients] for k in range(clients)]
    specs = [m if isinstance(m, ModelSpec) else ModelSpec(m) for m in models]
    left = np.setdiff1d(np.arange(len(y)), np.concatenate(shards))
    share = PublicData.of_share(images, left) if public and len(left) else None
    return Federation(images, shards, tests, specs, _model, public=share)


def toy_protocol(rounds: int = 3, clients: int = 3, **changes: Any) -> Protocol:
    """Return a short protocol: 2 steps of 8 images."""
    training = TrainingConfig(local_steps=2, batch_size=8, lr=0.05)
    settings = {"rounds": rounds, "clients": clients, "training": training, **changes}
    return Protocol(**settings)


@lru_cache
def toy_registry() -> Registry:
    """Return the registry that toys are built from."""
    return load_registry()


def _model(name: str) -> Any:
    return toy_registry().model(name)
