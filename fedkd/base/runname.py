"""What a run is called: the words that tell it from the others of a suite."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

Axes: TypeAlias = tuple[tuple[str, str], ...]
"""What tells a point of a grid: ``(("training.lr", "0.05"), ("buffers", "local"))``."""

AXIS_COLUMNS = frozenset(
    {"participation", "buffers", "test_shards", "validation", "faults"}
)
"""Names in results.csv of axes of a grid that are one word and no column of every file."""


@dataclass(frozen=True)
class RunName:
    """What a run is, in the words of its suite: the first columns of ``results.csv``."""

    suite: str
    """Name of the suite."""
    strategy: str
    """Label of the strategy: its registered name, or what the suite calls it."""
    dataset: str
    """The data set's name, with the options that differ from their defaults."""
    partition: str
    """The partitioner's name, with such options but ``alpha``."""
    alpha: float | None
    """Of a Dirichlet partitioner; None for others."""
    models: str
    """The mix: ``cnn``, ``cnn+mlp``, ``cnn[widths=1,0.5]``, ``cnn+mlp>resnet18``."""
    clients: int
    """Clients in the federation."""
    rounds: int
    """Rounds that the run is to have."""
    seed: int
    """Seed of the run."""
    axes: Axes = field(default=(), kw_only=True)
    """Values of what the suite has a list of, where one is expected, by key."""

    @property
    def split(self) -> str:
        """The partition with its alpha: ``dirichlet 0.1``."""
        return with_alpha(self.partition, self.alpha)

    @property
    def title(self) -> str:
        """What messages call the run: ``fedavg, digits, dirichlet 0.1, cnn, seed 0``."""
        axes = (f"{name} {value}" for name, value in self.axes)
        parts = (self.strategy, self.dataset, self.split, self.models, *axes)
        return f"{', '.join(parts)}, seed {self.seed}"


def with_alpha(partition: str, alpha: float | None, between: str = " ") -> str:
    """Return a partition with its alpha, if it has one: ``dirichlet 0.1``."""
    return partition if alpha is None else f"{partition}{between}{alpha:g}"
