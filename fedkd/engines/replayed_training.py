"""Local training whose plain steps are captured once as a CUDA graph and replayed.

A step of a small network on a GPU takes as long as launching its kernels one by one from
Python. A graph launches all of them at once; it reads and writes the same memory every
time, so everything that a step touches stays where it is: the model's weights, which are
loaded in place, the draw of the batch, the learning rate, the momentum, the sum of losses.

On a CPU the same objects run the same function on the same memory, without a capture.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedkd.data.images import ClientData, Draw
from fedkd.engines.replay import Replay
from fedkd.engines.static_sgd import StaticSgd
from fedkd.ops.hooks import has_hooks
from fedkd.ops.tf32 import tf32_flags
from fedkd.ops.training import (
    LossFunction,
    TrainingConfig,
    TrainingReport,
    draws_of,
    report_of,
    train,
)

KEPT = 16
"""Steps of different models and settings that are kept; the oldest leaves."""


class PlainStep:
    """An SGD step on the cross-entropy of one model, with all it needs in one place."""

    def __init__(
        self, model: nn.Module, data: ClientData, training: TrainingConfig
    ) -> None:
        """Reserve the memory; nothing is captured before the first replay.

        Args:
            model: What is trained, in place.
            data: Any client's data; batches of others with the same images are made too.
            training: Momentum and weight decay; the rate is given to :meth:`start`.
        """
        self.model = model
        self.data = data
        self.total = torch.zeros((), device=data.device)
        """Sum of the losses since the start."""
        parameters = [p for p in model.parameters() if p.requires_grad]
        self.sgd = StaticSgd(parameters, training.momentum, training.weight_decay)
        self._memory = _memory_of(model)
        self._replay: Replay | None = None

    def fits(self, model: nn.Module, data: ClientData) -> bool:
        """Say whether this is the step of ``model``, its tensors being where they were."""
        return (
            self.model is model
            and self.data.source_id == data.source_id
            and self._memory == _memory_of(model)
        )

    def start(self, lr: float) -> None:
        """Begin a client's round."""
        self.total.zero_()
        self.sgd.start(lr)

    def take(self, draw: Draw) -> None:
        """Take a step on the batch of a draw."""
        x, y = self.data.made(draw)
        self.sgd.zero_grad()
        value = F.cross_entropy(self.model(x), y)
        value.backward()
        self.sgd.step()
        self.total.add_(value.detach())

    def replay(self, draw: Draw) -> None:
        """Do as :meth:`take` by replaying, for draws of one size; the first one captures.

        Raises:
            RuntimeError: If the step cannot be captured; it has not been taken then.
        """
        parts = _parts(draw)
        if self._replay is None:
            cropped, mirrored = draw.corners is not None, draw.mirrored is not None

            def take(*own: Tensor) -> None:
                rest = list(own[1:])
                corners = rest.pop(0) if cropped else None
                self.take(Draw(own[0], corners, rest.pop(0) if mirrored else None))

            lasting = [*self.model.parameters(), *self.model.buffers()]
            changed = [*lasting, *self.sgd.last, self.total]
            try:
                self._replay = Replay(take, parts, changed)
            finally:
                self.sgd.zero_grad()
        self._replay(*parts)

    def free(self) -> None:
        """Give back the graph's memory; the next replay captures again."""
        self._replay = None


