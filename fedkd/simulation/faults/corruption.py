"""Answers that are another than their clients made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from fedkd.base.randomness import torch_stream
from fedkd.payload import is_frozen_dataclass
from fedkd.simulation.faults.config import CorruptConfig

Change = Callable[[Tensor, Tensor | None], Tensor]
"""``change(value, sent) -> value``: of a tensor and of what the server has sent under its
name, with its type and shape, or None."""


def corrupted(up: Any, down: Any, how: CorruptConfig, *name: int | str) -> Any:
    """Return an answer as it arrives; equal where the kind finds nothing to change.

    Args:
        up: The payload.
        down: What the server has sent to the client.
        how: What becomes of it.
        name: Of the stream from which noise is drawn.
    """
    if how.kind in ("missing", "extra"):
        return _with_entries(up, how.kind, [False])
    with torch_stream(*name):
        return _changed(up, down, _change(how))


def _change(how: CorruptConfig) -> Change:
    """Return what becomes of a tensor."""
    if how.kind == "shape":
        return lambda value, sent: value.unsqueeze(0).clone()

    def of_floating(value: Tensor, sent: Tensor | None) -> Tensor:
        return of[how.kind](value, sent) if value.is_floating_point() else value

    of: dict[str, Change] = {
        "nan": lambda value, sent: torch.full_like(value, torch.nan),
        "inf": lambda value, sent: torch.full_like(value, torch.inf),
        "dtype": lambda value, sent: value.double(),
        "scale": lambda value, sent: scaled(value, sent, how.factor),
        "sign": lambda value, sent: scaled(value, sent, -1.0),
        "noise": lambda value, sent: noisy(value, sent, how.factor),
    }
    return of_floating


def scaled(value: Tensor, sent: Tensor | None, factor: float) -> Tensor:
    """Return ``sent + factor (value - sent)``; ``factor value`` where nothing was sent."""
    start = torch.zeros_like(value) if sent is None else sent
    return start + factor * (value - start)


def noisy(value: Tensor, sent: Tensor | None, factor: float) -> Tensor:
    """Return ``value + factor r e``: r the root mean square of the update, e Gaussian."""
    update = value if sent is None else value - sent
    size = update.pow(2).mean().sqrt() if value.numel() else 0.0
    return value + factor * size * torch.randn_like(value)


def _changed(value: Any, sent: Any, change: Change) -> Any:
    """Return a tree with every tensor changed; the rest is as it was."""
    if isinstance(value, Tensor):
        alike = isinstance(sent, Tensor) and (sent.shape, sent.dtype) == (
            value.shape,
            value.dtype,
        )
        return change(value, sent if alike else None)
    if is_frozen_dataclass(value):
        names = [one.name for one in fields(value)]
        inside = {n: getattr(sent, n, None) for n in names}
        return _like(
            value, {n: _changed(getattr(value, n), inside[n], change) for n in names}
        )
    if isinstance(value, Mapping):
        other = sent if isinstance(sent, Mapping) else {}
        return {k: _changed(v, other.get(k), change) for k, v in value.items()}
    if isinstance(value, tuple | list):
        same = isinstance(sent, tuple | list) and len(sent) == len(value)
        pairs = zip(value, sent if same else [None] * len(value), strict=True)
        return type(value)(_changed(v, s, change) for v, s in pairs)
    return value


def _with_entries(value: Any, kind: str, done: list[bool]) -> Any:
    """Return a tree whose first mapping lacks its first entry, or has one more."""
    if done[0] or isinstance(value, Tensor):
        return value
    if isinstance(value, Mapping) and value:
        done[0] = True
        first, *rest = value.items()
        if kind == "missing":
            return dict(rest)
        key = max(value) + 1 if isinstance(first[0], int) else "not.asked.for"
        return {**value, key: first[1]}
    if is_frozen_dataclass(value):
        own = {one.name: getattr(value, one.name) for one in fields(value)}
        return _like(value, {n: _with_entries(v, kind, done) for n, v in own.items()})
    if isinstance(value, tuple | list):
        return type(value)(_with_entries(one, kind, done) for one in value)
    return value


def _like(value: Any, content: Mapping[str, Any]) -> Any:
    """Return a frozen dataclass with other content, without asking its constructor.

    What it refuses, a client can send all the same.
    """
    made = object.__new__(type(value))
    for name, one in content.items():
        object.__setattr__(made, name, one)
    return made
