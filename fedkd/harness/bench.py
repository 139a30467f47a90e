"""Runs the cells of a suite that are not done yet, and keeps the results whole."""

from __future__ import annotations

import contextlib
import shutil
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from fedkd.base import sums, yamlfile
from fedkd.base.files import json_mapping, json_text
from fedkd.base.folders import ResultsFolder
from fedkd.base.sealed import changed_text
from fedkd.errors import FedKDError
from fedkd.harness.builder import RunBuilder
from fedkd.harness.cell import PAUSED, finished_row
from fedkd.harness.environment import describe, with_earlier
from fedkd.harness.folder import require_there, seeds_in
from fedkd.harness.live.lines import View
from fedkd.harness.precheck import Foreseen, check_cells
from fedkd.harness.resuming import ResumePoints
from fedkd.harness.workers import (
    WorkerSettings,
    run_serially,
    run_side_by_side,
)
from fedkd.metrics.columns import Column
from fedkd.plugins.registry import Registry
from fedkd.report import plots, results, stages, table
from fedkd.report.description import protocol_lines, provenance_lines, warned_lines
from fedkd.report.reported import meant_by, reported_section
from fedkd.report.results import Row
from fedkd.report.tuning import Tuning, tuning_lines
from fedkd.simulation.executors import SERIAL, Choice, alone
from fedkd.simulation.metrics import metrics_or_none
from fedkd.simulation.precision import check_precision
from fedkd.suite.grid import Cell, grid
from fedkd.suite.reported import load_reported
from fedkd.suite.search import SearchConfig
from fedkd.suite.suite import Suite

REST = 9
"""Least time between two tables of a bench that runs, in times of making one: tables of a
thousand rows after each of a thousand short cells would take longer than the cells."""


@dataclass(frozen=True)
class Settings:
    """How a suite is run.

    None of it changes a result, but for rounding: another device, and the executors
    ``graphs`` and ``stacked``.
    """

    out: ResultsFolder
    data_root: Path
    device: torch.device
    jobs: int = 1
    """Cells side by side."""
    executor: Choice = SERIAL
    """Where the clients of a cell do their turns, and in how many processes, if one cell
    runs at a time."""
    fresh: bool = False
    """Whether finished cells are run again."""
    plots: bool = True
    plugin_files: tuple[str, ...] = ()
    observers: tuple[str, ...] = ()
    """Names of the observers that hear of the runs, beside those of plug-ins."""
    command: tuple[str, ...] = ()
    """The command line, for the record."""

    @property
    def again(self) -> tuple[str, ...]:
        """The command line that goes on: ``--fresh`` would remove what is done."""
        return tuple(word for word in self.command if word != "--fresh")


