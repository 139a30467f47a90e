"""What benches leave, in Python: tables, data frames, figures, runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fedkd.api.changes import Changes
from fedkd.api.finished import FinishedRun
from fedkd.api.given import options_given, path_given, warn
from fedkd.api.notebook import Figures, Page, as_html
from fedkd.api.said import said_in_python
from fedkd.base.folders import ResultsFolder
from fedkd.base.forms import require
from fedkd.base.shown import brief
from fedkd.data.root import data_root as usual_root
from fedkd.errors import ConfigError, FedKDError, counted, listing
from fedkd.report.comparing import THRESHOLD, Side, compared, read_place
from fedkd.report.plots import draw_all
from fedkd.report.reading import Report, page_of, read_report
from fedkd.report.results import COLUMNS, Row
from fedkd.report.stats.intervals import LEVEL
from fedkd.report.terminal import table_rich
from fedkd.suite.axes import axis_text
from fedkd.suite.suite import Suite

if TYPE_CHECKING:
    import pandas


class Results:
    """The results of one bench, or of several that are read together."""

    def __init__(
        self,
        report: Report,
        folders: tuple[ResultsFolder, ...],
        root: Path,
        kept: object = None,
    ) -> None:
        """Take what was read.

        Args:
            report: Rows, suites, metrics.
            folders: Where they were read.
            root: Folder of the data files.
            kept: Is kept as long as this is: a temporary folder.
        """
        self.folders = tuple(folder.path for folder in folders)
        """The results folders."""
        self._report = report
        self._root = root
        self._kept = kept

    @property
    def rows(self) -> list[Row]:
        """The rows of ``results.csv``, one a run, whatever became of it."""
        return list(self._report.rows)

    @property
    def suites(self) -> list[Suite]:
        """The suites that were run, as far as they can be read."""
        return list(self._report.suites.values())

    @property
    def runs(self) -> list[FinishedRun]:
        """The runs, in the order of the rows."""
        report = self._report
        return [
            FinishedRun(
                report.folders[row.run_id].path,
                row,
                report.registry,
                self._root,
                self._kept,
            )
            for row in report.rows
        ]

    def run(self, **wanted: Any) -> FinishedRun:
        """Return the one run whose columns have these values.

        Args:
            wanted: Values by column: ``run(strategy="fedavg", seed=0)``.

        Raises:
            ConfigError: If there is no such column, no such run, or more than one.
        """
        there = [row.plain() for row in self.rows]
        known = dict.fromkeys([*COLUMNS, *(name for one in there for name in one)])
        odd = [name for name in wanted if name not in known]
        if odd:
            raise ConfigError(
                f"run: found {odd[0]!r}, expected columns of results.csv: "
                f"{listing(known, 40)}."
            )
        hits = [
            run
            for run, values in zip(self.runs, there, strict=True)
            if all(_is(values.get(name), value) for name, value in wanted.items())
        ]
        if len(hits) != 1:
            asked = ", ".join(f"{name}={value!r}" for name, value in wanted.items())
            raise ConfigError(
                f"run({asked}): found {counted(len(hits), 'run')} of {len(self)}, expected "
                "one. Name its strategy, seed and whatever else tells it from the others."
                f"{self._there(wanted)}"
            )
        return hits[0]

    def _there(self, wanted: Mapping[str, Any]) -> str:
        """Return which values there are, for each column whose wanted one is not there."""
        told = ""
        for name, value in wanted.items():
            there = dict.fromkeys(row.plain().get(name) for row in self.rows)
            if not any(_is(one, value) for one in there):
                told += f" {name} here: {listing(map(str, there), 40)}."
        return told

    def frame(self, by: Literal["run", "round"] = "run") -> pandas.DataFrame:
        """Return a pandas data frame; it needs the extra ``report``.

        Args:
            by: ``run`` for a row a run, with the columns of ``results.csv``; ``round`` for
                a row a round, with what the run is called, axes of the grid included, and
                what metrics.jsonl has of it, lists and tables left out.

        Raises:
            FedKDError: If pandas is not installed.
            ConfigError: If ``by`` is neither.
        """
        try:
            import pandas  # noqa: PLC0415 - an extra
        except ImportError:
            raise FedKDError(
                "a data frame needs pandas; install it by the extra: pip install "
                "'fedkd[report]'."
            ) from None
        if by not in ("run", "round"):
            raise ConfigError(f"frame: found {by!r}, expected 'run' or 'round'.")
        if by == "run":
            return pandas.DataFrame([row.plain() for row in self.rows])
        return pandas.DataFrame(list(self._rounds()))

    def table(self) -> Page:
        """Return the page of ``table.md``: accuracies, costs, differences, protocol.

        It is a text of Markdown, which a notebook shows as a page.
        """
        return Page(page_of(self._report))

    def plot(self, to: str | Path | None = None) -> Figures:
        """Draw the figures of ``fedkd report``; a notebook shows them.

        Args:
            to: They go into the folder ``plots`` of it; that of the results if None.

        Raises:
            ConfigError: If the results are of several folders and ``to`` is None, or it
                is no path.
        """
        if to is None and len(self.folders) > 1:
            raise ConfigError(
                "plot: found several results folders, so there is no place for the "
                "figures; give one: plot(to='figures')."
            )
        home = self.folders[0] if to is None else path_given(to, "plot")
        drawn = draw_all(
            ResultsFolder(home),
            rows=self.rows,
            homes=self._report.folders,
            references=self._report.references,
            columns=self._report.columns,
        )
        return Figures(tuple(drawn.files), tuple(drawn.failed))

    def compare(
        self,
        before: Results | str | Path,
        *,
        threshold: float = THRESHOLD,
        level: float = LEVEL,
    ) -> Changes:
        """Return what has changed in these results since others.

        It is what ``fedkd compare BEFORE THESE`` says: cells are paired by seed where
        seeds and splits agree, and global and local accuracy are compared.

        Args:
            before: The results that are held to: others, a results folder, or its file
                results.csv.
            threshold: Percentage points of mean accuracy that may be lost.
            level: Confidence of the intervals that say what is beyond seed noise, at
                least 0.5 and below 1.

        Raises:
            ConfigError: If ``before`` holds no results or no cell that is here too, or a
                number is out of its range.
            DataError: If its file is damaged.
        """
        for name, value in (("threshold", threshold), ("level", level)):
            require(value, (Real,), f"compare: {name}", "a number")
        if not 0 <= threshold < math.inf or not 0.5 <= level < 1:
            raise ConfigError(
                f"compare: found threshold={threshold!r} and level={level!r}, expected "
                "percentage points from 0 on, and a level of at least 0.5 and below 1."
            )
        old = (
            before._side
            if isinstance(before, Results)
            else read_place(path_given(before, "compare"))
        )
        new = self._side
        comparison = compared(old, new, threshold=threshold, level=level)
        return Changes(comparison, old.name, new.name)

    @property
    def _side(self) -> Side:
        return Side(self._place, self.rows, self._report.folders)

    @property
    def _place(self) -> str:
        return ", ".join(map(str, self.folders))

    def __len__(self) -> int:
        """Return the number of runs."""
        return len(self._report.rows)

    def __iter__(self) -> Iterator[FinishedRun]:
        """Return an iterator over the runs."""
        return iter(self.runs)

    def __repr__(self) -> str:
        """Return what was run, how much of it is done, and where it is."""
        done = sum(row.status == "done" for row in self.rows)
        state = f"{done} of {len(self)} runs done"
        return brief(self, self._report.title, state, self._place)

    def _repr_html_(self) -> str:
        """Return the table of a terminal as HTML."""
        report = self._report
        table = table_rich(
            report.rows,
            title=report.title,
            references=report.references,
            columns=report.columns,
        )
        return as_html(table)

    def _rounds(self) -> Iterator[dict[str, Any]]:
        for run, row in zip(self.runs, self.rows, strict=True):
            # What tells runs apart: of several suites, and along the axes of a grid.
            start = ("suite", "strategy", "dataset", "partition", "alpha", "models")
            values = {key: row.value(key) for key in (*start, "clients")}
            name = {**values, **dict(row.axes), "seed": row.seed, "run_id": row.run_id}
            for line in run.history:
                plain = {
                    k: v for k, v in line.items() if not isinstance(v, dict | list)
                }
                yield {**name, **plain}


def _is(found: Any, wanted: Any) -> bool:
    """Say whether a value is the wanted one; those of axes are there as texts."""
    if isinstance(found, str) and not isinstance(wanted, str):
        return found == axis_text(wanted)
    return bool(found == wanted)


def load(
    *folders: str | Path,
    data_root: str | Path | None = None,
    plugins: Iterable[str | Path] = (),
) -> Results:
    """Read the results of one bench, or of several together, as ``fedkd report`` does.

    Args:
        folders: Results folders.
        data_root: Folder of the data files, for models; the usual one if None.
        plugins: Plug-ins of one file each, which the results used.

    Raises:
        ConfigError: If one is no results folder, or they do not belong together.
        DataError: If a file in them is damaged.
    """
    where = "fedkd.load"
    if not folders:
        raise ConfigError(f"{where}: found no folder, expected such as 'runs/quick'.")
    homes = tuple(ResultsFolder(path_given(folder, where)) for folder in folders)
    how = options_given(where, data_root=data_root, plugins=plugins)
    with said_in_python(()):
        report = read_report(homes, how["plugins"], warn)
    return Results(report, homes, usual_root(how["data_root"]))
