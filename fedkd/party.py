"""What each side of a federation may touch: the server no data, a client its own."""

from __future__ import annotations

import copy
import json
import math
import operator
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from fedkd.base.forms import plain_numbers, require
from fedkd.base.shown import brief
from fedkd.data.images import ClientData, ImageInfo, InputInfo, require_images
from fedkd.data.public import PublicData
from fedkd.errors import ContractError
from fedkd.ops.optimisers import Optimiser
from fedkd.ops.training import (
    GradientHook,
    LossFunction,
    Objective,
    Penalty,
    TrainingConfig,
    TrainingReport,
    train,
)
from fedkd.payload import Weights
from fedkd.weights import copy_weights


@dataclass(frozen=True)
class ModelSpec:
    """A registered classifier with its options."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(self.name, (str,), "model", "the name of a registered one")
        require(self.options, (Mapping,), f"model {self.name}", "a mapping of options")
        object.__setattr__(self, "options", plain_numbers(self.options))

    @cached_property
    def key(self) -> str:
        """A text that is equal for equal specs; it names the stream of initial weights.

        Options of None are left out: a new one changes no weights of models without it.
        """
        given = {name: v for name, v in self.options.items() if v is not None}
        return f"{self.name}{json.dumps(given, sort_keys=True)}"

    @property
    def shown(self) -> str:
        """What tables call it: ``cnn`` or ``cnn[width=0.5]``."""
        parts = [f"{k}={v}" for k, v in self.options.items() if v is not None]
        return f"{self.name}[{','.join(parts)}]" if parts else self.name


class ModelBuilder(Protocol):
    """Builds a registered model by name for the inputs of this run."""

    def __call__(self, name: str, **options: Any) -> nn.Module:
        """Return a new model with initial weights drawn from the current stream."""


class Trainer(Protocol):
    """Trains as plain :func:`fedkd.ops.training.train`: SGD on the cross-entropy."""

    def __call__(
        self, model: nn.Module, data: ClientData, training: TrainingConfig
    ) -> TrainingReport:
        """Train ``model`` in place on ``data``, maybe together with other models."""


class Party:
    """What one side may touch during one call. Not subclassed outside this module."""

    def __init__(
        self,
        model: nn.Module,
        initial: Weights,
        device: torch.device,
        inputs: InputInfo,
        builder: ModelBuilder,
        buffers: str = "average",
    ) -> None:
        self.model = model
        """A working copy of this side's model; its content is undefined: load first."""
        self.initial = initial
        """The initial weights of this side's model, equal for equal architectures."""
        self.device = device
        self.inputs = inputs
        """Shape, classes and normalisation of the inputs, images or vectors."""
        self.buffers = buffers
        """The run's buffer policy: ``average``, ``local`` or ``reestimate``."""
        self._builder = builder
        self._public: PublicData | None = None
        self._examples = 0
        self._logged: dict[str, float | None] = {}

    def __repr__(self) -> str:
        """Return which side it is, and its model's class."""
        return brief(self, *self._facts(), type(self.model).__name__)

    def _facts(self) -> tuple[str, ...]:
        """Return what tells it from others of its side."""
        return ()

    @property
    def examples(self) -> int:
        """Images that went through a training step during this call."""
        return self._examples

    @property
    def logged(self) -> Mapping[str, float | None]:
        """What was logged during this call; None for what was not finite."""
        return MappingProxyType(self._logged)

    @property
    def images(self) -> ImageInfo:
        """What :attr:`inputs` is where the data are images.

        Raises:
            ContractError: If the data are vectors.
        """
        side = type(self).__name__.lower()
        require_images(self.inputs.shape, f"{side}.images", f"{side}.inputs")
        assert isinstance(self.inputs, ImageInfo), "it has the shape of images"
        return self.inputs

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.inputs.num_classes

    @property
    def public(self) -> PublicData:
        """Images that everybody may see, without labels.

        Raises:
            ContractError: If the strategy does not declare that this side needs them.
        """
        if self._public is None:
            kind = type(self).__name__.lower()
            need = "public_data" if kind == "server" else "public_data_at_clients"
            raise ContractError(
                f"{kind}.public was read, and this side has no public data; declare it: "
                f"requires = Requires({need}=True)."
            )
        return self._public

    def build(self, name: str, **options: Any) -> nn.Module:
        """Return a new registered model (say, a generator) on the device."""
        return self._builder(name, **options)

    def load(self, weights: Weights) -> nn.Module:
        """Copy ``weights`` into the working model, in place, and return the model.

        Entries that ``weights`` lacks keep their value.

        Raises:
            ContractError: If ``weights`` has an entry that the model has not, or one of
                another shape.
        """
        copy_weights(weights, self.model)
        return self.model

    def count_examples(self, number: int) -> None:
        """Count images of a training step done outside :meth:`Client.train`.

        Raises:
            ContractError: If ``number`` is no whole number from 0 on.
        """
        whole = None if isinstance(number, bool) else _index(number)
        if whole is None or whole < 0:
            raise ContractError(
                f"count_examples was given {number!r}; expected a whole number from 0 "
                "on, the images of a training step. Give it len(labels)."
            )
        self._examples += whole

    def log(self, name: str, value: float | Tensor) -> None:
        """Record a number for the run's metrics. It is measured, not sent.

        It stands in a place of its own, whatever it is called: no name overwrites what
        the simulator counts. What is not finite is recorded as missing.

        Raises:
            ContractError: If ``name`` is no text or ``value`` is not one number.
        """
        number = None if isinstance(value, str | bytes) else _number(value)
        if number is None or not isinstance(name, str):
            raise ContractError(
                f"log was given the name {name!r} and {_shown(value)}; expected a text "
                "and one number. Log other things one number at a time."
            )
        self._logged[name] = number if math.isfinite(number) else None


