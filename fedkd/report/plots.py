"""The pictures of a bench: curves, partitions and generator samples of its runs."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from fedkd.base.bounds import read_bytes
from fedkd.base.folders import ResultsFolder, RunFolder
from fedkd.base.runname import with_alpha
from fedkd.errors import DataError, cause
from fedkd.metrics.base import Line
from fedkd.metrics.columns import Column
from fedkd.report.curves import Curve, draw_curves
from fedkd.report.figures import image_grid, partition_heat_map
from fedkd.report.grouping import (
    GLOBAL,
    LOCAL,
    Groups,
    Setting,
    group,
    is_of_global,
    setting_titles,
    without_global,
)
from fedkd.report.looks import Look, look, looks
from fedkd.report.notes import OF_CLIENTS
from fedkd.report.results import Row, read_results
from fedkd.report.scatter import draw_pareto, draw_ranks
from fedkd.report.stats.front import COSTS, points
from fedkd.report.stats.ranks import Ranking, rank
from fedkd.report.text import distinct
from fedkd.simulation.faults.clock import SECONDS
from fedkd.simulation.metrics import metrics_or_none

T = TypeVar("T")
FIRST = look(0)

__all__ = ["draw_all", "image_grid", "partition_heat_map", "read_counts"]


@dataclass
class Drawn:
    """The pictures of a bench."""

    files: list[Path] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    """A sentence for each picture that could not be drawn."""
    captions: dict[Path, str] = field(default_factory=dict)
    """What is to be said of a picture, of some of them."""

    def read(self, path: Path, how: Callable[[Path], T]) -> T | None:
        """Read what a picture is to show; None, and a sentence, if it is damaged."""
        try:
            return how(path)
        except Exception as error:
            own = isinstance(error, DataError)
            text = str(error) if own else f"{path}: {cause(error)}"
            self.failed.append(f"{text.rstrip('.')}; it is not drawn.")
            return None

    def draw(self, path: Path, how: Callable[[Path], None]) -> None:
        """Draw one picture; whatever is wrong with it stops no other."""
        try:
            how(path)
        except Exception as error:
            self.failed.append(
                f"{path} could not be drawn: {cause(error).rstrip('.')}."
            )
        else:
            self.files.append(path)


def draw_all(
    out: ResultsFolder,
    *,
    rows: Sequence[Row] | None = None,
    homes: Mapping[str, RunFolder] | None = None,
    references: Collection[str] = (),
    columns: Sequence[Column] = (),
    kind: str = "png",
) -> Drawn:
    """Draw the pictures of a bench into ``out/plots``.

    * ``accuracy-<setting>.png``: accuracy against rounds, images, bytes and, with a
      clock, simulated time; and for local accuracy and each further metric such as
      ``global-loss-<setting>.png``;
    * ``costs-<setting>.png``: accuracy against bytes, images and seconds of a run;
    * ``ranks.png``: mean ranks over all settings and seeds, where there are enough;
    * ``partition-<setting>-s<seed>.png``: client x class table, of the first seed;
    * ``generators-<label>-<setting>-s<seed>.png``: a strategy's images, first seed.

    Runs that left no such files have no pictures. Only runs that are done are drawn.

    Args:
        out: The results folder.
        rows: What is drawn, as :func:`~fedkd.report.rows.merging.merge_results` joins it;
            what is in ``out`` if None.
        homes: Folders of the runs by ``run_id``; those in ``out`` if None.
        references: Labels of strategies that are drawn as references.
        columns: Of metrics beside accuracy. Their local means have no picture, nor
            has what is of no round.
        kind: Ending of the files: ``png``, ``pdf`` or ``svg``.

    Raises:
        DataError: If ``results.csv`` is damaged. Any other file that is costs its picture.
    """
    rows = read_results(out.results) if rows is None else rows
    homes = homes or {row.run_id: out.run(row.run_id) for row in rows}
    shown = looks([*dict.fromkeys(row.strategy for row in rows)], references)
    groups = group(rows)
    finished = {
        key: own
        for key, some in groups.items()
        if (own := [row for row in some if row.status == "done"])
    }
    settings = list(dict.fromkeys(setting for _, setting in finished))
    drawn = Drawn()
    for setting, slug in slugs_of(settings).items():
        runs = {name: some for (name, own), some in finished.items() if own == setting}
        page = _Page(Place(out.plots, slug, kind), setting, homes, drawn)
        page.curves(runs, shown, [GLOBAL, LOCAL, *columns])
        page.costs(groups, setting, shown)
        page.partition(runs)
        page.galleries(runs)
    ranking = rank(rows, references)
    if isinstance(ranking, Ranking):
        title = ", ".join(dict.fromkeys(row.suite for row in rows))
        path = out.plots / f"ranks.{kind}"
        drawn.draw(path, partial(draw_ranks, ranking, title=title))
    return drawn


LARGEST_GALLERY = 1 << 30
"""Most bytes of the images of a run."""


def read_counts(path: Path) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Read a client x class table: ``client,<class>,…`` and one line a client.

    Returns:
        Counts ``[K, C]`` and the class names.

    Raises:
        DataError: If it is damaged; names the file and the line.
    """
    try:
        text = read_bytes(path).decode("utf-8-sig")
        lines = list(csv.reader(io.StringIO(text, newline="")))
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not CSV: {error}.") from None
    if len(lines) < 2 or len(lines[0]) < 2 or lines[0][0] != "client":
        raise DataError(
            f"{path}:1: expected the header 'client,<class>,…' and one line a client."
        )
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(lines[0]) or not all(map(_is_count, line[1:])):
            raise DataError(
                f"{path}:{number}: expected a client and {len(lines[0]) - 1} whole "
                f"numbers, found {','.join(line)!r}."
            )
    counts = np.array([[int(text) for text in line[1:]] for line in lines[1:]])
    return counts.astype(np.int64), tuple(lines[0][1:])


