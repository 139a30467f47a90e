"""Runs the search of a suite: trials, a choice for each strategy, and its cost."""

from __future__ import annotations

import shutil
import statistics
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial

import torch

from fedkd.base.runname import RunName
from fedkd.errors import ConfigError
from fedkd.harness.bench import Bench
from fedkd.harness.builder import RunBuilder
from fedkd.harness.cell import finished_row
from fedkd.harness.live.lines import View
from fedkd.harness.precheck import check_cells
from fedkd.harness.proposals import Proposer, proposer
from fedkd.metrics.columns import Column
from fedkd.report.tuning import Chosen, Tuning, write_tuning
from fedkd.simulation.metrics import metrics_or_none
from fedkd.suite.grid import Cell
from fedkd.suite.search import SearchConfig, require_searchable
from fedkd.suite.suite import Suite
from fedkd.suite.trials import (
    Study,
    Values,
    objective,
    sources_of,
    studies_of,
    tuned_grid,
)

ViewOf = Callable[[Bench], View]
"""Makes what shows a bench while it runs."""


class _Unfinished(Exception):
    """A trial has no result yet."""


@dataclass
class _Trial:
    """Values that are tried, and what they are worth."""

    values: Values
    cells: Sequence[Cell]
    """Its runs; none if the strategy or its training cannot have these values."""
    score: float | None = None
    pruned: bool = False


@dataclass
class _Track:
    """A study while it runs."""

    study: Study
    proposals: Proposer
    trials: list[_Trial] = field(default_factory=list)

    def best(self, column: Column) -> _Trial | None:
        """Return the trial with the best score, the first of equal ones."""
        scored = [t for t in self.trials if t.score is not None and not t.pruned]
        sign = 1 if column.higher_is_better else -1
        return max(scored, key=lambda trial: sign * (trial.score or 0), default=None)

    def ends(self) -> dict[str, list[float]]:
        """Return the least and the greatest of several numbers tried, by path."""
        found: dict[str, list[float]] = {}
        for path in self.study.space:
            tried = [trial.values[path] for trial in self.trials]
            # True and false are whole numbers, too, and have no ends.
            numbers = [one for one in tried if type(one) in {int, float}]
            if len(numbers) == len(tried) and len(set(numbers)) > 1:
                found[path] = [min(numbers), max(numbers)]
        return found


def _of_trials(suite: Suite, config: SearchConfig) -> Suite:
    """Return what the folder of the trials says of itself."""
    entries = (one.model_copy(update={"search": {}}) for one in suite.strategies)
    return suite.model_copy(
        update={
            "seeds": config.seeds,
            "rounds": config.rounds or suite.rounds,
            "search": None,
            "strategies": tuple(entries),
        }
    )


