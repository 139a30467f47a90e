"""Optimisers as values, and the one step that clients' and servers' training takes.

A value says which optimiser, at which rate; it starts a :class:`Stepper` on parameters::

    adam = Adam(lr=1e-3, schedule=Schedule(cosine=300, per="step")).start(parameters)
    for x, y in batches:
        adam.step(loss(model(x), y), clip_norm=10)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, final

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.optim.adam import adam
from torch.optim.adamw import adamw

from fedkd.config import Config
from fedkd.ops.schedules import Schedule
from fedkd.ops.sgd import FastSgd

Share = Annotated[float, Field(ge=0, lt=1)]
"""A number in [0, 1)."""


class Stepper(ABC):
    """What an :class:`Optimiser` starts: steps on parameters at the rates of a schedule."""

    def __init__(
        self, parameters: Sequence[Tensor], how: Optimiser, time: int = 0
    ) -> None:
        self.parameters = parameters
        self._per_step = how.schedule.per == "step"
        self._course = how.schedule.course(how.lr, time)
        self.lr = next(self._course)
        """The learning rate of the next step."""

    @final
    def step(
        self,
        loss: Tensor,
        clip_norm: float | None = None,
        gradient: Callable[[], None] | None = None,
    ) -> Tensor:
        """Take a step down the gradient of ``loss``, a scalar; return it without graph.

        Args:
            loss: What to minimise.
            clip_norm: Largest norm of all gradients together; None for no clipping.
            gradient: Called after the backward pass and before clipping; may change the
                gradients of the parameters, ``p.grad``, in place.
        """
        self.zero_grad()
        loss.backward()
        if gradient is not None:
            gradient()
        if clip_norm is not None:
            nn.utils.clip_grad_norm_(self.parameters, clip_norm)
        self._descend()
        if self._per_step:
            self.advance()
        return loss.detach()

    @final
    def zero_grad(self) -> None:
        """Drop the gradients; a step does so itself, but only after a forward pass."""
        for p in self.parameters:
            p.grad = None

    @final
    def advance(self) -> None:
        """Move the schedule on by a round or an epoch; one per step moves by itself."""
        self.lr = next(self._course)

    @abstractmethod
    def moments(self) -> dict[str, Tensor]:
        """Return copies of what lasts over steps, by parameter and name, on the CPU.

        A plain mapping of tensors: a strategy may keep it in its state for a later round.
        """

    @abstractmethod
    def restore(self, moments: Mapping[str, Tensor]) -> None:
        """Go on from the moments of an earlier stepper on equal parameters."""

    @abstractmethod
    def _descend(self) -> None:
        """Change the parameters by their gradients, at the rate ``lr``."""


class Optimiser(Config, ABC):
    """Which optimiser, with its numbers; a value that starts a :class:`Stepper`."""

    lr: float = Field(ge=0)
    """Learning rate at the start of the schedule."""
    schedule: Schedule = Schedule()
    """How the learning rate moves."""

    @abstractmethod
    def start(self, parameters: Iterable[Tensor], time: int = 0) -> Stepper:
        """Begin on parameters, which are changed in place, without any moments.

        Args:
            parameters: Leaves of autograd with dense gradients.
            time: Where the schedule stands, say the number of the round.
        """


@final
class Sgd(Optimiser):
    """Stochastic gradient descent, with the bits of ``torch.optim.SGD``."""

    momentum: Share = 0.0
    """Share of the last step that is added to the next one's gradient."""
    weight_decay: float = Field(0.0, ge=0)
    """L2 penalty, added to the gradient."""

    def start(self, parameters: Iterable[Tensor], time: int = 0) -> Stepper:
        """Begin with momentum zero."""
        return _SgdStepper(list(parameters), self, time)


class _Adaptive(Optimiser, ABC):
    """The numbers of Adam and its like."""

    lr: float = Field(1e-3, ge=0)
    """Learning rate at the start of the schedule."""
    betas: tuple[Share, Share] = (0.9, 0.999)
    """How much of the mean gradient, and of its mean square, a step keeps."""
    eps: float = Field(1e-8, gt=0)
    """Added to the root of the mean square, by which a step is divided."""


