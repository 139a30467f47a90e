"""What results folders hold, put together: rows, suites, metrics and references."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fedkd.base import sums
from fedkd.base.folders import ResultsFolder, RunFolder, refuse_links_out_of
from fedkd.base.sealed import changed_text, damaged, sound_row
from fedkd.errors import ConfigError, FedKDError, counted, listing
from fedkd.metrics.base import Line
from fedkd.metrics.columns import Column
from fedkd.plugins.options import Resolved
from fedkd.plugins.registry import Registry, load_registry
from fedkd.report.description import protocol_lines, provenance_lines, warned_lines
from fedkd.report.parts import Part
from fedkd.report.reported import Meant, meant_by, reported_part, reported_section
from fedkd.report.results import COUNTS, Row, read_results
from fedkd.report.rows.joinable import check_protocols, check_things
from fedkd.report.rows.merging import merge_results, outcome
from fedkd.report.stages import stage_part, stage_table
from fedkd.report.table import measured_parts, table_markdown, told_parts
from fedkd.report.targets import with_target
from fedkd.report.tuning import tuning_lines
from fedkd.simulation.metrics import metrics_or_none
from fedkd.suite.metrics import built, every_column, metrics_of
from fedkd.suite.reported import Reported, load_reported
from fedkd.suite.spread import spread_strategies
from fedkd.suite.suite import Suite, load_suite

Remark = Callable[[str], None]
"""Is given a sentence on what is left out."""


@dataclass(frozen=True)
class Report:
    """Everything that is known about the folders."""

    folders: Mapping[str, RunFolder]
    """Run folders by ``run_id``."""
    rows: list[Row]
    suites: Mapping[ResultsFolder, Suite]
    references: set[str]
    columns: tuple[Column, ...]
    """Of the metrics beside accuracy."""
    registry: Registry
    papers: tuple[Reported, ...] = ()
    """Whose numbers stand beside ours."""

    @property
    def title(self) -> str:
        """The names of the suites."""
        return ", ".join(dict.fromkeys(row.suite for row in self.rows)) or "no results"


def read_report(
    folders: Sequence[ResultsFolder],
    plugin_files: Sequence[str | Path] = (),
    remark: Remark = warnings.warn,
    papers: Sequence[str] = (),
    registry: Registry | None = None,
) -> Report:
    """Read the results of one or more benches, joined.

    Args:
        folders: Results folders.
        plugin_files: Plug-ins of one file each, which the results used.
        remark: Is given a sentence on what is left out.
        papers: Whose numbers stand beside ours, beside those that the suites name: names
            of ``benchmarks/reported``, or files like those.
        registry: Where names are looked up; one with the plug-in files if None.

    Raises:
        ConfigError: If one is no results folder, they do not belong together, or one of
            ``papers`` cannot be read.
        DataError: If a file in them is damaged, or a link leads out of one.
    """
    tables: dict[str, list[Row]] = {}
    suites: dict[ResultsFolder, Suite] = {}
    found: dict[str, list[tuple[Row, RunFolder]]] = {}
    for folder in folders:
        rows = tables[str(folder.path)] = _rows(folder)
        for file in sums.changed(folder.path):
            remark(changed_text(file))
        for row in rows:
            run = folder.run(row.run_id)
            found.setdefault(row.run_id, []).append((row, run))
            if run.result.is_file() and sound_row(run) is None:
                remark(damaged(run))
        if (suite := _suite(folder, remark)) is not None:
            suites[folder] = suite
    places = {run_id: _place(some) for run_id, some in found.items()}
    rows = merge_results(tables, lambda row: _measured(places[row.run_id]))
    for place, some in tables.items() if rows else ():
        if not some:
            remark(f"{place} holds no run, and is left out.")
    check_protocols(suites)
    # Last: whatever is wrong with the folders is told without loading any plug-in.
    registry = load_registry(plugin_files) if registry is None else registry
    check_things(suites, registry)
    references = _references(suites.values(), rows, registry, remark)
    columns = _columns(suites, rows, registry, remark)
    _check_percent(columns, rows, remark)
    sources = _papers(suites.values(), papers, remark)
    return Report(places, rows, suites, references, columns, registry, sources)


def _rows(folder: ResultsFolder) -> list[Row]:
    """Return the rows of a folder.

    Raises:
        ConfigError: If it is no results folder.
        DataError: If its file is damaged, or a link leads out of the folder.
    """
    path = folder.path
    refuse_links_out_of(path)
    if not folder.results.is_file():
        kind = f"has no {folder.results.name}" if path.is_dir() else "is no folder"
        raise ConfigError(
            f"{path} {kind}; expected a results folder of 'fedkd bench', such as "
            "runs/quick."
        )
    return read_results(folder.results)


def _place(found: Sequence[tuple[Row, RunFolder]]) -> RunFolder:
    """Return where a run is: of folders whose row counts, the first with curves."""
    _, run = max(found, key=lambda one: (outcome(one[0]), one[1].metrics.is_file()))
    return run


def _measured(run: RunFolder) -> int:
    """Return how many values a run has left over its rounds."""
    lines = metrics_or_none(run)
    return sum(value is not None for line in lines for value in line.values())


def aimed(report: Report, target: float) -> Report:
    """Return a report that also has what it took to reach a target."""
    folders = report.folders
    rows, columns = with_target(
        report.rows, lambda row: metrics_or_none(folders[row.run_id]), target
    )
    known = {column.name for column in report.columns}
    more = [column for column in columns if column.name not in known]
    return replace(report, rows=rows, columns=(*report.columns, *more))


def page_of(report: Report) -> str:
    """Return the page that says all of some results, as ``table.md`` does of one bench."""
    said = told(report)
    return table_markdown(
        report.rows,
        title=report.title,
        protocol_lines=said.protocol,
        references=report.references,
        provenance=said.provenance,
        stages=stage_table(lines_of(report)),
        warned=said.warned,
        columns=report.columns,
        reported=reported_section(report.rows, report.papers, names_of(report)),
        tuning=said.tuning,
    )


def measured_of(
    report: Report, runs: Sequence[tuple[Row, Sequence[Line]]]
) -> list[Part]:
    """Return the parts of :func:`page_of` that hold numbers, in their order.

    Args:
        report: With rows.
        runs: What :func:`lines_of` returns.
    """
    more = [
        reported_part(report.rows, report.papers, names_of(report)),
        stage_part(runs),
    ]
    parts = measured_parts(report.rows, report.references, report.columns)
    return [*parts, *(part for part in more if part)]


def told_of(report: Report) -> list[Part]:
    """Return the parts of :func:`page_of` that are lists, in their order.

    Raises:
        DataError: If ``chosen.json`` of a folder is damaged.
    """
    said = told(report)
    return told_parts(
        report.rows, said.warned, said.tuning, said.protocol, said.provenance
    )


@dataclass(frozen=True)
class Told:
    """What a page says in lists."""

    protocol: list[str]
    tuning: list[str]
    provenance: list[str]
    warned: list[str]


def told(report: Report) -> Told:
    """Return what suites, searches, environments and logs say, each line once."""
    seeds: dict[str, dict[int, None]] = {}
    for suite in report.suites.values():
        seeds.setdefault(suite.name, {}).update(dict.fromkeys(suite.seeds))
    protocol, origin, tuning = [], [], []
    for folder, suite in report.suites.items():
        name = f"{suite.name}: " if len(seeds) > 1 else ""
        # Of several folders of one suite, a line of the seeds of all.
        whole = suite.with_seeds(seeds[suite.name])
        protocol += [name + line for line in protocol_lines(whole, report.registry)]
        tuning += [name + line for line in tuning_lines(folder) if suite.search]
        origin += [name + line for line in provenance_lines(folder.environment)]
    logs = ((row, report.folders[row.run_id].log) for row in report.rows)
    protocol, tuning, origin = (
        list(dict.fromkeys(lines)) for lines in (protocol, tuning, origin)
    )
    return Told(protocol, tuning, origin, warned_lines(logs))


def lines_of(report: Report) -> list[tuple[Row, list[Line]]]:
    """Return every row with the lines of its ``metrics.jsonl``."""
    folders = report.folders
    return [(row, [*metrics_or_none(folders[row.run_id])]) for row in report.rows]


def names_of(report: Report) -> Meant:
    """Return what the labels of the suites stand for."""
    return meant_by(report.suites.values(), report.registry)


def _papers(
    suites: Iterable[Suite], asked: Sequence[str], remark: Remark
) -> tuple[Reported, ...]:
    """Return the numbers of papers that suites name, as far as they are here, and others.

    Raises:
        ConfigError: If one that is asked for by name cannot be read.
    """
    sources = {name: load_reported(name) for name in asked}
    for name in (name for suite in suites for name in suite.reported):
        try:
            sources.setdefault(name, load_reported(name))
        except FedKDError as error:
            remark(str(error))
    return tuple(sources.values())


def _check_percent(
    columns: Iterable[Column], rows: Sequence[Row], remark: Remark
) -> None:
    """Tell of percentages that are none; metrics of plug-ins may do so, files may too."""
    for column in (one for one in columns if one.unit == "%"):
        values = ((row.value(column.name), row) for row in rows)
        odd = [(v, row) for v, row in values if v is not None and not 0 <= v <= 100]
        if odd:
            value, row = odd[0]
            remark(
                f"{row.title}: {column.name} is {value:g}, and percent are from 0 to 100 "
                f"({counted(len(odd), 'run')}). Was results.csv changed by hand? A metric "
                "that may be outside has another unit."
            )


def _suite(folder: ResultsFolder, remark: Remark) -> Suite | None:
    """Return the suite that was run; None, with a remark, if it cannot be read."""
    if not folder.suite.exists():
        left = "" if folder.runs.is_dir() else " and no curves, for the runs left none"
        remark(
            f"{folder.path} has rows and no {folder.suite.name}, as recorded results do: "
            f"there is no protocol to show{left}."
        )
        return None
    try:
        return load_suite(str(folder.suite))
    except FedKDError as error:
        remark(f"{error} Its protocol is left out.")
        return None


def _references(
    suites: Iterable[Suite], rows: Sequence[Row], registry: Registry, remark: Remark
) -> set[str]:
    """Return the labels of strategies that are references and not competitors."""
    labels = {row.strategy for row in rows}
    names = {
        entry.label: entry.name
        for suite in suites
        for entry in spread_strategies(registry, suite.strategies)
        if entry.label in labels
    }
    # Without a suite, as in recorded results, a label that is a name is that strategy.
    known = registry.entries("strategies")
    names |= {label: label for label in labels - names.keys() if label in known}
    references = set()
    for label, name in names.items():
        try:
            if registry.is_reference(name):
                references.add(label)
        except FedKDError as error:
            remark(str(error))
    return references


def _columns(
    suites: Mapping[ResultsFolder, Suite],
    rows: Sequence[Row],
    registry: Registry,
    remark: Remark,
) -> tuple[Column, ...]:
    """Return the columns of metrics in the rows, as the suites' metrics declare them.

    Raises:
        ConfigError: If folders mean different things by one label.
    """
    first: dict[str, tuple[ResultsFolder, Resolved]] = {}
    columns: dict[str, Column] = {}
    for folder, suite in suites.items():
        metrics, declared = _declared(folder, suite, registry, remark)
        for label, metric in metrics.items():
            other, known = first.setdefault(label, (folder, metric))
            if known.plain() != metric.plain():
                raise ConfigError(
                    f"{other.path} and {folder.path} measure different things as "
                    f"{label!r}: {known.shown()} and {metric.shown()}. Report them "
                    "apart, or give one of them another label."
                )
        columns |= declared
    present = dict.fromkeys(name for row in rows for name in row.metrics)
    lost = [name for name in present if name not in columns and name not in COUNTS]
    if lost:
        remark(
            f"nothing says how to show {listing(lost)}; it is in the CSV "
            "file and in no table. Load the plug-in that measures it with --plugin FILE."
        )
    return tuple(columns[name] for name in present if name in columns)


def _declared(
    folder: ResultsFolder, suite: Suite, registry: Registry, remark: Remark
) -> tuple[dict[str, Resolved], dict[str, Column]]:
    """Return the metrics of a suite that can be had here, by label, and all columns.

    What one of them lacks, such as its plug-in, takes no other one away.
    """
    where = str(folder.suite)
    made: list[tuple[bool, dict[str, Resolved]]] = []
    for entry in suite.metrics:
        try:
            one = metrics_of(registry, [entry], where)
            reads = any(metric.reads() for metric in built(registry, one).values())
            made.append((reads, one))
        except FedKDError as error:
            remark(str(error))
    metrics: dict[str, Resolved] = {}
    columns = every_column(registry, metrics, suite, where)
    # Last are those that read what others measure.
    for _, one in sorted(made, key=lambda entry: entry[0]):
        try:
            columns |= every_column(registry, metrics | one, suite, where)
            metrics |= one
        except FedKDError as error:
            remark(str(error))
    return metrics, columns