class Bench:
    """A suite, its cells, and what has become of them."""

    def __init__(
        self,
        suite: Suite,
        registry: Registry,
        settings: Settings,
        cells_of: Callable[[Suite], Sequence[Cell]] | None = None,
    ) -> None:
        """Look at nothing yet.

        Args:
            suite: What is run.
            registry: Where names are looked up.
            settings: How it is run.
            cells_of: Returns the cells of the suite, or of it with other seeds, where
                they are not those of its grid but have values that a search chose.

        Raises:
            ConfigError: Naming what of the suite cannot be used.
        """
        self.suite = suite
        self._cells_of = cells_of or partial(grid, registry=registry)
        self.cells = list(self._cells_of(suite))
        self.registry = registry
        self.settings = settings
        self.done: dict[str, Row] = {}
        """Rows by ``run_id``."""
        self.beside: list[Row] = []
        """Rows of finished runs in the folder that differ from its cells in the seed
        only; they are reported with them."""
        self._order: list[str] = []
        """Of everything that is reported, where there is more than the cells."""
        self.taken: Tuning | None = None
        """The search of another bench, whose values the cells have."""
        self.papers = [load_reported(name) for name in suite.reported]
        """Whose numbers the page shows beside ours."""
        self.resume_points = ResumePoints(settings.out)
        self.damaged: list[Path] = []
        """Files of the folder that are not what was written there."""
        self.ran: set[str] = set()
        """The ``run_id`` of the cells that were run, or were to be, by this one."""

    @property
    def to_search(self) -> SearchConfig | None:
        """The suite's search, unless its values were taken from another bench."""
        return None if self.taken is not None else self.suite.search

    @property
    def rows(self) -> list[Row]:
        """The rows so far, in the order of the grid."""
        return [self.done[c.run_id] for c in self.cells if c.run_id in self.done]

    @property
    def reported(self) -> list[Row]:
        """The rows so far and those of other seeds beside them, in the order of a grid."""
        if not self.beside:
            return self.rows
        rows = {row.run_id: row for row in (*self.beside, *self.rows)}
        return [rows[run_id] for run_id in self._order if run_id in rows]

    @property
    def whole(self) -> Suite:
        """The suite with the seeds of everything that is reported."""
        beside = {row.seed for row in self.beside}
        if not beside:
            return self.suite
        return self.suite.with_seeds(sorted(beside.union(self.suite.seeds)))

    @property
    def choosing(self) -> set[int]:
        """Seeds of the search that chose values: no table of these has one of them."""
        searches = (self.suite.search, self.taken)
        return {seed for one in searches if one is not None for seed in one.seeds}

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of the metrics beside accuracy."""
        every = {one.name: one for cell in self.cells for one in cell.columns}
        return tuple(every.values())

    @property
    def todo(self) -> list[Cell]:
        """The cells that have no row yet."""
        return [cell for cell in self.cells if cell.run_id not in self.done]

    @property
    def jobs(self) -> int:
        """How many cells run side by side: no more than there are to do."""
        return min(self.settings.jobs, max(len(self.todo), 1))

    def look(self) -> None:
        """Find the cells that are finished already, and those of other seeds.

        What has changed in the folder since it was written is a warning.
        """
        self.damaged = sums.changed(self.settings.out.path)
        for path in self.damaged:
            warnings.warn(changed_text(path), RuntimeWarning, stacklevel=2)
        self.beside = self._of_other_seeds()
        if self.beside:
            self._order = [cell.run_id for cell in self._cells_of(self.whole)]
        if self.settings.fresh:
            return
        for cell in self.cells:
            row = finished_row(cell, self.settings.out.run(cell.run_id))
            if row is not None:
                self.done[cell.run_id] = row

    def _of_other_seeds(self) -> list[Row]:
        """Return the rows of finished runs of these cells with another seed.

        Without those of a seed of the search: the values were chosen for their splits.
        """
        out = self.settings.out
        seeds = sorted(seeds_in(out) - self.choosing - set(self.suite.seeds))
        if not seeds:
            return []
        there = [
            cell
            for cell in self._cells_of(self.suite.with_seeds(seeds))
            if out.run(cell.run_id).result.is_file()
        ]
        with warnings.catch_warnings():
            # A damaged one is told of when its seed is asked for, and made again.
            warnings.simplefilter("ignore")
            rows = [finished_row(cell, out.run(cell.run_id)) for cell in there]
        return [row for row in rows if row is not None]

    def check(self) -> tuple[RunBuilder, Foreseen]:
        """Check all that can be known before the first cell runs.

        Returns:
            Where data was found, for :meth:`run`; and what will not run.

        Raises:
            FedKDError: If data cannot be split as asked, a model does not fit it, or the
                device lacks the precision.
        """
        for _, point in self.suite.points:
            check_precision(point.precision, self.settings.device)
        # Beside workers, which have their own, this process only checks: on the CPU.
        device = self.settings.device if self.jobs == 1 else torch.device("cpu")
        builder = RunBuilder(self.registry, self.settings.data_root, device)
        return builder, check_cells(self.todo, builder, self.suite.where)

    def run(
        self, builder: RunBuilder, view: View, some: Sequence[Cell] | None = None
    ) -> None:
        """Run the cells that are to do; keep the results whole.

        They are written after each cell, but where that would take more than a tenth of the
        time, and at the end, also if that is an interruption.

        Args:
            builder: What :meth:`check` returned.
            view: Is told what becomes of the cells.
            some: Those of them that are run; all if None.

        Raises:
            FedKDError: If the results cannot be written.
        """
        settings, jobs = self.settings, self.jobs
        todo = self.todo if some is None else some
        if settings.fresh:
            for cell in todo:
                shutil.rmtree(settings.out.run(cell.run_id).path, ignore_errors=True)
        self.ran.update(cell.run_id for cell in todo)
        self._record(todo)
        recorder = _Recorder(self, view)
        try:
            if jobs == 1:
                runs, executor = settings.out.runs, settings.executor
                run_serially(todo, builder, runs, recorder, executor)
            else:
                run_side_by_side(todo, jobs, self._shared(builder), recorder)
        except (FedKDError, OSError, KeyboardInterrupt):
            with contextlib.suppress(FedKDError, OSError):  # of the same folder
                recorder.write(late=True)
            raise
        recorder.write(late=True)

    def _shared(self, builder: RunBuilder) -> WorkerSettings:
        """Return what workers need to know."""
        settings = self.settings
        return WorkerSettings(
            settings.out.runs,
            settings.data_root,
            str(settings.device),
            settings.plugin_files,
            # The cells have the cores; their clients start no more processes.
            alone(settings.executor),
            settings.observers,
            builder.hashes,
        )

    def write(self, whole: bool = False) -> None:
        """Write ``results.csv`` and ``table.md`` from the rows so far.

        Args:
            whole: Whether the table also tells what each stage did and what was warned
                of, for which the metrics and logs of all runs are read.

        Raises:
            FedKDError: If the folder is gone; none is made in its place.
        """
        out, rows = self.settings.out, self.reported
        require_there(out, self.settings.fresh)
        results.write_results(rows, out.results)
        page = table.table_markdown(
            rows,
            title=self.suite.name,
            protocol_lines=protocol_lines(self.whole, self.registry),
            references=self.references(),
            provenance=provenance_lines(out.environment),
            stages=self._stages() if whole else "",
            warned=self._warned() if whole else (),
            columns=self.columns,
            tuning=tuning_lines(out) if self.suite.search else (),
            reported=self._reported(rows),
        )
        sums.write_summed(out.table, page)
        if out.suite in self.damaged:
            sums.write_summed(out.suite, yamlfile.dump(self.whole.plain()))

    def _reported(self, rows: Sequence[Row]) -> str:
        names = meant_by([self.suite], self.registry)
        return reported_section(rows, self.papers, names)

    def _stages(self) -> str:
        out = self.settings.out
        return stages.stage_table(
            [(row, metrics_or_none(out.run(row.run_id))) for row in self.reported]
        )

    def _warned(self) -> list[str]:
        out = self.settings.out
        return warned_lines((row, out.run(row.run_id).log) for row in self.reported)

    def references(self) -> set[str]:
        """Return the labels of the strategies that are references, not competitors."""
        names = {cell.run.strategy: cell.parts.strategy.name for cell in self.cells}
        return {
            label for label, name in names.items() if self.registry.is_reference(name)
        }

    def draw(self) -> list[str]:
        """Draw the figures; return a line for each that could not be drawn."""
        if not self.settings.plots or not self.reported:
            return []
        drawn = plots.draw_all(
            self.settings.out, references=self.references(), columns=self.columns
        )
        return drawn.failed

    def _record(self, todo: Sequence[Cell]) -> None:
        """Write what is run, and where."""
        settings, out = self.settings, self.settings.out
        sums.write_summed(out.suite, yamlfile.dump(self.whole.plain()))
        if out.results.is_file():
            # Rows of other settings would stand under this suite until a cell ends.
            self.write()
        if todo:
            place = describe(
                self.registry, settings.device, self.jobs, settings.command
            )
            place["data_root"] = str(settings.data_root)
            has_runs = next(out.every_run(), None) is not None
            before = json_mapping(out.environment) if has_runs else None
            sums.write_summed(out.environment, json_text(with_earlier(place, before)))


class _Recorder:
    """Passes news on to the view, and keeps the files up to date."""

    def __init__(self, bench: Bench, view: View) -> None:
        self._bench = bench
        self._view = view
        self._behind = False
        self._next = 0.0

    def started(self, cell: Cell) -> None:
        require_there(self._bench.settings.out, self._bench.settings.fresh)
        self._bench.resume_points.started(cell)
        self._view.started(cell)

    def round(self, cell: Cell, metrics: Mapping[str, Any]) -> None:
        remark = self._bench.resume_points.round(cell, metrics)
        if remark:
            self._view.note(cell, remark)
        self._view.round(cell, metrics)

    def finished(self, cell: Cell, row: Row) -> None:
        require_there(self._bench.settings.out, self._bench.settings.fresh)
        self._bench.resume_points.ended(cell)
        if row.status != PAUSED:
            self._bench.done[cell.run_id] = row
            self._behind = True
            self.write()
        self._view.finished(cell, row)

    def write(self, late: bool = False) -> None:
        """Write the results, if they lack a row and the last time is not too near.

        Args:
            late: Whether they are written however near it is.
        """
        started = time.monotonic()
        if self._behind and (late or started >= self._next):
            self._bench.write()
            self._behind = False
            ended = time.monotonic()
            self._next = ended + REST * (ended - started)
