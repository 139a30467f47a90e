"""Local training of several models of one architecture at once, in batched steps.

The weights of K models are stacked, ``[K, ...]``, and a step of all of them launches as
many kernels as a step of one. Each model goes on from its own weights, with its own
batches; nothing flows between them. Sums are added up in another order than in
:func:`fedkd.ops.training.train`, so weights agree to rounding, not to the bit.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.dropout import _DropoutNd

from fedkd.data.images import ClientData, Draw
from fedkd.ops.hooks import has_hooks
from fedkd.ops.training import TrainingConfig


@dataclass(frozen=True)
class PendingTraining:
    """Training of a model whose batches are drawn and that is not done yet."""

    model: nn.Module
    """Maps images ``[B, C, H, W]`` to logits ``[B, classes]``; changed in place."""
    data: ClientData
    draws: Sequence[Draw]
    """One for each step."""
    training: TrainingConfig


@dataclass(frozen=True)
class Sums:
    """What came of a training."""

    loss: float
    """Sum of the losses of all steps."""
    examples: int
    """Images that went through a step."""
    steps: int


def stackable(model: nn.Module) -> bool:
    """Say whether a batched step can do what a step of ``model`` does.

    Dropout would draw other numbers, hooks would see batched tensors, and of weights that
    have two names ``functional_call`` leaves a batched one behind. What else does not work
    shows when it is tried.
    """
    tensors = [*model.parameters(), *model.buffers()]
    if len(tensors) < _names(model):
        return False
    drops = (isinstance(m, _DropoutNd) and m.p > 0 for m in model.modules())
    return not has_hooks(model) and not any(drops)


def _names(model: nn.Module) -> int:
    """Return the number of names of a model's parameters and buffers."""
    parameters = model.named_parameters(remove_duplicate=False)
    buffers = model.named_buffers(remove_duplicate=False)
    return len([*parameters, *buffers])


def kind_of(pending: PendingTraining) -> Hashable:
    """Return a value that is equal for those that can be done together.

    It tells layers and weights by type, shape and name, not what layers are set to: they
    must also be known to have one architecture. Numbers of steps may differ.
    """
    model, training = pending.model, pending.training
    layers = tuple(type(layer) for layer in model.modules())
    weights = tuple(
        (name, p.shape, p.dtype, p.device, p.requires_grad)
        for name, p in model.named_parameters()
    )
    buffers = tuple((name, b.shape, b.dtype) for name, b in model.named_buffers())
    rate = (training.lr, training.momentum, training.weight_decay, training.clip_norm)
    return layers, weights, buffers, rate, training.augment, pending.data.source_id


def train_together(trainings: Sequence[PendingTraining]) -> list[Sums]:
    """Train models of one kind in place, in train mode, by SGD.

    As :func:`fedkd.ops.training.train` with cross-entropy does each.

    Raises:
        RuntimeError: If a layer cannot be batched; then no model was changed.
    """
    by_row, order = _arranged(trainings)
    for pending in trainings:
        pending.model.train()
    stack = _Stack([pending.model for pending in by_row], trainings[0].training)
    total_K = torch.zeros(len(trainings), device=trainings[0].data.device)
    done = [0] * len(trainings)
    with _without_remarks():
        for rows in _schedule([_sizes(pending) for pending in by_row]):
            draws = [by_row[row].draws[done[row]] for row in rows]
            x, y = trainings[0].data.made(Draw.joined(draws))
            shape = (len(rows), len(draws[0].chosen))
            place = _place(rows, x.device)
            losses = stack.step(place, x.unflatten(0, shape), y.unflatten(0, shape))
            total_K[place] += losses
            for row in rows:
                done[row] += 1
    stack.write_back()
    totals = total_K.tolist()
    return [
        Sums(totals[row], sum(_sizes(pending)), len(pending.draws))
        for pending, row in zip(trainings, order, strict=True)
    ]


