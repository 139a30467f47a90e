"""Mosaic's schedule: which round does what."""

from __future__ import annotations

from dataclasses import dataclass

from fedkd.algorithms.mosaic.config import MosaicConfig
from fedkd.strategy import Round


@dataclass(frozen=True)
class RoundPlan:
    """What one round has besides a round of FedAvg; nothing by default.

    The rounds of warm-up come first. Clients send their generators on the way, the server
    distils after the last of them, or, if nobody answers then, after the first in which
    somebody does; what is left of the run is fine-tuning.
    """

    generators: bool = False
    """Whether clients train and send a generator, if they have sent none yet."""
    features: bool = False
    """Whether clients send feature prototypes."""
    distils: bool = False
    """Whether the server forms the teacher and distils it, if it has a generator."""
    lr: float | None = None
    """The clients' learning rate in fine-tuning; None for the protocol's."""

    @classmethod
    def of(cls, config: MosaicConfig, round: Round, distilled: bool) -> RoundPlan:
        """Return the plan of a round; without steps of distillation all are FedAvg's.

        Args:
            config: The strategy's.
            round: Which it is.
            distilled: Whether the server has distilled before.
        """
        if config.distil.steps == 0:
            return cls()
        if distilled:
            return cls(lr=config.finetune_lr)
        left = warmup_rounds(config.warmup, round.total) - round.index
        teacher = config.teacher
        return cls(
            generators=left <= 1 or config.generator.start == "first",
            features=teacher.wants_features and left <= teacher.prototype_rounds,
            distils=left <= 1,
        )


def warmup_rounds(asked: int | float, total: int) -> int:
    """Return how many of ``total`` rounds run before distillation, at least one.

    ``asked`` is a number of rounds, or a share of them if it has a point.
    """
    rounds = asked if isinstance(asked, int) else round(asked * total)
    return min(max(1, rounds), total)
