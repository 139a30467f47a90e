"""Where everything lies in a results folder: the name of every file in it, once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fedkd.base import sums
from fedkd.base.bounds import refuse_links_outside
from fedkd.base.forms import require
from fedkd.errors import BoundsError, ConfigError


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run."""

    path: Path

    @property
    def config(self) -> Path:
        """What the run is called, and its whole configuration."""
        return self.path / "config.yaml"

    @property
    def result(self) -> Path:
        """The row, written last: a run folder that holds it is finished."""
        return self.path / "result.json"

    @property
    def log(self) -> Path:
        """What was said while it ran: warnings, splits, tracebacks."""
        return self.path / "log"

    @property
    def metrics(self) -> Path:
        """One line a round."""
        return self.path / "metrics.jsonl"

    @property
    def counts(self) -> Path:
        """The client x class table of the split."""
        return self.path / "counts.csv"

    @property
    def gallery(self) -> Path:
        """The images that the strategy shows."""
        return self.path / "gallery.safetensors"

    @property
    def checkpoint(self) -> Path:
        """Where the run can go on."""
        return self.path / "checkpoint.safetensors"

    @property
    def before(self) -> Path:
        """The checkpoint before that one, for when it is damaged."""
        return self.path / "checkpoint-before.safetensors"

    def memories(self, done: int) -> Path:
        """Return the file with the clients' memories after ``done`` rounds."""
        return self.path / f"checkpoint-{done}.memories"

    @staticmethod
    def names_memories(name: str) -> bool:
        """Say whether a file of clients' memories may have this name."""
        return (
            re.fullmatch(r"checkpoint-\d{1,18}\.memories", name, re.ASCII) is not None
        )

    def every_memories(self) -> Iterator[Path]:
        """Yield the files with clients' memories that are there."""
        return self.path.glob("checkpoint-*.memories")


@dataclass(frozen=True)
class ResultsFolder:
    """The folder that a bench writes and a report reads."""

    path: Path

    @property
    def results(self) -> Path:
        """One row a run."""
        return self.path / "results.csv"

    @property
    def table(self) -> Path:
        """The results as a page for people."""
        return self.path / "table.md"

    @property
    def page(self) -> Path:
        """The results as one HTML page, where it was asked for."""
        return self.path / "report.html"

    @property
    def suite(self) -> Path:
        """The suite as it was run."""
        return self.path / "suite.yaml"

    @property
    def environment(self) -> Path:
        """Where it was run: versions, machine, device."""
        return self.path / "environment.json"

    @property
    def search(self) -> ResultsFolder:
        """The folder of the trials of a search."""
        return ResultsFolder(self.path / "search")

    @property
    def chosen(self) -> Path:
        """What a search chose, and what it cost."""
        return self.path / "chosen.json"

    @property
    def checksums(self) -> Path:
        """Checksums of the files above; see :mod:`fedkd.base.sums`."""
        return self.path / sums.NAME

    @property
    def lock(self) -> Path:
        """Held by the bench that writes here."""
        return self.path / ".lock"

    @property
    def plots(self) -> Path:
        """The folder of the figures."""
        return self.path / "plots"

    @property
    def runs(self) -> Path:
        """The folder of the run folders."""
        return self.path / "runs"

    def run(self, run_id: str) -> RunFolder:
        """Return the folder of a run.

        Raises:
            BoundsError: If that is no name of a folder in :attr:`runs`.
        """
        if Path(run_id).name != run_id or run_id in ("", "..") or "\0" in run_id:
            raise BoundsError(
                f"{self.results}: found the run_id {run_id!r}, expected the name of a "
                f"folder in {self.runs}."
            )
        return RunFolder(self.runs / run_id)

    def every_run(self) -> Iterator[RunFolder]:
        """Yield the folders of the runs that are there, of this suite's cells or not."""
        return (RunFolder(path) for path in self.runs.glob("*"))


def refuse_links_out_of(path: Path) -> None:
    """Refuse a results folder, or a run's, in which a link leads out of it.

    Folders within a run's are those of loggers, which fedkd does not read: Weights & Biases
    keeps links to its own log there.

    Raises:
        BoundsError: Naming the first such link.
    """
    refuse_links_outside(path, closed_by=RunFolder(path).config.name)


def made_folder(path: Path | str) -> Path:
    """Return a folder; it is made, and those above it, if it is not there.

    Raises:
        ConfigError: If it, or one above it, is a file, or it is no path.
    """
    require(path, (str, Path), "folder", "a path, as a text or a pathlib.Path")
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ConfigError(
            f"folder {folder}: it, or one above it, is a file; give another folder."
        ) from None
    return folder
