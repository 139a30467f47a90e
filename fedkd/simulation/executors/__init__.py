"""Where clients do their turns: here, in processes of this machine, or on a cluster.

Other executors, such as those for GPUs, are plug-ins; see :class:`Executor`.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import torch

from fedkd.base.forms import require, whole_number
from fedkd.base.machine import cores
from fedkd.errors import ConfigError, suggestion
from fedkd.simulation.executors.base import Executor, Serial
from fedkd.simulation.executors.cluster import Cluster
from fedkd.simulation.executors.processes import Processes
from fedkd.simulation.turns import Turns

__all__ = [
    "AUTO",
    "OWN",
    "SERIAL",
    "Choice",
    "Cluster",
    "Executor",
    "Processes",
    "Serial",
    "alone",
    "make_executor",
]

AUTO = "auto"
"""Stands for the executor that says that it is the fastest for a run."""
OWN: dict[str, type[Executor]] = {cls.name: cls for cls in (Serial, Processes, Cluster)}
"""The simulator's own executors, which it knows by name."""


@dataclass(frozen=True)
class Choice:
    """Which executor, and how large.

    On the CPU ``serial``, ``processes`` and ``ray`` give the same bits; others may agree
    with them to rounding.
    """

    executor: str | type[Executor] | tuple[type[Executor], ...] = Serial.name
    """Its class, or its name if it is one of :data:`OWN`. Of several classes a run takes
    that which says it is the fastest; ``auto`` means those of :data:`OWN`."""
    workers: int | None = None
    """Processes that work; one a core if None."""
    ray_address: str = "local"
    """``local`` starts Ray here, ``auto`` joins the cluster that is there; or its
    address."""
    profile: bool = False
    """Whether metrics say where the time went; see :mod:`fedkd.base.phases`."""

    def __post_init__(self) -> None:
        name = self.executor
        if isinstance(name, str) and name not in (AUTO, *OWN):
            raise ConfigError(
                f"unknown executor {name!r}.{suggestion(name, OWN)} Choose one of: "
                f"{', '.join((AUTO, *OWN))}; or give a class, for instance "
                f"load_registry().executor({name!r})."
            )
        require(name, (str, type, tuple), "executor", "its name, or its class")
        if self.workers is not None:
            whole_number(self.workers, "workers")

    @property
    def candidates(self) -> tuple[type[Executor], ...]:
        """The classes of which a run takes one."""
        if isinstance(self.executor, tuple):
            return self.executor
        if isinstance(self.executor, str):
            own = tuple(OWN.values())
            return own if self.executor == AUTO else (OWN[self.executor],)
        return (self.executor,)


SERIAL = Choice()


def alone(choice: Choice) -> Choice:
    """Return the choice for a cell beside which others run: without processes."""
    fit = tuple(cls for cls in choice.candidates if not cls.starts_processes)
    return replace(choice, executor=fit or Serial)


def make_executor(choice: Choice, turns: Turns) -> Executor:
    """Return the executor of a run; it starts nothing before the first round.

    Processes beyond one a client would have no turn to do, and are not asked for.

    Raises:
        ConfigError: If it does not work on this machine.
    """
    workers = min(choice.workers or cores(), len(turns.sides.federation))
    first, *others = choice.candidates
    cls = _fastest(choice.candidates, turns, workers) if others else first
    cls.check_usable(turns.sides.federation.device)
    return cls(turns, workers, choice.ray_address)


def _fastest(
    candidates: tuple[type[Executor], ...], turns: Turns, workers: int
) -> type[Executor]:
    """Return the executor that ``auto`` means for a run."""
    speeds = [(cls, cls.speed(turns, workers)) for cls in candidates]
    known = [(speed, cls) for cls, speed in speeds if speed is not None]
    device = turns.sides.federation.device
    if device.type == "cuda" and not known:
        warnings.warn(
            f"nothing was measured on {torch.cuda.get_device_name(device)} yet, so "
            "clients take their turns one after another; 'python benchmarks/gpu.py' "
            "measures what would be faster, and --executor takes it.",
            RuntimeWarning,
            stacklevel=2,
        )
    best, cls = max(known, key=lambda pair: pair[0], default=(0.0, Serial))
    return cls if best > 1 else Serial