def _is_count(text: str) -> bool:
    return text.isdecimal() and len(text) <= 15


@dataclass(frozen=True)
class Place:
    """Where the pictures of one setting go."""

    folder: Path
    slug: str
    """Of the setting, in names."""
    kind: str
    """Ending of the names."""

    def path(self, start: str, end: str = "") -> Path:
        """Return the path of a picture."""
        return self.folder / f"{start}-{self.slug}{end}.{self.kind}"


class _Page:
    """The pictures of one setting."""

    def __init__(
        self,
        place: Place,
        setting: Setting,
        homes: Mapping[str, RunFolder],
        drawn: Drawn,
    ) -> None:
        self.place = place
        self.homes = homes
        self.drawn = drawn
        titles, shared = setting_titles([setting])
        self.title = f"{titles[0]} ({shared})"

    def curves(
        self,
        runs: Mapping[str, Sequence[Row]],
        shown: Mapping[str, Look],
        columns: Sequence[Column],
    ) -> None:
        """Draw the curves of all strategies, a picture for each metric."""
        lines = {
            label: [metrics_or_none(self.homes[row.run_id]) for row in rows]
            for label, rows in runs.items()
        }
        for column in columns:
            if column.scope not in ("global", "clients") and column is not LOCAL:
                continue
            curves = curves_of(runs, lines, column, shown)
            if curves:
                name = "accuracy" if column is GLOBAL else column.name.replace("_", "-")
                signed = any(curve.of_clients for curve in curves)
                sign = f" — {OF_CLIENTS} no global model" if signed else ""
                how = partial(draw_curves, curves, column, title=self.title + sign)
                self.drawn.draw(self.place.path(name), how)

    def costs(
        self, groups: Groups, setting: Setting, shown: Mapping[str, Look]
    ) -> None:
        """Draw accuracy beside what runs cost, where two strategies or more say both."""
        out = [label for label, own in shown.items() if own.reference]
        every = {cost: points(groups, setting, cost, out) for cost in COSTS}
        panels = {cost: some for cost, some in every.items() if len(some) > 1}
        if panels:
            how = partial(draw_pareto, panels, shown, title=self.title)
            self.drawn.draw(self.place.path("costs"), how)

    def partition(self, runs: Mapping[str, Sequence[Row]]) -> None:
        """Draw the client x class table of the first seed that left one."""
        rows = sorted((row for some in runs.values() for row in some), key=_seed)
        for row in rows:
            source = self.homes[row.run_id].counts
            table = self.drawn.read(source, read_counts) if source.is_file() else None
            if table is not None:
                counts, classes = table
                path = self.place.path("partition", f"-s{row.seed}")
                title = f"{self.title}, seed {row.seed}"
                how = partial(partition_heat_map, counts, classes, title=title)
                self.drawn.draw(path, how)
                return

    def galleries(self, runs: Mapping[str, Sequence[Row]]) -> None:
        """Draw each strategy's images, of the first seed that left some."""
        for label, rows in runs.items():
            for row in sorted(rows, key=_seed):
                images = self.drawn.read(self.homes[row.run_id].gallery, read_gallery)
                if images:
                    start, end = f"generators-{_slug(label)}", f"-s{row.seed}"
                    title = f"{label}: {self.title}, seed {row.seed}"
                    how = partial(image_grid, images, title=title)
                    self.drawn.draw(self.place.path(start, end), how)
                    break