class _Stack:
    """Weights, buffers and momenta of K models, ``[K, ...]`` each."""

    def __init__(self, models: Sequence[nn.Module], training: TrainingConfig) -> None:
        self._models = models
        self._training = training
        parameters = [dict(model.named_parameters()) for model in models]
        trained = [n for n, p in parameters[0].items() if p.requires_grad]
        buffers = [dict(model.named_buffers()) for model in models]
        held = [p | b for p, b in zip(parameters, buffers, strict=True)]
        stacked = {name: _stacked([h[name] for h in held]) for name in held[0]}
        self._held = held
        self._weights = {name: stacked.pop(name) for name in trained}
        self._rest = stacked
        self._momenta = (
            {name: torch.zeros_like(v) for name, v in self._weights.items()}
            if training.momentum
            else {}
        )

    def step(self, place: slice | Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Do a step of the models at ``place`` on ``x [K, B, ...]``, ``y [K, B]``.

        Returns:
            The loss of each, ``[K]``.
        """
        weights = {n: v[place].requires_grad_() for n, v in self._weights.items()}
        rest = {n: v[place] for n, v in self._rest.items()}
        momenta = {n: v[place] for n, v in self._momenta.items()}

        def answer(weights: Any, rest: Any, x: Tensor) -> Tensor:
            logits: Tensor = functional_call(self._models[0], (weights, rest), (x,))
            return logits

        logits_KBC: Tensor = torch.vmap(answer)(weights, rest, x)
        flat = F.cross_entropy(logits_KBC.flatten(0, 1), y.flatten(), reduction="none")
        loss_K = flat.view(y.shape).mean(1)
        values = list(weights.values())
        # A sum, so that each model's gradient is that of its own loss.
        grads = torch.autograd.grad(loss_K.sum(), values, allow_unused=True)
        used = [name for name, g in zip(weights, grads, strict=True) if g is not None]
        self._descend(
            [weights[n] for n in used],
            [g for g in grads if g is not None],
            [momenta[n] for n in used if momenta],
        )
        if isinstance(place, Tensor):
            self._put(place, weights, rest, momenta)
        return loss_K.detach()

    @torch.no_grad()
    def _descend(self, values: Any, grads: Any, momenta: Any) -> None:
        """Do what :class:`fedkd.ops.sgd.FastSgd` does; momenta started at zero."""
        training = self._training
        if training.clip_norm is not None:
            _clip(grads, training.clip_norm)
        if training.weight_decay:
            grads = torch._foreach_add(grads, values, alpha=training.weight_decay)
        if momenta:
            torch._foreach_mul_(momenta, training.momentum)
            torch._foreach_add_(momenta, grads)
            grads = momenta
        torch._foreach_add_(values, grads, alpha=-training.lr)

    @torch.no_grad()
    def _put(self, place: Tensor, *parts: dict[str, Tensor]) -> None:
        """Put rows that were copied out back in."""
        wholes = (self._weights, self._rest, self._momenta)
        for whole, part in zip(wholes, parts, strict=True):
            for name, value in part.items():
                whole[name][place] = value

    @torch.no_grad()
    def write_back(self) -> None:
        """Copy what came out into the models, in place."""
        for name, value in (self._weights | self._rest).items():
            targets: Any = [held[name] for held in self._held]
            sources: Any = _laid_out(value, targets[0]).unbind()
            torch._foreach_copy_(targets, sources)
        for held in self._held:
            for value in held.values():
                value.grad = None


@contextlib.contextmanager
def _without_remarks() -> Iterator[None]:
    """Hide that some views, as in average pooling, are made one by one: it costs little."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
        yield


def _stacked(values: Sequence[Tensor]) -> Tensor:
    # Batched kernels know no other layout.
    return torch.stack([v.detach() for v in values]).contiguous()


def _laid_out(stacked: Tensor, like: Tensor) -> Tensor:
    """Return a stack whose rows lie in memory as ``like`` does: one launch copies all."""
    if like.is_contiguous():
        return stacked
    strides = (like.numel(), *like.stride())
    return stacked.new_empty_strided(stacked.shape, strides).copy_(stacked)


def _clip(grads: Sequence[Tensor], limit: float) -> None:
    """Scale the gradients ``[K, ...]`` of each model to a norm of ``limit`` at most."""
    norms_PK = torch.stack([g.flatten(1).norm(dim=1) for g in grads])
    scale_K = (limit / (norms_PK.norm(dim=0) + 1e-6)).clamp(max=1.0)
    for g in grads:
        g.mul_(scale_K.view(-1, *[1] * (g.dim() - 1)))


def _sizes(pending: PendingTraining) -> list[int]:
    return [len(draw.chosen) for draw in pending.draws]


def _arranged(
    trainings: Sequence[PendingTraining],
) -> tuple[list[PendingTraining], list[int]]:
    """Return trainings as rows of the stack, and the row of each.

    Who has most batches of full size comes first: then those that still go on are always
    the first rows, which need no copying.
    """
    sizes = [_sizes(pending) for pending in trainings]
    full = max((max(s, default=0) for s in sizes), default=0)
    ranked = sorted(
        range(len(trainings)), key=lambda k: (-sizes[k].count(full), sizes[k], k)
    )
    row_of = {k: row for row, k in enumerate(ranked)}
    return [trainings[k] for k in ranked], [row_of[k] for k in range(len(trainings))]


def _schedule(sizes: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Yield the rows that do their next step together, until all steps are done.

    Args:
        sizes: The sizes of each row's batches, in order.

    Only batches of one size go together. The smallest go first: the rows that wait
    meanwhile are then joined by the others for their larger ones.
    """
    done = [0] * len(sizes)
    while True:
        following = {
            row: own[done[row]] for row, own in enumerate(sizes) if done[row] < len(own)
        }
        if not following:
            return
        least = min(following.values())
        rows = [row for row, size in following.items() if size == least]
        for row in rows:
            done[row] += 1
        yield rows


def _place(rows: Sequence[int], device: torch.device) -> slice | Tensor:
    """Return what indexes these rows: a slice, which copies nothing, where it can."""
    first, last = rows[0], rows[-1]
    if last - first + 1 == len(rows):
        return slice(first, last + 1)
    return torch.tensor(rows).to(device, non_blocking=True)
