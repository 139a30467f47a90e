"""The only loop over rounds and clients, and the only place that counts."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fedkd.base.folders import RunFolder, made_folder
from fedkd.base.forms import require, whole_number
from fedkd.base.phases import WAITING, Phases, measured, phase
from fedkd.base.shown import accuracy_facts, brief
from fedkd.errors import ConfigError, listing, raised_in
from fedkd.metrics.base import Metric
from fedkd.metrics.metric_set import BY_CLIENT, MetricSet
from fedkd.simulation import metrics as lines
from fedkd.simulation.allocator import keep_freed_memory
from fedkd.simulation.entrance import Entrance
from fedkd.simulation.executors import SERIAL, Choice, Executor, make_executor
from fedkd.simulation.faults.poisoning import poisoned
from fedkd.simulation.faults.transit import Transit, in_order
from fedkd.simulation.federation import Federation
from fedkd.simulation.gallery import save_pictures
from fedkd.simulation.identity import identity
from fedkd.simulation.measure import Measured, Measuring
from fedkd.simulation.precision import check_precision
from fedkd.simulation.protocol import Protocol
from fedkd.simulation.requirements import check_files, fitted, warn_untested
from fedkd.simulation.sampling import sampled
from fedkd.simulation.sides import Sides
from fedkd.simulation.store.answers import Answers
from fedkd.simulation.store.past import Past
from fedkd.simulation.totals import Totals, means_of_logged
from fedkd.simulation.turns import TRAINED, Orders, Turns
from fedkd.simulation.untouched import Untouched, refuse_alias
from fedkd.strategy import Round, Server, Strategy

Metrics = dict[str, Any]
"""One line of ``metrics.jsonl``."""


@dataclass(frozen=True)
class RunResult:
    """What a run leaves."""

    metrics: Metrics
    """The line of the last round."""
    state: Any
    """The strategy's last state."""
    history: tuple[Metrics, ...]
    """The lines of the rounds that this call ran."""
    engine: str = ""
    """The executor that did the clients' turns; several, joined by ``+``, if the run
    went on with another."""
    anew: str = ""
    """Why the run started anew though its folder had a checkpoint, or went on from the
    one before the last, if so."""

    def __repr__(self) -> str:
        """Return the last round and its accuracy."""
        return brief(self, *accuracy_facts(self.metrics), self.engine)


def simulate(  # noqa: PLR0913 - the library's main entry point
    strategy: Strategy[Any, Any, Any],
    federation: Federation,
    protocol: Protocol,
    seed: int,
    *,
    name: str = "",
    folder: Path | str | None = None,
    checkpoint_every: int = 0,
    on_round: Callable[[Metrics], None] | None = None,
    on_start: Callable[[int], Any] | None = None,
    executor: Choice | type[Executor] | str = "serial",
    metrics: Mapping[str, Metric] | None = None,
) -> RunResult:
    """Run a strategy; go on from a checkpoint in ``folder`` if there is one.

    Args:
        strategy: The algorithm.
        federation: The world.
        protocol: Rounds, sampling, training and measuring.
        seed: Names all random streams but the data split, which is in ``federation``;
            from 0 on.
        name: What messages call the strategy; its class name if empty.
        folder: Where metrics, checkpoints and images go; made if it is not there.
            Nowhere if None.
        checkpoint_every: Rounds between checkpoints; 0 for one at the end only.
        on_round: Called with each round's metrics.
        on_start: Called once before the first round that is run, with the number of
            rounds that are done: 0, or those of the checkpoint.
        executor: How clients do their turns: ``serial``, ``processes``, ``ray`` or
            ``auto``; the class of another executor, as
            ``fedkd.load_registry().executor(name)`` gives it; or a
            :class:`fedkd.simulation.executors.Choice`.
        metrics: What is measured beside accuracy, by label: ``{"ece": metric}`` gives
            ``global_ece`` and ``local_ece``. They change no result of training.

    Raises:
        ConfigError: If one of these is of another form, if the number of clients cannot
            be right, if ``folder`` is a file or has another run's checkpoint, or if
            metrics do not fit together.
        NotApplicableError: If the strategy cannot run in this federation.
        ContractError: If the strategy breaks a promise.
        DivergedError: If training gives values that are not finite.
    """
    choice = executor if isinstance(executor, Choice) else Choice(executor)
    world = (federation, protocol, seed)
    every = whole_number(checkpoint_every, "checkpoint_every", least=0)
    run = Run.of(strategy, *world, name=name, executor=choice, metrics=metrics)
    run.on_start = on_start
    home = None if folder is None else made_folder(folder)
    return run.execute(home, every, on_round or (lambda _: None))


_MADE = "a strategy, as fedkd.load_registry().strategy('fedavg')[0] makes one"