def read_gallery(path: Path) -> dict[str, NDArray[np.uint8]]:
    """Read the images of a run, ``{name: [N, C, H, W]}``; none without the file.

    Raises:
        DataError: If it is damaged.
    """
    if not path.is_file():
        return {}
    try:
        images: dict[str, NDArray[np.uint8]] = load(read_bytes(path, LARGEST_GALLERY))
    except (SafetensorError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(f"{path}: not a gallery: {error}.") from None
    for name, x in images.items():
        if x.dtype != np.uint8 or x.ndim != 4 or x.shape[1] not in (1, 3):
            raise DataError(
                f"{path}: found {name} of shape {list(x.shape)} and type {x.dtype}, "
                "expected images uint8 [N, C, H, W] with C 1 or 3."
            )
    return {name: images[name] for name in sorted(images, key=_natural)}


def curves_of(
    runs: Mapping[str, Sequence[Row]],
    lines: Mapping[str, Sequence[Sequence[Line]]],
    column: Column,
    shown: Mapping[str, Look],
) -> list[Curve]:
    """Return the curves of one setting; who has no global model is signed where it counts.

    Args:
        runs: By label.
        lines: Of their ``metrics.jsonl``, by label.
        column: What is drawn.
        shown: What each strategy is drawn with, by label.
    """
    found = []
    for label, rows in runs.items():
        curve = curve_of(label, lines[label], column, shown[label])
        if curve:
            of_clients = is_of_global(column) and without_global(rows)
            found.append(replace(curve, of_clients=of_clients))
    return found


def curve_of(
    label: str,
    runs: Sequence[Sequence[Line]],
    column: Column = GLOBAL,
    shown: Look = FIRST,
) -> Curve | None:
    """Return the curve over the rounds that were measured in every run; None if none.

    Runs that were not asked for the metric do not count.
    """
    by_round = [
        {line["round"]: line for line in lines if column.value(line) is not None}
        for lines in runs
        if any(column.name in line for line in lines)
    ]
    common = sorted(set.intersection(*map(set, by_round))) if by_round else []
    if not common:
        return None
    picked = [[run[index] for index in common] for run in by_round]
    values = np.array([[column.value(one) for one in run] for run in picked])
    examples = np.array([[one["client_examples"] for one in run] for run in picked])
    sent = np.array(
        [[one["bytes_up"] + one["bytes_down"] for one in r] for r in picked]
    )
    return Curve(
        label,
        values.astype(float),
        np.array(common, dtype=float),
        examples.mean(0),
        sent.mean(0) / 1e6,
        _mean_of(picked, "seconds"),
        _mean_of(picked, SECONDS),
        shown,
    )


def _mean_of(picked: Sequence[Sequence[Line]], name: str) -> NDArray[np.float64] | None:
    """Return means over runs of what their lines say; None if one does not say it."""
    values = np.array([[one.get(name) for one in run] for run in picked], dtype=float)
    return values.mean(0) if np.isfinite(values).all() else None


def slugs_of(settings: Sequence[Setting]) -> dict[Setting, str]:
    """Return a file name's part for every setting; no two are equal."""
    return dict(zip(settings, distinct(map(_slug_of, settings)), strict=True))


def _slug_of(setting: Setting) -> str:
    parts = [
        setting.dataset,
        with_alpha(setting.partition, setting.alpha, ""),
        setting.models,
        setting.suite,
        *(f"{name} {value}" for name, value in setting.axes),
    ]
    return _slug("-".join(filter(None, parts)))[:100]


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.") or "x"


def _seed(row: Row) -> int:
    return row.seed


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort ``client 10`` after ``client 9``."""
    pieces = re.split(r"(\d+)", name)
    return [(int(piece), "") if piece.isdecimal() else (0, piece) for piece in pieces]