def _index(value: Any) -> int | None:
    """Return a whole number of any type as an int; None if it is none."""
    try:
        return operator.index(value)
    except (TypeError, ValueError):
        return None


def _number(value: Any) -> float | None:
    """Return a number of any type as a float; None if it is none."""
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        return None


def _shown(value: Any) -> str:
    """Return what a message calls a value: a short text, and of a tensor its shape."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {list(value.shape)}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"


ModelSource = Callable[[ModelSpec], tuple[nn.Module, Weights]]
"""Gives the shared working model of a spec and its initial weights."""


class Server(Party):
    """The server's side: a model and a device. It has no data, by its type."""

    def __init__(  # noqa: PLR0913 - the one place where a server is put together
        self,
        model: nn.Module,
        initial: Weights,
        device: torch.device,
        inputs: InputInfo,
        builder: ModelBuilder,
        buffers: str = "average",
        *,
        spec: ModelSpec,
        clients: Sequence[ModelSpec],
        models: ModelSource,
        public: PublicData | None = None,
    ) -> None:
        super().__init__(model, initial, device, inputs, builder, buffers)
        self._public = public
        self.spec = spec
        """The architecture of the server's model."""
        self.clients = clients
        """The architecture of every client, by number: public facts, no data."""
        self._models = models

    @property
    def alike(self) -> tuple[int, ...]:
        """The clients whose models have the server's architecture, ascending."""
        own = self.spec.key
        return tuple(k for k, spec in enumerate(self.clients) if spec.key == own)

    def client_model(self, k: int, weights: Weights | None = None) -> nn.Module:
        """Return a new copy of the model of client ``k``, on the device, in eval mode.

        Args:
            k: The client.
            weights: What it holds; the initial weights of its architecture if None.

        Raises:
            ContractError: If ``weights`` has an entry that the model has not, or one of
                another shape.
        """
        working, initial = self._models(self.clients[k])
        model = copy.deepcopy(working)
        copy_weights(initial if weights is None else weights, model)
        return model.eval()


class Client(Party):
    """One client's side: its data, its working model and its private memory."""

    def __init__(  # noqa: PLR0913 - the one place where a client is put together
        self,
        model: nn.Module,
        initial: Weights,
        device: torch.device,
        inputs: InputInfo,
        builder: ModelBuilder,
        buffers: str = "average",
        *,
        id: int,
        data: ClientData,
        memory: MutableMapping[str, Any],
        training: TrainingConfig,
        trainer: Trainer = train,
        public: PublicData | None = None,
    ) -> None:
        super().__init__(model, initial, device, inputs, builder, buffers)
        self._public = public
        self.id = id
        self.data = data
        """This client's training data, and nobody else's."""
        self.memory = memory
        """A private store that lasts over rounds: trees as in :mod:`fedkd.payload`."""
        self.training = training
        """Local training settings, with the learning rate of this round."""
        self._trainer = trainer

    def _facts(self) -> tuple[str, ...]:
        return str(self.id), f"{len(self.data):,} inputs"

    def train(  # noqa: PLR0913 - the parts of one loop, each of which may be given
        self,
        loss: LossFunction | None = None,
        penalty: Penalty | None = None,
        gradient: GradientHook | None = None,
        optimiser: Optimiser | None = None,
        training: TrainingConfig | None = None,
        *,
        objective: Objective | None = None,
        model: nn.Module | None = None,
    ) -> TrainingReport:
        """Train the working model on the local data; count the images, log the loss.

        The loss that is logged, ``train_loss``, is that of the report: the criterion's
        mean over the steps, without the penalty.

        Args:
            loss: ``loss(logits [B, C], labels [B]) -> scalar``; cross-entropy if None.
            penalty: ``penalty(model) -> scalar``, added to each step's loss.
            gradient: ``gradient(model)``, called in each step after the backward pass
                and before clipping; may change ``p.grad`` of parameters in place.
            optimiser: Replaces the run's SGD and its learning rate; it starts anew.
            training: Settings other than the run's.
            objective: ``objective(model, inputs [B, C, H, W] or [B, D], labels [B])`` in
                place of ``loss``: returns the criterion and a term beside it, or None.
            model: What is trained in place of the working model, say a second one of the
                client, or several in a ``ModuleDict`` by an objective of all.

        Raises:
            ContractError: If both a loss and an objective are given.
            DivergedError: If the loss or the penalty is not finite.
        """
        settings = training or self.training
        trained = self.model if model is None else model
        if all(
            p is None for p in (loss, penalty, gradient, optimiser, objective, model)
        ):
            report = self._trainer(trained, self.data, settings)
        else:
            report = train(
                trained,
                self.data,
                settings,
                loss,
                penalty,
                objective=objective,
                gradient=gradient,
                optimiser=optimiser,
            )
        self.count_examples(report.examples)
        self.log("train_loss", report.loss)
        return report
