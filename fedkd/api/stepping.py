"""A simulation step by step: the loop over rounds in the hands of the caller."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from fedkd.api.asked import Named
from fedkd.api.given import each, files_given, model_given
from fedkd.api.said import said_in_python
from fedkd.base.forms import require, whole_number
from fedkd.base.shown import accuracy_facts, brief
from fedkd.config import build
from fedkd.errors import ConfigError
from fedkd.harness.environment import reproducible
from fedkd.plugins.registry import Registry, load_registry
from fedkd.simulation.federation import Federation
from fedkd.simulation.kept import model_of
from fedkd.simulation.protocol import Protocol
from fedkd.simulation.simulator import Metrics, Run
from fedkd.strategy import Round, Strategy
from fedkd.suite.entries import normalise, strategy_entry
from fedkd.suite.metrics import built, metrics_of

WHERE = "fedkd.rounds"


@dataclass(frozen=True, repr=False)
class RoundResult:
    """A round that is over."""

    number: int
    """Which one, from 1."""
    clients: tuple[int, ...]
    """The clients that took part, in ascending order."""
    metrics: Metrics
    """Its line, as in metrics.jsonl: ``global_accuracy``, ``bytes_up`` and so on."""
    state: Any
    """The strategy's state after it."""
    _round: Round = field(compare=False)
    _run: Run = field(compare=False)

    def model(self, title: str = "global", *, client: int | None = None) -> nn.Module:
        """Return a model as it was measured after this round: a copy, on the CPU.

        Args:
            title: Of a model that the strategy names.
            client: Whose model is wanted instead: its own, or the global one if it has
                none.

        Raises:
            ConfigError: If there is no such model or client, or a later round has run.
        """
        if self._run.lines[-1]["round"] != self.number:
            raise ConfigError(
                f"round {self.number}: a later round has changed what clients remember; "
                "ask for its models before the next round."
            )
        wanted = model_given(title, client)
        with reproducible(self._run.sides.federation.device):
            return model_of(self._run, self.state, self._round, *wanted)

    def __repr__(self) -> str:
        """Return number, clients and accuracy."""
        where, accuracy = accuracy_facts(self.metrics)
        return brief(self, where, f"{len(self.clients)} clients", accuracy)


def rounds(  # noqa: PLR0913 - the parts of a run
    strategy: Named | Strategy[Any, Any, Any],
    federation: Federation,
    *,
    rounds: int,
    training: Mapping[str, Any],
    seed: int | None = None,
    metrics: Iterable[Named] = (),
    plugins: Iterable[str | Path] = (),
    **protocol: Any,
) -> Iterator[RoundResult]:
    """Run a strategy round by round; nothing is written.

    In the world of :func:`fedkd.federation`, the numbers are those of ``fedkd bench``.

    Args:
        strategy: Its name, a mapping of a name and options, or a strategy.
        federation: The world.
        rounds: How many there are in all; some methods plan by it.
        training: Local training, as in a suite: ``{"local_steps": 10, "lr": 0.05}``.
        seed: Of the run; that of the federation's split if None.
        metrics: What is measured beside accuracy, as in a suite.
        plugins: Plug-ins of one file each.
        protocol: ``participation``, ``evaluation``, ``buffers`` and ``precision``, as in
            a suite.

    Returns:
        An iterator over the rounds. A round runs when it is asked for.

    Raises:
        ConfigError: If an option is unknown or cannot be used.
        NotApplicableError: If the strategy cannot run in this federation.
    """
    require(
        federation, (Federation,), f"{WHERE}: federation", "what fedkd.federation gave"
    )
    if seed is None:
        seed = federation.seed
    if seed is None:
        raise ConfigError(
            f"{WHERE}: seed: this federation was built by hand and has none; give one."
        )
    seed = whole_number(seed, f"{WHERE}: seed", least=0)
    files = files_given(plugins, f"{WHERE}: plugins")
    with said_in_python(protocol):
        registry = load_registry(files)
    refused = {"clients", "test_shards"} & protocol.keys()
    if refused:
        raise ConfigError(
            f"{WHERE}: {min(refused)}: the federation says that already; leave it out."
        )
    values = {"rounds": rounds, "training": training, **protocol}
    asked = build(Protocol, {**values, "clients": len(federation)}, WHERE)
    with said_in_python(protocol):
        label, one = _strategy(strategy, registry)
    listed = normalise({"metrics": each(metrics, f"{WHERE}: metrics")}, WHERE)[
        "metrics"
    ]
    with said_in_python(protocol):
        measures = built(registry, metrics_of(registry, listed, WHERE))
    run = Run.of(one, federation, asked, seed, name=label, metrics=measures)
    return _steps(run)


def _steps(run: Run) -> Iterator[RoundResult]:
    steps = run.rounds(None, 0, lambda _: None)
    while True:
        # Only while it computes: between rounds, torch is the caller's.
        with reproducible(run.sides.federation.device):
            step = next(steps, None)
        if step is None:
            return
        metrics = run.lines[-1]
        yield RoundResult(step.index + 1, step.clients, metrics, run.state, step, run)


def _strategy(
    asked: Named | Strategy[Any, Any, Any], registry: Registry
) -> tuple[str, Strategy[Any, Any, Any]]:
    """Return what messages call a strategy, and the strategy."""
    if isinstance(asked, Strategy):
        return "", asked
    entry = strategy_entry(asked, WHERE)
    if entry.rounds is not None or entry.training:
        raise ConfigError(
            f"{WHERE}: found rounds or training beside the strategy's name; they are "
            "parameters here."
        )
    strategy, _ = registry.strategy(entry.name, entry.options)
    return entry.label, strategy
