"""Weighted averages of model states, and which entries of a state are what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fedkd.errors import listing
from fedkd.payload import Weights

_NUDGE = 1e-6
"""Keeps an average of whole numbers that is one, up to rounding, from being cut below."""


def normalised(weights: Sequence[float] | Tensor) -> Tensor:
    """Return p_k = w_k / sum_j w_j, float64 ``[K]``.

    Raises:
        ValueError: If a weight is negative or not finite, or if they sum to zero.
    """
    raw_K = torch.as_tensor(weights, dtype=torch.float64)
    total = raw_K.sum()
    if not torch.isfinite(total) or bool((raw_K < 0).any()) or total == 0:
        shown = listing(f"{w:g}" for w in raw_K.tolist())
        raise ValueError(
            f"cannot average with the weights [{shown}]: expected finite numbers from 0 "
            "on, at least one of them above 0."
        )
    return raw_K / total


def weighted_average(
    states: Iterable[Weights], weights: Sequence[float] | Tensor
) -> dict[str, Tensor]:
    """Return sum_k p_k s_k with p_k = w_k / sum_j w_j (FedAvg, Algorithm 1, server).

    Weights are normalised first, so that a state with all the weight comes back bit for
    bit. Floating entries are summed in their own type and in the order given; whole-
    number entries are summed in float64 and truncated. States with weight zero are left
    out. ``states`` may be a generator: only one state and the sum are held at a time.

    Args:
        states: Model states with equal entries.
        weights: w_k, as many as there are states.

    Raises:
        ValueError: If the weights cannot be normalised, are not as many as the states,
            or if the states differ in their entries.
    """
    sums: dict[str, Tensor] = {}
    types: dict[str, torch.dtype] = {}
    for share, state in zip(normalised(weights).tolist(), states, strict=True):
        if share == 1.0:
            return {name: value.detach().clone() for name, value in state.items()}
        if share == 0.0:
            continue
        if not sums:
            types = {name: value.dtype for name, value in state.items()}
        _check_entries(types, state)
        for name, value in state.items():
            part = _summand(value)
            # One pass over memory: the product is not written down.
            known = name in sums
            sums[name] = sums[name].add_(part, alpha=share) if known else part * share
    return {name: _as_type(value, types[name]) for name, value in sums.items()}


def _check_entries(known: Iterable[str], state: Weights) -> None:
    odd = set(known) ^ set(state)
    if odd:
        raise ValueError(
            "cannot average states of different models; these entries are not in all "
            f"of them: {listing(sorted(odd))}."
        )


def _summand(value: Tensor) -> Tensor:
    real = value.is_floating_point() or value.is_complex()
    return value.detach() if real else value.detach().double()


def _as_type(total: Tensor, wanted: torch.dtype) -> Tensor:
    if total.dtype == wanted:
        return total
    return (total + _NUDGE * total.sign()).trunc().to(wanted)


def class_weights(counts_KC: Tensor) -> Tensor:
    """Return tau_kc = n_kc / sum_j n_jc, float64 ``[K, C]``; zero where no j has c."""
    counts_KC = counts_KC.double()
    total_C = counts_KC.sum(0)
    return counts_KC / torch.where(total_C > 0, total_C, 1.0)


def batch_norm_entries(model: nn.Module) -> frozenset[str]:
    """Return the entries of all BatchNorm layers: parameters and buffers.

    Layers are found by type; names such as ``shortcut.1`` hide some of them.
    """
    return frozenset(
        f"{path}.{entry}" if path else entry
        for path, layer in model.named_modules()
        if isinstance(layer, _BatchNorm)
        for entry in layer.state_dict()
    )


def buffer_entries(model: nn.Module) -> frozenset[str]:
    """Return the entries of a model's state that are no parameters."""
    buffers = {name for name, _ in model.named_buffers(remove_duplicate=False)}
    return frozenset(buffers & set(model.state_dict()))
