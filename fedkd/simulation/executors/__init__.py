"""Where clients do their turns: here, in processes of this machine, or on a cluster.

Or here in another way: steps replayed as CUDA graphs, or several clients stacked.
"""

from __future__ import annotations

import importlib.util
import warnings
from dataclasses import dataclass

import torch

from fedkd.base.machine import cores
from fedkd.errors import ConfigError
from fedkd.ops.training import TrainingConfig
from fedkd.simulation.executors.base import Executor, Serial
from fedkd.simulation.executors.graphs import Graphs
from fedkd.simulation.executors.measured import fastest
from fedkd.simulation.turns import Turns

__all__ = [
    "NAMES",
    "SERIAL",
    "Choice",
    "Executor",
    "Serial",
    "alone",
    "check_usable",
    "make_executor",
]

NAMES = ("auto", "serial", "graphs", "stacked", "processes", "ray")
ALONE = ("serial", "graphs", "stacked")
"""Those that start no process: cells that run side by side can have them too."""
ENOUGH = 500
"""Images in a round from which several processes are faster than one."""
PAYS = 10_000
"""Images in a run from which it pays to start them."""


@dataclass(frozen=True)
class Choice:
    """Which executor, and how large.

    On the CPU ``serial``, ``processes`` and ``ray`` give the same bits; ``graphs`` and
    ``stacked`` agree with them to rounding.
    """

    name: str = "serial"
    """One of :data:`NAMES`; ``auto`` takes processes where that pays, and on a GPU what
    was measured there."""
    workers: int | None = None
    """Processes that work; one a core if None."""
    ray_address: str = "local"
    """``local`` starts Ray here, ``auto`` joins the cluster that is found; or its
    address."""
    profile: bool = False
    """Whether metrics say where the time went; see :mod:`fedkd.base.phases`."""

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise ConfigError(
                f"unknown executor {self.name!r}; choose one of: {', '.join(NAMES)}."
            )
        if self.workers is not None and self.workers < 1:
            raise ConfigError(f"workers: found {self.workers}; expected 1 or more.")


SERIAL = Choice()


def alone(choice: Choice) -> Choice:
    """Return the choice for a cell beside which others run: without processes."""
    name = choice.name if choice.name in ALONE else "serial"
    return Choice(name, profile=choice.profile)


def check_usable(name: str, device: torch.device) -> None:
    """Refuse an executor that does not work on this machine or for a device.

    Raises:
        ConfigError: Saying what it needs.
    """
    if name == "processes" and not _has_locks():
        raise ConfigError(
            "the executor 'processes' needs a Unix system; use 'serial' or 'ray'."
        )
    if name != "ray":
        return
    if device.type != "cpu":
        raise ConfigError(
            f"the executor 'ray' is for CPUs: its tasks see no GPU, and this run is "
            f"on {device}. Use another executor, or --device cpu."
        )
    if importlib.util.find_spec("ray") is None:
        raise ConfigError(
            "the executor 'ray' needs Ray; install it with: pip install 'fedkd[ray]' "
            "(from a checkout: pip install -e '.[ray]')."
        )


def make_executor(choice: Choice, turns: Turns) -> Executor:
    """Return the executor of a run; it starts nothing before the first round.

    Raises:
        ConfigError: If it does not work on this machine.
    """
    workers = choice.workers or cores()
    name = _automatic(turns, workers) if choice.name == "auto" else choice.name
    check_usable(name, turns.sides.federation.device)
    if name == "graphs":
        return Graphs(turns)
    if name == "processes":
        from fedkd.simulation.executors.processes import Processes  # noqa: PLC0415 - Unix only

        return Processes(turns, workers)
    if name == "stacked":
        from fedkd.simulation.executors.stacked import Stacked  # noqa: PLC0415 - torch.func

        return Stacked(turns)
    if name == "ray":
        from fedkd.simulation.executors.cluster import Cluster  # noqa: PLC0415 - an extra

        return Cluster(turns, workers, choice.ray_address)
    return Serial(turns)


def _automatic(turns: Turns, workers: int) -> str:
    """Return the executor that ``auto`` means for a run."""
    federation = turns.sides.federation
    if federation.device.type != "cuda":
        return "processes" if workers > 1 and _pays(turns) else "serial"
    device = torch.cuda.get_device_name(federation.device)
    batch = turns.sides.protocol.training.batch_size
    known = fastest(device, turns.sides.largest(), batch)
    if known is None:
        warnings.warn(
            f"nothing was measured on {device} yet, so clients take their turns one "
            "after another; 'python benchmarks/gpu.py' measures what would be faster, "
            "and --executor takes it.",
            RuntimeWarning,
            stacklevel=2,
        )
    return known or "serial"


def _has_locks() -> bool:
    return importlib.util.find_spec("fcntl") is not None


def _pays(turns: Turns) -> bool:
    """Say whether the rounds are long enough for processes to be worth while."""
    sides = turns.sides
    protocol, federation = sides.protocol, sides.federation
    if federation.device.type != "cpu" or not _has_locks():
        return False
    sampled = protocol.clients_per_round()
    mean = sum(len(c) for c in federation.clients) / len(federation)
    images = sampled * _images(protocol.training, mean)
    return sampled > 1 and images >= ENOUGH and images * protocol.rounds >= PAYS


def _images(training: TrainingConfig, mean: float) -> float:
    """Return the images that a client with ``mean`` of them trains on in a round."""
    if training.local_steps is not None:
        return training.local_steps * min(training.batch_size, mean)
    return (training.local_epochs or 1) * mean
