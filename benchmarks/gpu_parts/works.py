"""The work that is measured: rounds of FedAvg on made-up images."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from fedkd.data.images import ImageSet
from fedkd.party import ModelSpec
from fedkd.plugins.registry import load_registry
from fedkd.simulation.federation import Federation
from fedkd.simulation.precision import Precision
from fedkd.simulation.protocol import Protocol

REGISTRY = load_registry()
ENGINES = ("serial", "graphs", "stacked")


@dataclass(frozen=True)
class Work:
    """Rounds of FedAvg on made-up images."""

    name: str
    model: str
    options: dict[str, Any] = field(hash=False)
    shape: tuple[int, int, int] = (1, 28, 28)
    loose: float = 1
    """How much rounding grows in it: tolerances are multiplied by this."""
    clients: int = 10
    images: int = 1280
    """Of each client."""
    steps: int = 20
    batch: int = 64


WORKS = (
    Work(
        "small CNN", "cnn-plain", {"channels": [32, 64], "hidden": 128}, (1, 28, 28), 1
    ),
    Work("ResNet-18", "resnet18", {}, (3, 32, 32), 10),
)
TINY = (
    Work(
        "small CNN", "cnn-plain", {"channels": [4, 8], "hidden": 8}, (1, 12, 12), 1,
        2, 32, 2, 8,
    ),
    Work("ResNet-18", "resnet18", {"width": 0.125}, (3, 16, 16), 10, 2, 16, 2, 8),
)  # fmt: skip


@functools.lru_cache(maxsize=4)
def images_of(work: Work, device: torch.device) -> ImageSet:
    """Return made-up images that can be learnt, on a device."""
    number = work.clients * work.images
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, number + 100)
    pixels = rng.integers(0, 200, (number + 100, *work.shape), dtype=np.uint8)
    pixels[np.arange(len(labels)), :, labels, :] += 55  # a row of each class is bright
    x, y = torch.from_numpy(pixels), torch.from_numpy(labels)
    channels = work.shape[0]
    names = tuple(map(str, range(10)))
    images = ImageSet(
        "made-up", x[:number], y[:number], x[number:], y[number:], names,
        (0.5,) * channels, (0.25,) * channels,
    )  # fmt: skip
    return images.to(device)


def federation_of(work: Work, device: torch.device) -> Federation:
    """Return the clients of ``work``: an equal run of images each."""
    shards = np.split(np.arange(work.clients * work.images), work.clients)
    tests = [np.arange(k, k + 1) for k in range(work.clients)]
    models = [ModelSpec(work.model, dict(work.options))]
    return Federation(images_of(work, device), shards, tests, models, REGISTRY.model)


def protocol_of(work: Work, rounds: int, precision: Precision, **more: Any) -> Protocol:
    """Return a protocol that measures after its last round only."""
    training = {"local_steps": work.steps, "batch_size": work.batch, "lr": 0.01}
    return Protocol(
        rounds=rounds,
        clients=work.clients,
        training={**training, "weight_decay": 0.0, **more},
        evaluation={"every": rounds},
        precision=precision,
    )
