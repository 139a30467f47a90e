"""What is counted of a run: sums over its rounds."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fedkd.simulation.faults.clock import SECONDS
from fedkd.simulation.faults.config import PREFIX

REJECTED = "rejected"
"""Key of a turn's record: why the server has left out the answer; missing if it has not.
Key of a round's line: how many answers it has left out so far; missing if none."""


@dataclass(frozen=True)
class MeasuringCost:
    """What measuring a round cost the clients."""

    bytes_up: int = 0
    bytes_down: int = 0
    examples: int = 0
    """Images that went through a training step of a client's ``personal``."""


@dataclass(frozen=True)
class Totals:
    """Sums over the rounds so far."""

    bytes_up: int = 0
    bytes_down: int = 0
    client_examples: int = 0
    personal_examples: int = 0
    """Those of ``client_examples`` that clients trained on to be measured."""
    server_examples: int = 0
    seconds: float = 0.0
    phases: dict[str, float] = field(default_factory=dict)
    """Seconds by phase, where they are measured."""
    rejected: int = 0
    """Answers that the server has left out."""
    faults: dict[str, int] = field(default_factory=dict)
    """Clients that were hit, a round each, by fault; empty without faults."""
    simulated: float | None = None
    """Simulated seconds; None without a clock."""
    engines: tuple[str, ...] = ()
    """The executors of the rounds, each once."""

    def after(
        self,
        rows: Collection[Mapping[str, Any]],
        server_examples: int,
        measuring: MeasuringCost,
        seconds: float,
        engine: str,
    ) -> Totals:
        """Return the totals after one more round, ``phases`` as they are.

        Args:
            rows: What was counted of each client.
            server_examples: Images that went through a training step of the server.
            measuring: What measuring sent and trained.
            seconds: How long the round took.
            engine: The executor of the round.
        """
        up, down, examples = (
            sum(row[key] for row in rows)
            for key in ("bytes_up", "bytes_down", "examples")
        )
        return replace(
            self,
            bytes_up=self.bytes_up + up + measuring.bytes_up,
            bytes_down=self.bytes_down + down + measuring.bytes_down,
            client_examples=self.client_examples + examples + measuring.examples,
            personal_examples=self.personal_examples + measuring.examples,
            server_examples=self.server_examples + server_examples,
            rejected=self.rejected + sum(REJECTED in row for row in rows),
            seconds=self.seconds + seconds,
            engines=tuple(dict.fromkeys((*self.engines, engine))),
        )

    def hit(self, faults: Mapping[str, int], simulated: float | None) -> Totals:
        """Return the totals with what went wrong in one more round.

        Args:
            faults: How many clients were hit, by fault.
            simulated: Seconds that the round took; None without a clock.
        """
        every = {k: self.faults.get(k, 0) + n for k, n in faults.items()}
        took = None if simulated is None else (self.simulated or 0.0) + simulated
        return replace(self, faults=every, simulated=took)

    def columns(self) -> dict[str, Any]:
        """Return what a line of ``metrics.jsonl`` has of them."""
        return {
            "bytes_up": self.bytes_up,
            "bytes_down": self.bytes_down,
            "client_examples": self.client_examples,
            "personal_examples": self.personal_examples,
            "server_examples": self.server_examples,
            "seconds": round(self.seconds, 4),
            **({REJECTED: self.rejected} if self.rejected else {}),
            **{f"{PREFIX}_{name}": number for name, number in self.faults.items()},
            **({} if self.simulated is None else {SECONDS: round(self.simulated, 6)}),
            **({"phases": self.phases} if self.phases else {}),
        }


def means_of_logged(rows: Iterable[Mapping[str, Any]]) -> dict[str, float | None]:
    """Return the mean over clients of every logged value that is finite."""
    values: dict[str, list[float]] = {}
    for row in rows:
        for key, value in row["logged"].items():
            values.setdefault(key, []).extend([] if value is None else [value])
    return {
        key: sum(numbers) / len(numbers) if numbers else None
        for key, numbers in sorted(values.items())
    }