class Replayer:
    """Trains as :func:`fedkd.ops.training.train`, by replaying plain steps.

    Plain is a step on the cross-entropy without penalty and clipping, of a model without
    hooks, on a full batch; all others run as they always do. A step is captured once for
    each model and batch size, momentum, weight decay, augmentation and precision, and again
    if the model's tensors have been exchanged. The model's ``forward`` must do the same at
    each step: what Python decides or draws there is decided once.
    """

    def __init__(self, ahead: bool | None = None) -> None:
        """Start with no step captured.

        Args:
            ahead: Whether the draws of a call go to the device all at once, which on a GPU
                (the default there) saves the launches of many small copies.
        """
        self._ahead = ahead
        self._steps: OrderedDict[tuple[Any, ...], PlainStep] = OrderedDict()
        self.reason = ""
        """Why capturing was given up; empty as long as it was not."""

    def __call__(
        self,
        model: nn.Module,
        data: ClientData,
        training: TrainingConfig,
        loss: LossFunction | None = None,
        penalty: Callable[[nn.Module], Tensor] | None = None,
    ) -> TrainingReport:
        """Train ``model`` in place; see :func:`fedkd.ops.training.train`.

        Raises:
            DivergedError: If the mean loss is not finite.
        """
        plain = loss is None and penalty is None and training.clip_norm is None
        if self.reason or not plain or not _replayable(model):
            return train(model, data, training, loss, penalty)
        model.train()
        step = self._step_of(model, data, training)
        step.start(training.lr)
        examples = steps = 0
        for draw in self._draws(data, training):
            self._take(step, draw, len(draw.chosen) == training.batch_size)
            examples += len(draw.chosen)
            steps += 1
        # The gradients are the graph's memory; nobody else shall find them.
        step.sgd.zero_grad()
        return report_of(float(step.total), examples, steps, training)

    def clear(self) -> None:
        """Give back the memory of all steps."""
        # Now, and not when the collector comes by: a step and its graph hold each other.
        for step in self._steps.values():
            step.free()
        self._steps.clear()

    def _take(self, step: PlainStep, draw: Draw, full: bool) -> None:
        if not full or self.reason:
            step.take(draw)
            return
        try:
            step.replay(draw)
        except RuntimeError as error:
            self.reason = " ".join(str(error).split()) or type(error).__name__
            self.clear()
            warnings.warn(
                f"a training step cannot be captured as a CUDA graph ({self.reason}); "
                "the run goes on without.",
                RuntimeWarning,
                stacklevel=2,
            )
            step.take(draw)

    def _step_of(
        self, model: nn.Module, data: ClientData, training: TrainingConfig
    ) -> PlainStep:
        key = (
            id(model),
            *(training.batch_size, training.momentum, training.weight_decay),
            training.augment,
            *_arithmetic(data.device),
        )
        step = self._steps.get(key)
        if step is not None and not step.fits(model, data):
            step.free()
            step = None
        if step is None:
            step = self._steps[key] = PlainStep(model, data, training)
        self._steps.move_to_end(key)
        while len(self._steps) > KEPT:
            self._steps.popitem(last=False)[1].free()
        return step

    def _draws(self, data: ClientData, training: TrainingConfig) -> Iterator[Draw]:
        draws = draws_of(data, training)
        ahead = data.device.type == "cuda" if self._ahead is None else self._ahead
        return _sent(list(draws), data.device) if ahead else draws


def _sent(draws: Sequence[Draw], device: torch.device) -> Iterator[Draw]:
    """Yield draws whose tensors have gone to the device together."""
    if not draws:
        return
    whole = Draw.joined(draws)
    sizes = [len(draw.chosen) for draw in draws]
    nothing: list[Tensor | None] = [None] * len(draws)
    chosen = whole.chosen.to(device).split(sizes)
    corners = mirrored = nothing
    if whole.corners is not None:
        corners = list(whole.corners.to(device).split(sizes, 1))
    if whole.mirrored is not None:
        mirrored = list(whole.mirrored.to(device).split(sizes))
    yield from map(Draw, chosen, corners, mirrored)


def _parts(draw: Draw) -> list[Tensor]:
    """Return the tensors of a draw on the device of its first."""
    given = [draw.chosen, draw.corners, draw.mirrored]
    return [part.to(draw.chosen.device) for part in given if part is not None]


def _memory_of(model: nn.Module) -> list[tuple[int, bool]]:
    """Return where a model's tensors are, and which of them are trained."""
    tensors = (*model.parameters(), *model.buffers())
    return [(t.data_ptr(), t.requires_grad) for t in tensors]


def _arithmetic(device: torch.device) -> tuple[Any, ...]:
    """Return the settings that choose the kernels of a step."""
    kind = device.type
    cast = torch.is_autocast_enabled(kind) and torch.get_autocast_dtype(kind)
    return cast, *tf32_flags()


def _replayable(model: nn.Module) -> bool:
    """Say whether a model has weights to train and no hooks, which would run once."""
    return any(p.requires_grad for p in model.parameters()) and not has_hooks(model)
