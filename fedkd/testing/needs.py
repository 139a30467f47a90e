"""For each need that a strategy can declare, a toy world in which it is not met."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fedkd.party import ModelSpec
from fedkd.simulation.federation import Federation
from fedkd.simulation.protocol import Protocol
from fedkd.strategy import Requires
from fedkd.testing.toys import toy_federation, toy_images, toy_protocol, toy_vectors

POLICIES = Requires().buffers
"""All buffer policies."""


@dataclass(frozen=True)
class Violation:
    """A world in which a need is not met."""

    words: str
    """What the refusal says."""
    models: Sequence[str | ModelSpec] = ("cnn",)
    buffers: Callable[[Requires], str] = lambda requires: requires.buffers[0]
    mixes: bool = False
    """Whether it takes different models, which pooled clients do not have."""
    size: int = 8
    """The side of the images."""
    rounds: int = 3
    participation: float = 1.0
    """Share of the three clients that take part in a round."""
    public: bool = True
    """Whether it has public data."""
    vectors: bool = False
    """Whether its inputs are vectors."""

    def world(self, requires: Requires) -> tuple[Federation, Protocol]:
        """Return the world for a strategy with these needs."""
        changes: dict[str, Any] = {
            "buffers": self.buffers(requires),
            "participation": self.participation,
        }
        protocol = toy_protocol(self.rounds, **changes)
        inputs = toy_vectors() if self.vectors else toy_images(size=self.size)
        world = toy_federation(models=self.models, data=inputs, public=self.public)
        return world, protocol


VIOLATIONS = {
    "one_architecture": Violation(
        "needs one architecture", models=("cnn", "mlp"), mixes=True
    ),
    "nested_widths": Violation(
        "needs one family at nested widths", models=("cnn", "mlp"), mixes=True
    ),
    "equal_feature_size": Violation(
        "needs features of one size",
        models=("cnn", ModelSpec("cnn", {"width": 0.5})),
        mixes=True,
    ),
    "shared_layers": Violation(
        "needs models with the same last",
        models=("cnn", ModelSpec("cnn", {"width": 0.5})),
        mixes=True,
    ),
    "batch_norm": Violation("needs batch normalisation", models=("cnn-plain",)),
    "public_data": Violation("needs public data", public=False),
    "public_data_at_clients": Violation("needs public data", public=False),
    "buffers": Violation(
        "supports the buffer policies",
        buffers=lambda requires: next(p for p in POLICIES if p not in requires.buffers),
    ),
    "images": Violation("needs images", models=("mlp",), vectors=True),
    "rounds": Violation("needs 2 rounds", rounds=1),
    "clients": Violation("in a round, and there is 1", participation=0.3),
    "builds": Violation("will build", models=("mlp",), size=6),
}
"""By field of :class:`fedkd.strategy.Requires`."""


def needs_of(requires: Requires) -> list[str]:
    """Return the fields that ask for more than their defaults do."""
    plain = Requires()
    return [f for f in VIOLATIONS if getattr(requires, f) != getattr(plain, f)]
