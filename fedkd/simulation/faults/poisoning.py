"""Clients whose training data are not what they should be, for a whole run."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor

from fedkd.base.randomness import numpy_stream
from fedkd.data.images import ClientData, LabelledSet
from fedkd.data.inputs import described, kind_of
from fedkd.errors import ConfigError
from fedkd.simulation.faults.config import PREFIX, BackdoorConfig, FaultConfig
from fedkd.simulation.faults.plan import Plan
from fedkd.simulation.federation import Exam, Federation

WHITE = 255
ATTACK = "attack_success"
"""Key of a round's line and column of results.csv: percent of the test images of other
classes, with the patch, that are taken for the target."""


def poisoned(federation: Federation, faults: FaultConfig, seed: int) -> Federation:
    """Return a federation with the data that malicious clients train on.

    Test and validation images are as they were. With a backdoor the federation has
    beside them what its success is measured on, ``attack``: test images, so that there
    is nothing where the test set is left alone.

    Args:
        federation: The world; it is left as it is.
        faults: What goes wrong.
        seed: Of the run; the streams are those of :class:`Plan` and, for the images that
            get the patch, ``(seed, "faults", "backdoor", client, "images")``.

    Raises:
        ConfigError: If a backdoor is asked for and the data are no images, or have no
            such class, or are smaller than the patch.
    """
    if faults.label_flip is None and faults.backdoor is None:
        return federation
    plan = Plan(faults, seed, len(federation))
    data = federation.data
    labels = data.y_train.clone()
    for k in sorted(plan.malicious("label_flip")):
        own = federation.clients[k].indices
        labels[own] = flipped(labels[own], data.num_classes)
    twin = copy.copy(federation)
    twin.__dict__.pop("exams", None)
    inputs = data.x_train
    if faults.backdoor is not None:
        require_room(data, faults)
        inputs = inputs.clone()
        for k in sorted(plan.malicious("backdoor")):
            own = _chosen(federation.clients[k].indices, faults.backdoor, seed, k)
            inputs[own] = patched(inputs[own], faults.backdoor.size)
            labels[own] = faults.backdoor.target
        held = federation.validation
        if held is None or not held.alone:
            twin.attack = attack_of(data, faults.backdoor)
    twin.data = replace(data, x_train=inputs, y_train=labels)
    twin.clients = [ClientData(twin.data, c.indices) for c in federation.clients]
    twin.periods = [
        [ClientData(twin.data, part.indices) for part in parts]
        for parts in federation.periods
    ]
    return twin


def flipped(y: Tensor, classes: int) -> Tensor:
    """Return labels int64 ``[n]`` as C - 1 - y."""
    return classes - 1 - y


def patched(x: Tensor, size: int) -> Tensor:
    """Return images uint8 ``[n, C, H, W]`` with a white square in the lower right corner.

    Args:
        x: The images; they are left as they are.
        size: Side of the square, in pixels.
    """
    made = x.clone()
    made[:, :, -size:, -size:] = WHITE
    return made


def attack_of(data: LabelledSet, how: BackdoorConfig) -> Exam:
    """Return all test images of other classes with the patch, labelled as the target."""
    others = data.y_test != how.target
    x = patched(data.x_test[others], how.size)
    y = torch.full_like(data.y_test[others], how.target)
    return Exam(replace(data, x_test=x, y_test=y, groups=None), ())


def _chosen(own: Tensor, how: BackdoorConfig, seed: int, k: int) -> Tensor:
    """Return the positions of a client's images that get the patch."""
    rng = numpy_stream(seed, PREFIX, "backdoor", k, "images")
    number = max(1, round(how.poisoned * len(own)))
    places = torch.from_numpy(rng.permutation(len(own))[:number])
    return own[places.to(own.device)]


def require_room(data: LabelledSet, faults: FaultConfig) -> None:
    """Refuse a backdoor that the data have no room for.

    Raises:
        ConfigError: If the data are no images, or have no such class, or are smaller than
            the patch.
    """
    how = faults.backdoor
    if how is None:
        return
    if kind_of(data.shape) != "images":
        raise ConfigError(
            f"faults.backdoor: found {described(data.shape)}, expected images, which a "
            "patch can be painted on. Leave it out; label_flip is there for both kinds."
        )
    if how.target >= data.num_classes:
        raise ConfigError(
            f"faults.backdoor.target: found {how.target}, expected a class from 0 to "
            f"{data.num_classes - 1}."
        )
    if how.size > min(data.shape[-2:]):
        raise ConfigError(
            f"faults.backdoor.size: found {how.size}, expected a patch that fits "
            f"into {described(data.shape)}."
        )
