"""Runs one cell: whatever happens in it becomes a row."""

from __future__ import annotations

import contextlib
import datetime
import errno
import functools
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

import torch

from fedkd._version import __version__
from fedkd.base import yamlfile
from fedkd.base.files import sweep, write_atomic
from fedkd.base.folders import RunFolder
from fedkd.base.sealed import sound_row, write_sealed
from fedkd.errors import DivergedError, NotApplicableError
from fedkd.errors import told as reason_of
from fedkd.harness.builder import RunBuilder
from fedkd.harness.environment import peak_memory, reproducible, reset_peak_memory
from fedkd.harness.resuming import resumed
from fedkd.hookspecs import RunInfo
from fedkd.partition.base import Partition
from fedkd.report.description import STARTED
from fedkd.report.results import COLUMNS, COUNTS, LATER, Row, joined_notes
from fedkd.report.rows.fields import is_axis
from fedkd.simulation.executors import SERIAL, Choice
from fedkd.simulation.identity import OtherRunError
from fedkd.simulation.simulator import simulate
from fedkd.simulation.store.checkpoint import OTHER_RUN
from fedkd.suite.grid import Cell

FINAL = ("done", "skipped", "diverged")
"""Statuses that stay; a failed cell is run again."""

PAUSED = "paused"
"""Status of a cell that is to be gone on with, or not: it has no result."""

_MEASURES = (
    "global_accuracy", "local_accuracy", "bytes_up", "bytes_down", "client_examples",
    "server_examples",
)  # fmt: skip

OnRound = Callable[[Mapping[str, Any]], None]


class _Paused(Exception):
    """The cell is at the round after which it waits."""


@dataclass
class _Outcome:
    """What became of a run, and what is known of it."""

    status: str = "failed"
    reason: str = ""
    split_hash: str = ""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    engine: str = ""
    notes: tuple[str, ...] = ()

    def ran_on(self, notes: Sequence[str], split: Partition, scheme: str) -> None:
        """Take up what is to be said of the data, and of the images that nobody has."""
        missing = [f"partition {scheme}: {note}" for note in split.left_out]
        self.split_hash, self.notes = split.hash, (*notes, *missing)


def run_cell(
    cell: Cell,
    builder: RunBuilder,
    folder: Path,
    on_round: OnRound,
    executor: Choice = SERIAL,
) -> Row:
    """Run ``cell`` in ``folder``, from its checkpoint if there is one; return its row.

    Failures, of the strategy's code too, end in the row and, with their traceback, in
    the file ``log``.

    Args:
        cell: The run.
        builder: Where data and models come from.
        folder: The run's own folder; made if missing, the one above it is not.
        on_round: Called with each round's metrics.
        executor: Where clients do their turns.

    Raises:
        OSError: If the disk is full or cannot be written to, or the folder is gone, which
            no other cell would survive either.
    """
    files = RunFolder(folder)
    folder.mkdir(exist_ok=True)
    sweep(folder)
    told = _Told(cell, builder.registry.notify, on_round, folder)
    with _log(files) as log, reproducible(builder.device):
        told.log = log
        _say(log, f"{STARTED} {__version__}, torch {torch.__version__}")
        finished_row(cell, files)  # for its warning, which belongs into the log
        write_atomic(files.config, yamlfile.dump(described(cell)))
        # Of a failed run; from the first round on it would not fit metrics.jsonl.
        files.result.unlink(missing_ok=True)
        started = time.perf_counter()
        reset_peak_memory(builder.device)
        outcome = _attempt(cell, builder, files, told, log, executor)
        seconds = outcome.metrics.get("seconds", time.perf_counter() - started)
        row = _row(cell, outcome, seconds, peak_memory(builder.device))
        _say(log, f"{row.status} {row.reason}".strip())
    # The row comes last: whoever is killed before has not told the observers all.
    told.ended(row)
    _write_row(row, files)
    return row


