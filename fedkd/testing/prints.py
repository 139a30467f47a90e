"""Fingerprints of values: what two of them differ in, by path and to the bit."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

Print: TypeAlias = dict[str, str]
"""A short text for each leaf of a value, by path; equal for equal bits."""


def fingerprint(value: object) -> Print:
    """Return the fingerprint of any value.

    It is the same in every process for what :mod:`fedkd.payload` lets travel. Other
    objects are followed through their attributes, modules through their state.
    """
    leaves: Print = {}
    _add_leaves(leaves, value, "", ())
    return leaves


def difference(before: Print, after: Print) -> str | None:
    """Return the path of the first leaf that differs, came or went; None if none."""
    paths = dict.fromkeys([*before, *after])
    differing = [path for path in paths if before.get(path) != after.get(path)]
    if not differing:
        return None
    first = differing[0]
    for path in differing:
        # What has another length is less to the point than what came or went in it.
        first = path if path.startswith(f"{first}." if first else "") else first
    return first or "its value"


def _add_leaves(leaves: Print, value: Any, path: str, above: tuple[int, ...]) -> None:
    # Most leaves are of these kinds exactly; a run has tens of thousands.
    text = _TEXTS.get(type(value))
    if text is not None:
        leaves[path] = text(value)
        return
    if id(value) in above:
        leaves[path] = f"the {type(value).__name__} that it is in"
        return
    children = None if isinstance(value, _LEAVES) else _children(value)
    if children is None:
        leaves[path] = _text(value)
        return
    # Kind and length: an empty list is no empty dict, and neither is nothing.
    leaves[path] = f"{type(value).__name__} of {len(children)}"
    inside = (*above, id(value))
    for name, child in children.items():
        _add_leaves(leaves, child, f"{path}.{name}" if path else str(name), inside)


def _children(value: Any) -> dict[Any, Any] | None:
    """Return what a value is made of, by name; None for a leaf."""
    if isinstance(value, Mapping | tuple | list):
        return dict(value.items() if isinstance(value, Mapping) else enumerate(value))
    if isinstance(value, nn.Module):
        return dict(value.state_dict(keep_vars=True))
    if inspect.ismethod(value):
        return {value.__name__: value.__self__}
    if callable(value):
        return None
    if dataclasses.is_dataclass(value):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    return dict(vars(value)) if hasattr(value, "__dict__") else None


_LEAVES = (str, int, float, Tensor, np.ndarray, torch.Generator, type, set, frozenset)


def _text(value: Any) -> str:
    if isinstance(value, torch.Generator):
        value = value.get_state()
    if isinstance(value, Tensor):
        return _of_tensor(value)
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.shape}{_digest(value.tobytes())}"
    if isinstance(value, set | frozenset):
        return repr(sorted(map(repr, value)))
    return value.hex() if isinstance(value, float) else repr(value)


def _of_tensor(value: Tensor) -> str:
    return f"{value.dtype}{tuple(value.shape)}{_digest(_bytes(value))}"


def _bytes(value: Tensor) -> bytes:
    try:
        return value.numpy(force=True).tobytes()
    except TypeError:  # NumPy has no bfloat16 and its like
        plain = value.detach().cpu().contiguous()
        return plain.reshape(-1).view(torch.uint8).numpy().tobytes()


def _digest(data: bytes) -> str:
    # Processors have instructions for this one: weights are all that takes time.
    return hashlib.sha256(data).hexdigest()


_TEXTS: Mapping[type, Callable[[Any], str]] = {
    Tensor: _of_tensor,
    nn.Parameter: _of_tensor,
    float: float.hex,
    **dict.fromkeys((str, int, bool, type(None)), repr),
}
"""What :func:`_text` says of values of exactly these kinds."""