@final
class Adam(_Adaptive):
    """Adam (Kingma, Ba, arXiv:1412.6980), as ``torch.optim.Adam`` computes it."""

    weight_decay: float = Field(0.0, ge=0)
    """L2 penalty, added to the gradient."""

    def start(self, parameters: Iterable[Tensor], time: int = 0) -> Stepper:
        """Begin with moments zero."""
        return _AdamStepper(list(parameters), self, time, adam)


@final
class AdamW(_Adaptive):
    """AdamW (Loshchilov, Hutter, arXiv:1711.05101), as ``torch.optim.AdamW`` has it."""

    weight_decay: float = Field(1e-2, ge=0)
    """Share of a weight that a step of rate 1 would take away, apart from gradients."""

    def start(self, parameters: Iterable[Tensor], time: int = 0) -> Stepper:
        """Begin with moments zero."""
        return _AdamStepper(list(parameters), self, time, adamw)


@final
class _SgdStepper(Stepper):
    def __init__(self, parameters: Sequence[Tensor], how: Sgd, time: int) -> None:
        super().__init__(parameters, how, time)
        self._sgd = FastSgd(parameters, self.lr, how.momentum, how.weight_decay)

    def moments(self) -> dict[str, Tensor]:
        """Return the last step of each parameter: ``"0.momentum"``."""
        last = self._sgd.last
        return {
            f"{i}.momentum": b.detach().to("cpu", copy=True) for i, b in last.items()
        }

    def restore(self, moments: Mapping[str, Tensor]) -> None:
        """Go on from the last steps of :meth:`moments`."""
        places = {int(key.split(".")[0]): value for key, value in moments.items()}
        self._sgd.last = {
            i: value.to(self.parameters[i], copy=True) for i, value in places.items()
        }

    def _descend(self) -> None:
        self._sgd.lr = self.lr
        self._sgd.step()


@final
class _AdamStepper(Stepper):
    """Steps of torch's Adam or AdamW, without a ``torch.optim.Optimizer``.

    The first of those that a process makes imports torch's compiler, which nothing here
    uses and which takes about as long as torch itself.
    """

    def __init__(
        self,
        parameters: Sequence[Tensor],
        how: Adam | AdamW,
        time: int,
        rule: Callable[..., None],
    ) -> None:
        super().__init__(parameters, how, time)
        self._how = how
        self._rule = rule
        self._state: dict[int, dict[str, Tensor]] = {}
        """Torch's state of each parameter that has taken a step."""

    def moments(self) -> dict[str, Tensor]:
        """Return torch's state of each parameter: ``"0.exp_avg"``."""
        return {
            f"{i}.{name}": value.detach().to("cpu", copy=True)
            for i, values in self._state.items()
            for name, value in values.items()
        }

    def restore(self, moments: Mapping[str, Tensor]) -> None:
        """Go on from the state of :meth:`moments`."""
        self._state = {}
        for key, value in moments.items():
            number, name = key.split(".")
            place = self.parameters[int(number)]
            # Torch counts steps on the CPU, whatever the parameter is on.
            kept = value.clone() if name == "step" else value.to(place, copy=True)
            self._state.setdefault(int(number), {})[name] = kept

    @torch.no_grad()
    def _descend(self) -> None:
        used = [(i, p) for i, p in enumerate(self.parameters) if p.grad is not None]
        for i, p in used:
            if i not in self._state:
                self._state[i] = {
                    "step": torch.zeros(()),
                    "exp_avg": torch.zeros_like(p),
                    "exp_avg_sq": torch.zeros_like(p),
                }
        states = [self._state[i] for i, _ in used]
        beta1, beta2 = self._how.betas
        self._rule(
            [p for _, p in used],
            [p.grad for _, p in used],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=self.lr,
            weight_decay=self._how.weight_decay,
            eps=self._how.eps,
            maximize=False,
        )