class _Told:
    """Tells observers of one run: its start, from which round on, its rounds, its end."""

    def __init__(
        self, cell: Cell, notify: Callable[..., None], on_round: OnRound, folder: Path
    ) -> None:
        self.log: TextIO | None = None
        self._cell = cell
        self._notify = notify
        self._on_round = on_round
        self._folder = folder
        self._run: RunInfo | None = None

    def started(self, rounds_done: int) -> RunInfo:
        """Tell that the run starts, or goes on after ``rounds_done`` rounds; once."""
        if self._run is None:
            cell = self._cell
            self._run = RunInfo(
                **vars(cell.run),
                run_id=cell.run_id,
                folder=self._folder,
                config=cell.config,
                rounds_done=rounds_done,
            )
            if rounds_done and self.log is not None:
                _say(self.log, resumed(rounds_done, cell.run.rounds))
            self._notify("fedkd_run_started", run=self._run)
        return self._run

    def round(self, metrics: Mapping[str, Any]) -> None:
        """Tell of a round that has ended."""
        self._on_round(metrics)
        run = self.started(metrics["round"] - 1)
        self._notify("fedkd_round_ended", run=run, metrics=metrics)
        if metrics["round"] == self._cell.pause_at:
            raise _Paused

    def ended(self, row: Row) -> None:
        """Tell of the end; of the start too, if the run failed before it."""
        run = self.started(0)
        self._notify("fedkd_run_ended", run=run, result=row.plain())


def finished_row(cell: Cell, folder: RunFolder) -> Row | None:
    """Return the row of a run that is finished and need not be run again, or None.

    None too, with a warning, if ``result.json`` and the files that it seals are not those
    that were written together.
    """
    if not folder.result.exists():
        return None
    result = sound_row(folder)
    if result is None or not _is_of(result, cell):
        if result is None or result.get("config_hash") == cell.config_hash:
            _warn_damaged(folder)
        return None
    if result["status"] not in FINAL:
        return None
    # The same run may have been made by a suite that calls it otherwise.
    return replace(Row.of({**result, "run_id": cell.run_id}), **vars(cell.run))


def _is_of(result: Mapping[str, Any], cell: Cell) -> bool:
    """Say whether a row is one of this version, and of this cell."""
    known = {*COLUMNS, *(column.name for column in cell.columns)}
    names = {name for name in result if not is_axis(name)} - COUNTS
    same = {"config_hash": cell.config_hash, "seed": cell.run.seed}
    return known - LATER <= names <= known and same.items() <= result.items()


def _warn_damaged(folder: RunFolder) -> None:
    warnings.warn(
        f"{folder.result} is damaged, or not of the metrics.jsonl and the other files "
        "beside it; the run is made again.",
        RuntimeWarning,
        stacklevel=3,
    )


def _write_row(row: Row, folder: RunFolder) -> None:
    """Write ``result.json``; a run that is paused has none."""
    if row.status != PAUSED:
        write_sealed(row.plain(), folder)


def failed_row(cell: Cell, folder: Path, reason: str) -> Row:
    """Record a cell whose process died, in its folder too; return its row."""
    row = _row(cell, _Outcome(reason=reason), None, None)
    folder.mkdir(exist_ok=True)
    files = RunFolder(folder)
    with _log(files) as log:
        _say(log, f"failed {reason}")
    _write_row(row, files)
    return row


def described(cell: Cell) -> dict[str, Any]:
    """Return what ``config.yaml`` holds: the names and the whole configuration."""
    return {
        "suite": cell.run.suite,
        "label": cell.run.strategy,
        "run_id": cell.run_id,
        "config_hash": cell.config_hash,
        **cell.config,
    }


def _attempt(
    cell: Cell,
    builder: RunBuilder,
    files: RunFolder,
    told: _Told,
    log: TextIO,
    executor: Choice,
) -> _Outcome:
    outcome = _Outcome()
    try:
        _run(cell, builder, files, told, outcome, log=log, executor=executor)
    except _Paused:
        outcome.status = PAUSED
        outcome.reason = f"after round {cell.pause_at} of {cell.run.rounds}"
    except NotApplicableError as error:
        outcome.status, outcome.reason = "skipped", error.reason
    except DivergedError as error:
        outcome.status, outcome.reason = "diverged", reason_of(error)
    except OSError as error:
        if is_disk_trouble(error) or not files.path.is_dir():
            raise
        _fail(outcome, error, log)
    except KeyboardInterrupt:
        raise
    # A strategy's code may raise anything, SystemExit too; the other cells go on.
    except BaseException as error:
        _fail(outcome, error, log)
    return outcome


