"""What a run is, in words: so that no run goes on from another one's checkpoint."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedkd.config import Config
from fedkd.data.images import InputInfo, LabelledSet
from fedkd.errors import ConfigError
from fedkd.simulation.federation import Federation
from fedkd.simulation.sides import Sides
from fedkd.strategy import Strategy

SAMPLE = 1000
"""Inputs of a set that are looked at, evenly spaced; labels are, all of them."""


class OtherRunError(ConfigError):
    """A folder has the checkpoint of another run."""


def identity(strategy: Strategy[Any, Any, Any], sides: Sides) -> dict[str, str]:
    """Return what a run's result depends on, by what it is called."""
    federation = sides.federation
    facts = {
        "strategy": _public_name(type(strategy)),
        "seed": str(sides.seed),
        "data set": f"{federation.data.name} {_digest(_content(federation.data))}",
        "models": ", ".join(spec.key for spec in federation.specs),
        "split": _digest(_split(federation)),
    }
    if federation.public is not None:
        facts["public data"] = _digest(_sample(federation.public.pixels))
    for name, config in (("strategy", strategy.config), ("protocol", sides.protocol)):
        if isinstance(config, Config):
            facts |= _flat(name, config.model_dump(mode="json"))
    return facts


def require_same(folder: Path, stored: dict[str, str], wanted: dict[str, str]) -> None:
    """Refuse a checkpoint of another run.

    What only one of them has is an option of another version, and no difference.

    Raises:
        OtherRunError: If any part differs; names the parts and both values of the first.
    """
    other = [name for name in wanted if stored.get(name, wanted[name]) != wanted[name]]
    if other:
        first = other[0]
        raise OtherRunError(
            f"{folder} holds a checkpoint of another run, which differs in: "
            f"{', '.join(other)}. Its {first}: {stored[first]}; here: "
            f"{wanted[first]}. Give this run another folder, or delete that one."
        )


def _public_name(kind: type) -> str:
    """Return a class's full name, by its package where that has it too.

    So a method that becomes a package of several modules is still the same one.
    """
    package = sys.modules[kind.__module__].__package__ or ""
    is_there = getattr(sys.modules.get(package), kind.__name__, None) is kind
    return f"{package if is_there else kind.__module__}.{kind.__qualname__}"


def _flat(name: str, value: Any) -> dict[str, str]:
    """Return the values of nested mappings by their path, ``strategy.distil.steps``."""
    if not isinstance(value, Mapping):
        return {name: json.dumps(value, sort_keys=True)}
    values: dict[str, str] = {}
    for key, one in value.items():
        values |= _flat(f"{name}.{key}", one)
    return values


def _digest(parts: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{len(part)}:".encode())
        digest.update(part)
    return digest.hexdigest()[:16]


def _content(data: LabelledSet) -> Iterator[bytes]:
    """Yield what tells a data set from others: facts, labels and some of its inputs."""
    yield _facts(data.info).encode()
    for inputs, labels in ((data.x_train, data.y_train), (data.x_test, data.y_test)):
        yield from _sample(inputs)
        yield _bytes(labels)


def _facts(info: InputInfo) -> str:
    """Return the public facts as one text, in the form that checkpoints have."""
    values = (f"{one.name}={getattr(info, one.name)!r}" for one in fields(info))
    return f"{type(info).__qualname__}({', '.join(values)})"


def _sample(images: Tensor) -> Iterator[bytes]:
    """Yield some images, evenly spaced."""
    places = torch.linspace(0, len(images) - 1, min(SAMPLE, len(images)))
    yield _bytes(images[places.long().to(images.device)])


def _split(federation: Federation) -> Iterator[bytes]:
    """Yield which client has which images and which architecture."""
    for client, tests in zip(federation.clients, federation.test_shards, strict=True):
        yield _bytes(client.indices)
        yield _bytes(tests)
    for parts in federation.periods:
        for part in parts:
            yield _bytes(part.indices)
    for held in () if federation.validation is None else federation.validation.shards:
        yield np.asarray(held).tobytes()
    for spec in (federation.server_model, *federation.client_models):
        yield spec.key.encode()


def _bytes(tensor: Tensor) -> bytes:
    return tensor.cpu().contiguous().numpy().tobytes()