class Search:
    """The search of a bench; its trials are in a folder within the bench's own."""

    def __init__(self, bench: Bench, config: SearchConfig) -> None:
        """Check the search and, unless they hang on scores, all of its trials; run nothing.

        Args:
            bench: Of the suite as it is written.
            config: The suite's search.

        Raises:
            ConfigError: If a path is of no strategy, a value cannot be used, or the
                metric is not measured.
        """
        suite, registry, settings = bench.suite, bench.registry, bench.settings
        self._bench, self.config = bench, config
        self.studies = studies_of(suite, registry)
        self._sources = sources_of(self.studies, suite.where)
        spaces = [study.space for study in self.studies]
        require_searchable(registry, config, spaces, suite.where)
        self.column = objective(suite, registry)
        self._tracks = self._at_the_start()
        for track in self._tracks:
            track.study.check(registry, track.proposals.known)
        self._trials = Bench(
            _of_trials(suite, config),
            registry,
            replace(settings, out=settings.out.search, fresh=False),
            lambda _: (),  # which trials there are follows from their scores
        )
        self._builders: dict[torch.device, RunBuilder] = {}

    @property
    def planned(self) -> int:
        """How many runs the search is at most."""
        return len(self._tracks) * self.config.trials * len(self.config.seeds)

    @property
    def _hangs_on_scores(self) -> bool:
        """Whether what is tried hangs on the scores before."""
        return self.config.method == "tpe"

    @property
    def done(self) -> int:
        """How many runs of trials have a result so far."""
        return len(self._trials.done)

    def finished(self) -> Bench | None:
        """Return the bench as it is tuned; None if a trial is not done yet.

        Nothing is run or written.
        """
        if self._bench.settings.fresh:
            return None
        try:
            self._waves(None)
        except _Unfinished:
            return None
        return self._tuned()

    def run(self, view_of: ViewOf) -> Bench:
        """Run all trials that are not done, choose, and return the bench as it was tuned.

        A trial that is done is not run again, and proposals hang on nothing but the
        seeds and the scores before: a search that goes on chooses what it would have. A
        trial that cannot be, of values that hang on scores, has no score, as one has none
        that fails.

        Args:
            view_of: Makes what shows the trials.

        Raises:
            FedKDError: If a trial cannot be run, or its results cannot be written.
        """
        bench, out = self._bench, self._trials.settings.out
        if bench.settings.fresh:
            shutil.rmtree(out.path, ignore_errors=True)
        out.runs.mkdir(parents=True, exist_ok=True)
        self._waves(view_of)
        write_tuning(self._tuning(), bench.settings.out)
        return self._tuned()

    def _at_the_start(self) -> list[_Track]:
        return [
            _Track(one, proposer(one, self.column.higher_is_better))
            for one, source in zip(self.studies, self._sources, strict=True)
            if one.space and one is source
        ]

    def _waves(self, view_of: ViewOf | None) -> None:
        """Ask for all trials and run those that are not done; run none without a view.

        Raises:
            _Unfinished: If there is no view, and one is not done.
        """
        self._tracks = self._at_the_start()
        # What hangs on scores is asked for one by one, the rest at once.
        at_once = 1 if self._hangs_on_scores else self.config.trials
        for _ in range(0, self.config.trials, at_once):
            self._wave(view_of, at_once)

    def _tuned(self) -> Bench:
        """Return the bench with the best values of each study, its finished cells found."""
        bench = self._bench
        best = {id(track.study): track.best(self.column) for track in self._tracks}
        chosen = [
            (study, {} if (trial := best.get(id(source))) is None else trial.values)
            for study, source in zip(self.studies, self._sources, strict=True)
        ]
        cells_of = partial(tuned_grid, registry=bench.registry, chosen=chosen)
        tuned = Bench(bench.suite, bench.registry, bench.settings, cells_of)
        tuned.look()
        return tuned

    def _wave(self, view_of: ViewOf | None, number: int) -> None:
        """Ask each study for some trials, and run them rung by rung."""
        wave: list[tuple[_Track, _Trial]] = []
        for track in self._tracks:
            for _ in range(number):
                values = track.proposals.ask()
                if values is not None:
                    track.trials.append(_Trial(values, self._cells(track, values)))
                    wave.append((track, track.trials[-1]))
        for rung in range(max((len(t.study.rungs) for t, _ in wave), default=0)):
            active = [
                (track, trial, track.study.rungs[rung])
                for track, trial in wave
                if len(track.study.rungs) > rung and not trial.pruned
            ]
            self._run([self._until(*one) for one in active], view_of)
            for track, trial, done in active:
                trial.score = self._score(trial, done)
                if done < track.study.rounds:
                    trial.pruned = track.proposals.ends(trial.score, done)
        for track, trial in wave:
            track.proposals.tell(trial.score, trial.pruned)

    def _cells(self, track: _Track, values: Values) -> list[Cell]:
        """Return the runs of a trial; none, which is a warning, if there can be none."""
        try:
            return track.study.cells(values, self._bench.registry)
        except ConfigError as error:
            # Known ones were checked, so this one hangs on scores: others are finished.
            said = f"{error} This trial has no score; the others are run."
            warnings.warn(said, RuntimeWarning, stacklevel=2)
            return []

    def _until(self, track: _Track, trial: _Trial, done: int) -> list[Cell]:
        """Return a trial's cells that are to be run up to a round."""
        pause = done if done < track.study.rounds else None
        cells = [replace(cell, pause_at=pause) for cell in trial.cells]
        return [cell for cell in cells if not pause or self._at(cell, pause) is None]

    def _run(self, several: Sequence[Sequence[Cell]], view_of: ViewOf | None) -> None:
        """Run cells that are not done; equal trials are one run."""
        trials, wanted = self._trials, {c.run_id: c for cs in several for c in cs}
        known = {cell.run_id: cell for cell in trials.cells}
        trials.cells = list((known | wanted).values())
        for run_id, cell in wanted.items():
            row = finished_row(cell, trials.settings.out.run(run_id))
            if row is not None and run_id not in trials.done:
                trials.done[run_id] = row
        todo = [cell for cell in wanted.values() if cell.run_id not in trials.done]
        if not todo:
            return
        if view_of is None:
            raise _Unfinished
        builder = self._builder()
        lenient = self._hangs_on_scores  # there are finished trials
        check_cells(todo, builder, trials.suite.where, lenient).require_data()
        with closing(view_of(trials)) as view:
            trials.run(builder, view, todo)

    def _builder(self) -> RunBuilder:
        """Return where trials find data; beside workers, it only checks: on the CPU."""
        settings, alone = self._trials.settings, self._trials.jobs == 1
        device = settings.device if alone else torch.device("cpu")
        if device not in self._builders:
            builder = RunBuilder(self._bench.registry, settings.data_root, device)
            self._builders[device] = builder
        return self._builders[device]

    def _at(self, cell: Cell, done: int) -> float | None:
        """Return what a cell scored after a round; None if it is not there or undefined."""
        lines = metrics_or_none(self._trials.settings.out.run(cell.run_id))
        line = lines[done - 1] if len(lines) >= done else {}
        return self.column.value(line)

    def _score(self, trial: _Trial, done: int) -> float | None:
        """Return the mean over a trial's seeds; None if one of them, or it, has none."""
        scores: list[float] = []
        for cell in trial.cells:
            row = self._trials.done.get(cell.run_id)
            last = done == cell.run.rounds
            lost = row is not None and row.status != "done"
            score = None if lost or (last and row is None) else self._at(cell, done)
            if score is None:
                return None
            scores.append(score)
        return statistics.fmean(scores) if scores else None

    def _tuning(self) -> Tuning:
        """Return what was chosen, and what all trials cost."""
        chosen = []
        for track in self._tracks:
            best, run = track.best(self.column), self._run_of(track.study)
            chosen.append(
                Chosen(
                    track.study.entry.label,
                    track.study.setting_of(run),
                    {} if best is None else dict(best.values),
                    None if best is None else best.score,
                    len(track.trials),
                    sum(trial.pruned for trial in track.trials),
                    track.study.dataset,
                    track.ends(),
                )
            )
        rows, out = self._trials.done, self._trials.settings.out
        ids = [cell.run_id for cell in self._trials.cells]
        # One that was ended early has no row.
        ran = [i for i in ids if i not in rows or rows[i].status != "skipped"]
        last = [lines[-1] for i in ran if (lines := metrics_or_none(out.run(i)))]
        return Tuning(
            self.column.name,
            self.config.method,
            self.config.seeds,
            tuple(chosen),
            runs=len(ran),
            client_examples=sum(line["client_examples"] for line in last),
            server_examples=sum(line["server_examples"] for line in last),
            bytes=sum(line["bytes_up"] + line["bytes_down"] for line in last),
            seconds=sum(line["seconds"] for line in last),
            families=self._families(),
        )

    def _run_of(self, study: Study) -> RunName:
        """Return the name of a run of a study's setting, with the values of the suite."""
        return study.cells({}, self._bench.registry)[0].run

    def _families(self) -> dict[str, tuple[str, ...]]:
        """Return which data sets took the values of another setting, by that setting."""
        runs = {id(track.study): self._run_of(track.study) for track in self._tracks}
        families: dict[str, dict[str, None]] = {}
        for study, source in zip(self.studies, self._sources, strict=True):
            if source is not study and source.space:
                run = runs[id(source)]
                told = families.setdefault(f"{run.dataset}, {run.split}", {})
                told[study.dataset] = None
        return {setting: tuple(names) for setting, names in families.items()}