def _run(  # noqa: PLR0913 - all of a cell
    cell: Cell,
    builder: RunBuilder,
    files: RunFolder,
    told: _Told,
    outcome: _Outcome,
    *,
    log: TextIO,
    executor: Choice,
) -> None:
    federation, partition = builder.federation(cell)
    outcome.ran_on(federation.data.notes, partition, cell.run.partition)
    write_atomic(files.counts, partition.to_csv(federation.data.classes))
    _say_notes(log, data=federation.data.notes, partition=partition.notes)
    run = functools.partial(
        simulate,
        builder.strategy(cell),
        federation,
        cell.parts.protocol,
        cell.run.seed,
        name=cell.run.strategy,
        folder=files.path,
        checkpoint_every=cell.checkpoint_every,
        on_round=told.round,
        on_start=told.started,
        executor=executor,
        metrics=builder.metrics(cell),
    )
    anew = ""
    try:
        result = run()
    except OtherRunError as error:
        # The folder is this run's by its name: what is in it has been exchanged.
        anew = OTHER_RUN
        warnings.warn(f"{anew}: {error}", RuntimeWarning, stacklevel=2)
        for path in (files.checkpoint, files.before):
            path.unlink(missing_ok=True)
        result = run()
    outcome.status, outcome.metrics = "done", result.metrics
    outcome.engine, outcome.reason = result.engine, anew or result.anew


def _say_notes(log: TextIO, **notes: Sequence[str]) -> None:
    for kind, texts in notes.items():
        for text in texts:
            _say(log, f"{kind}: {text}")


def _fail(outcome: _Outcome, error: BaseException, log: TextIO) -> None:
    outcome.reason = reason_of(error)
    log.write("".join(traceback.format_exception(error)))


def is_disk_trouble(error: OSError) -> bool:
    """Say whether an error means that no other cell could be written either."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def _row(
    cell: Cell, outcome: _Outcome, seconds: float | None, memory: int | None
) -> Row:
    measures: dict[str, Any] = {name: outcome.metrics.get(name) for name in _MEASURES}
    for name, value in outcome.metrics.get("phases", {}).items():
        measures[f"seconds_{name}"] = value
    counts = {n: value for n, value in outcome.metrics.items() if n in COUNTS}
    return Row(
        **vars(cell.run),
        status=outcome.status,
        reason=" ".join(outcome.reason.split()),
        seconds=seconds,
        peak_memory_bytes=memory,
        precision=cell.parts.protocol.precision,
        engine=outcome.engine,
        notes=joined_notes(outcome.notes),
        split_hash=outcome.split_hash,
        config_hash=cell.config_hash,
        run_id=cell.run_id,
        global_of=outcome.metrics.get("global_of") or "",
        metrics={c.name: c.value(outcome.metrics) for c in cell.columns} | counts,
        **measures,
    )


@contextlib.contextmanager
def _log(files: RunFolder) -> Iterator[TextIO]:
    """Open the run's log for appending.

    Warnings inside the block go there too, each as one line, once.
    """
    with (
        files.log.open("a", encoding="utf-8", errors="backslashreplace") as log,
        warnings.catch_warnings(),
    ):
        said: set[str] = set()

        def show(message: Warning | str, category: type[Warning], *_: Any) -> None:
            text = f"{category.__name__}: {' '.join(str(message).split())}"
            if text not in said:
                said.add(text)
                _say(log, text)

        warnings.showwarning = show  # type: ignore[assignment]
        yield log


def _say(log: TextIO, text: str) -> None:
    now = datetime.datetime.now().astimezone().isoformat("T", "seconds")
    log.write(f"{now} {text}\n")
    log.flush()