class Run:
    """The working parts of one run; :func:`simulate` is the way in."""

    def __init__(
        self,
        strategy: Strategy[Any, Any, Any],
        sides: Sides,
        name: str,
        executor: Choice = SERIAL,
        asked: MetricSet | None = None,
    ) -> None:
        keep_freed_memory()
        self.strategy = strategy
        self.sides = sides
        self.protocol = sides.protocol
        self.name = name
        self.asked = asked or MetricSet()
        self.state: Any = None
        """The strategy's, after the last round that was run."""
        self.lines: list[Metrics] = []
        """Of all rounds so far, those of earlier calls included."""
        self._known = 0
        self.totals = Totals()
        self.phases = Phases() if executor.profile else None
        self.turns = Turns(strategy, sides, name)
        self.transit = Transit(sides)
        self.entrance = Entrance(strategy, sides)
        self.turns.profile = executor.profile
        self._past: Past | None = None
        self.on_start: Callable[[int], Any] | None = None
        self.executor = make_executor(executor, self.turns)

    @classmethod
    def of(  # noqa: PLR0913 - a run is put together in one place
        cls,
        strategy: Strategy[Any, Any, Any],
        federation: Federation,
        protocol: Protocol,
        seed: int,
        *,
        name: str = "",
        executor: Choice = SERIAL,
        metrics: Mapping[str, Metric] | None = None,
        is_over: bool = False,
    ) -> Run:
        """Return the run of a strategy, if it can run there; see :func:`simulate`.

        One that is over is only read, which any device can do.
        """
        require(strategy, (Strategy,), "strategy", _MADE)
        require(federation, (Federation,), "federation", "a fedkd.Federation")
        require(protocol, (Protocol,), "protocol", "a fedkd.Protocol")
        seed = whole_number(seed, "seed", least=0)
        label = name or type(strategy).__name__.lower()
        federation = poisoned(federation, protocol.faults, seed)
        federation, protocol = fitted(strategy, federation, protocol, seed, label)
        if not is_over:
            check_precision(protocol.precision, federation.device)
            check_files(federation, protocol)
        warn_untested(federation)
        sides = Sides(federation, protocol, seed)
        asked = MetricSet(metrics, validated=federation.validation is not None)
        return cls(strategy, sides, label, executor, asked)

    def execute(
        self, folder: Path | None, every: int, on_round: Callable[[Metrics], None]
    ) -> RunResult:
        """Run the rounds that are left; see :func:`simulate`."""
        for _ in self.rounds(folder, every, on_round):
            pass
        history = tuple(self.lines[self._known :])
        engines = "+".join(self.totals.engines)
        anew = "" if self._past is None else self._past.damage
        return RunResult(self.lines[-1], self.state, history, engines, anew)

    def rounds(
        self, folder: Path | None, every: int, on_round: Callable[[Metrics], None]
    ) -> Iterator[Round]:
        """Run the rounds that are left, one each time; yield each when it is over."""
        with contextlib.closing(self.executor):
            self.state, first = self._start(folder)
            self._known = len(self.lines)
            if self.on_start is not None:
                self.on_start(first)
            for index in range(first, self.protocol.rounds):
                round = self.sample(index)
                with measured(self.phases, "bookkeeping"):
                    self.state, metrics = self._round(self.state, round)
                    self.lines.append(metrics)
                    metrics |= self.asked.of_rounds(self.lines)
                    self._keep(folder, self.state, metrics, every)
                    on_round(metrics)
                yield round
            if folder is not None:
                save_pictures(self.strategy, self.sides, self.state, folder, self.name)

    def _start(self, folder: Path | None) -> tuple[Any, int]:
        memories, checkpoint = self.sides.memories, None
        memories.folder = folder
        if folder is not None:
            facts = identity(self.strategy, self.sides)
            self._past = Past(folder, self.name, facts, memories)
            checkpoint = self._past.last()
            lines.truncate(folder, checkpoint.rounds_done if checkpoint else 0)
            self.lines = lines.read_metrics(RunFolder(folder))
            self._require_measured(folder)
        if checkpoint is not None:
            self.totals = checkpoint.totals
            self.transit.waiting = checkpoint.late
            if self.phases is not None:
                self.phases.add(checkpoint.totals.phases)
            return checkpoint.state, checkpoint.rounds_done
        return self.sides.widened(
            self.sides.start(self.strategy, self.name), self.name
        ), 0

    def _require_measured(self, folder: Path) -> None:
        """Refuse to go on from rounds in which something was not measured."""
        lacking = {
            n for n in self.asked.columns for line in self.lines if n not in line
        }
        if lacking:
            raise ConfigError(
                f"{folder} holds rounds that were measured without "
                f"{listing(sorted(lacking))}, which cannot be measured any more. Give "
                "this run another folder, or the metrics that it began with."
            )

    def _keep(
        self, folder: Path | None, state: Any, metrics: Metrics, every: int
    ) -> None:
        """Write a round's line, and a checkpoint if one is due."""
        if folder is None or self._past is None:
            return
        lines.append(folder, metrics)
        done = metrics["round"]
        if (every and done % every == 0) or done == self.protocol.rounds:
            self._past.add(state, done, self.totals, self.transit.waiting)

    def sample(self, index: int) -> Round:
        """Return round ``index`` with its clients."""
        protocol, last = self.protocol, index == self.protocol.rounds - 1
        everyone = last and self.strategy.last_asks_all
        count = protocol.clients if everyone else protocol.clients_per_round()
        here = self.transit.available(index, count)
        return sampled(protocol, self.sides.seed, index, count, here)

    def _round(self, state: Any, round: Round) -> tuple[Any, Metrics]:
        started = time.perf_counter()
        unchanged = Untouched(state, "the state")
        tested = "" in self.sides.federation.exams
        scores = tested and self.asked.asks_trained and self._due(round)
        ups, rows = self._answers(self.turns.orders(state, round, scores))
        unchanged.check(f"{self.name}.local (round {round.index + 1})")
        server = self.sides.server()
        if ups:  # with no answer the state stays
            state = self._aggregated(state, ups, server, round)
        logged = [*(row["logged"] for row in rows.values()), server.logged]
        odd = {name for one in logged for name in one if one[name] is None}
        measured = self._measure(state, round, sorted(odd))
        self._count(rows, server, measured, time.perf_counter() - started)
        return state, self._metrics(round, rows, server, measured)

    def _answers(self, orders: Orders) -> tuple[Answers, dict[int, Metrics]]:
        """Let the clients do their turns; return what is let in, and what is recorded."""
        with phase(WAITING):
            made = self.executor.answers(orders) if orders.round.clients else ()
            ups, rows = self.entrance.let_in(self.transit.through(made, orders), orders)
        rows = in_order(rows, self.transit.unanswered, orders.round)
        if self.phases is not None:
            for row in rows.values():
                self.phases.add(row.pop("phases"))
        return ups, rows

    def _aggregated(
        self, state: Any, ups: Answers, server: Server, round: Round
    ) -> Any:
        where = f"{self.name}.aggregate (round {round.index + 1})"
        name, given = ("server", round.index), Untouched(state, "the state")
        answered = replace(round, clients=tuple(ups))
        with self.sides.verb(*name, where=where, given=given), phase("server"):
            state = self.strategy.aggregate(state, ups, server, answered)
        refuse_alias(state, server.model, where, "keeps in the state")
        return self.sides.widened(state, self.name)

    def _measure(self, state: Any, round: Round, odd: Sequence[str]) -> Measured:
        done = round.index + 1
        with raised_in(f"{self.name}.milestone (round {done})"):
            due = self._due(round) or self.strategy.milestone(state, round)
        if not due:
            return Measured()
        where = f"{self.name}.predictors or .personal (round {done})"
        given = Untouched(state, "the state")
        verb = self.sides.verb("measure", round.index, where=where, given=given)
        with verb, phase("evaluation"):
            measuring = Measuring(
                self.strategy, state, self.sides, round, self.name, self.asked
            )
            return measuring.measure(odd)

    def _due(self, round: Round) -> bool:
        """Say whether a round is one that the protocol measures."""
        done = round.index + 1
        return done % self.protocol.evaluation.every == 0 or done == round.total

    def _of_trained(self, rows: Mapping[int, Metrics], round: Round) -> Metrics:
        """Return what is said of the models as clients trained them, if it is asked."""
        federation = self.sides.federation
        values = {k: row[TRAINED] for k, row in rows.items() if TRAINED in row}
        known = {k: value for k, value in values.items() if value is not None}
        sizes = [len(federation.data_in(k, round)) for k in known]
        return self.asked.of_trained(list(known.values()), sizes) if values else {}

    def _count(
        self,
        rows: Mapping[int, Metrics],
        server: Server,
        measured: Measured,
        seconds: float,
    ) -> None:
        totals = self.totals.after(
            [*rows.values(), *self.transit.records.values()],
            server.examples,
            measured.cost,
            seconds,
            self.executor.name,
        )
        phases = {} if self.phases is None else self.phases.result()
        simulated = self.transit.seconds if self.protocol.clock else None
        totals = totals.hit(self.transit.counts(), simulated)
        self.totals = replace(totals, phases=phases)

    def _metrics(
        self,
        round: Round,
        rows: Mapping[int, Metrics],
        server: Server,
        measured: Measured,
    ) -> Metrics:
        logged = means_of_logged(rows.values())
        train_loss = logged.pop("train_loss", None)
        return {
            "round": round.index + 1,
            **dict.fromkeys((*self.asked.columns, BY_CLIENT, "global_of")),
            **measured.values,
            **self._of_trained(rows, round),
            "train_loss": train_loss,
            **self.totals.columns(),
            **self.transit.columns(),
            "measured": measured.others,
            "logged": {**logged, **server.logged},
            "clients": rows,
        }
