"""``fedkd report``: tables and figures from the results of one or more benches."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
from rich.console import Console

from fedkd.base.files import write_atomic
from fedkd.base.folders import ResultsFolder, RunFolder
from fedkd.commands.common import plugin_option
from fedkd.errors import ConfigError, FedKDError, listing
from fedkd.metrics.columns import Column
from fedkd.plugins.options import Resolved
from fedkd.plugins.registry import Registry, load_registry
from fedkd.report.description import protocol_lines, provenance_lines
from fedkd.report.plain import plain_report
from fedkd.report.plots import draw_all
from fedkd.report.reported import reported_section
from fedkd.report.results import Row, csv_text, merge_results, read_results
from fedkd.report.stages import stage_table
from fedkd.report.table import table_markdown
from fedkd.report.targets import with_target
from fedkd.report.terminal import table_rich
from fedkd.report.warned import warned_lines
from fedkd.simulation.metrics import metrics_or_none
from fedkd.simulation.protocol import Protocol
from fedkd.suite.metrics import columns_of, metrics_of
from fedkd.suite.reported import Reported, load_reported
from fedkd.suite.suite import Suite, load_suite

PROTOCOL = tuple(key for key in Protocol.model_fields if key != "evaluation")
"""What runs of one suite share, whatever their seeds and when they are measured."""
FORMATS = ("table", "markdown", "json", "csv")
WIDTH = 120
"""Columns of a table that is written to a file."""


@dataclass(frozen=True)
class _Report:
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


@click.command()
@click.argument(
    "folders",
    nargs=-1,
    required=True,
    metavar="DIR...",
    type=click.Path(path_type=Path),
)
@click.option(
    "--format",
    "output_format",
    type=click.Choice(FORMATS),
    default="table",
    show_default=True,
    help="How to print it.",
)
@click.option(
    "--plots/--no-plots",
    "plots",
    default=None,
    help="Draw the figures too, or not. They go into plots/ beside the file of --out; "
    "without --out, into DIR/plots.  [default: drawn, but not for several DIRs "
    "without --out]",
)
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write there instead of printing.",
)
@click.option(
    "--reported",
    "papers",
    metavar="NAME",
    multiple=True,
    help="Numbers of a paper to show beside ours: a name of benchmarks/reported or a "
    "file like those. May be given more than once.",
)
@click.option(
    "--target",
    metavar="PERCENT",
    type=click.FloatRange(0, 100),
    help="Also show the rounds and bytes that it took to this global accuracy.",
)
@plugin_option
def command(  # noqa: PLR0913, PLR0917 - one parameter an option
    folders: tuple[Path, ...],
    output_format: str,
    plots: bool | None,
    out: Path | None,
    papers: tuple[str, ...],
    target: float | None,
    plugin_files: tuple[str, ...],
) -> None:
    """Draw tables and figures from the results of 'fedkd bench'.

    Each DIR is a results folder. Several are joined into one table; a run that is in
    more than one of them counts once.
    """
    if plots and out is None and len(set(folders)) > 1:
        raise ConfigError(
            "--plots: found several folders and no --out, so there is no place for the "
            "figures. Add --out FILE; they go into plots/ beside it."
        )
    read = [ResultsFolder(folder) for folder in folders]
    report = _read(read, plugin_files, papers)
    if target is not None:
        report = _aimed(report, target)
    if out is not None:
        write_atomic(out, _render(report, output_format))
        click.echo(f"Written: {out}", err=True)
    elif output_format == "table":
        _print_table(report, Console())
    else:
        click.echo(_render(report, output_format), nl=False)
    home = ResultsFolder(out.parent if out is not None else folders[0])
    if plots is not False and (out is not None or len(set(folders)) == 1):
        drawn = draw_all(
            home,
            folders=read,
            references=report.references,
            columns=report.columns,
        )
        for line in drawn.failed:
            click.echo(f"fedkd: warning: {line}", err=True)
        click.echo(f"Figures: {len(drawn.files)} in {home.plots}", err=True)


def _read(
    folders: Sequence[ResultsFolder],
    plugin_files: Sequence[str],
    papers: Sequence[str],
) -> _Report:
    tables: dict[str, list[Row]] = {}
    suites: dict[ResultsFolder, Suite] = {}
    places: dict[str, RunFolder] = {}
    for folder in folders:
        path = folder.path
        if not folder.results.is_file():
            kind = f"has no {folder.results.name}" if path.is_dir() else "is no folder"
            raise ConfigError(
                f"{path} {kind}; expected a results folder of 'fedkd bench', such as "
                "runs/quick."
            )
        tables[str(path)] = read_results(folder.results)
        for row in tables[str(path)]:
            places.setdefault(row.run_id, folder.run(row.run_id))
        suite = _suite(folder)
        if suite is not None:
            suites[folder] = suite
    rows = merge_results(tables)
    _check_protocols(suites)
    # Last: whatever is wrong with the folders is told without loading any plug-in.
    registry = load_registry(plugin_files)
    references = _references(suites.values(), rows, registry)
    columns = _columns(suites, rows, registry)
    sources = _papers(suites.values(), papers)
    return _Report(places, rows, suites, references, columns, registry, sources)


def _aimed(report: _Report, target: float) -> _Report:
    """Return a report that also has what it took to reach a target."""
    folders = report.folders
    rows, columns = with_target(
        report.rows, lambda row: metrics_or_none(folders[row.run_id]), target
    )
    known = {column.name for column in report.columns}
    more = [column for column in columns if column.name not in known]
    return replace(report, rows=rows, columns=(*report.columns, *more))


def _papers(suites: Iterable[Suite], asked: Sequence[str]) -> tuple[Reported, ...]:
    """Return the numbers of papers that suites name, as far as they are here, and others.

    Raises:
        ConfigError: If one that is asked for by option cannot be read.
    """
    sources = {name: load_reported(name) for name in asked}
    for name in (name for suite in suites for name in suite.reported):
        try:
            sources.setdefault(name, load_reported(name))
        except FedKDError as error:
            click.echo(f"fedkd: remark: {error}", err=True)
    return tuple(sources.values())


def _check_protocols(suites: Mapping[ResultsFolder, Suite]) -> None:
    """Refuse folders of one suite name whose runs are no seeds of the same thing.

    Raises:
        ConfigError: Naming the folders and the first key in which they differ.
    """
    first: dict[str, tuple[ResultsFolder, Suite]] = {}
    for folder, suite in suites.items():
        other, known = first.setdefault(suite.name, (folder, suite))
        for key in PROTOCOL:
            if getattr(known, key) != getattr(suite, key):
                raise ConfigError(
                    f"{other.path} and {folder.path} ran suite {suite.name!r} with "
                    f"different '{key}'; their runs are no seeds of one thing. Report "
                    "them apart, or give one of the suites another name."
                )


def _suite(folder: ResultsFolder) -> Suite | None:
    """Return the suite that was run; None, with a remark, if it cannot be read."""
    try:
        return load_suite(str(folder.suite))
    except FedKDError as error:
        click.echo(f"fedkd: remark: {error} Its protocol is left out.", err=True)
        return None


def _references(
    suites: Iterable[Suite], rows: Sequence[Row], registry: Registry
) -> set[str]:
    """Return the labels of strategies that are references and not competitors."""
    labels = {row.strategy for row in rows}
    names = {
        entry.label: entry.name
        for suite in suites
        for entry in suite.strategies
        if entry.label in labels
    }
    references = set()
    for label, name in names.items():
        try:
            if registry.is_reference(name):
                references.add(label)
        except FedKDError as error:
            click.echo(f"fedkd: remark: {error}", err=True)
    return references


def _columns(
    suites: Mapping[ResultsFolder, Suite], rows: Sequence[Row], registry: Registry
) -> tuple[Column, ...]:
    """Return the columns of metrics in the rows, as the suites' metrics declare them.

    Raises:
        ConfigError: If folders mean different things by one label.
    """
    first: dict[str, tuple[ResultsFolder, Resolved]] = {}
    columns: dict[str, Column] = {}
    for folder, suite in suites.items():
        try:
            metrics = metrics_of(registry, suite.metrics, suite.where)
            declared = columns_of(registry, metrics, suite.where)
        except FedKDError as error:
            click.echo(f"fedkd: remark: {error}", err=True)
            continue
        for label, metric in metrics.items():
            other, known = first.setdefault(label, (folder, metric))
            if known.plain() != metric.plain():
                raise ConfigError(
                    f"{other.path} and {folder.path} measure different things as "
                    f"{label!r}: {known.shown()} and {metric.shown()}. Report them "
                    "apart, or give one of them another label."
                )
        columns |= {column.name: column for column in declared}
    present = dict.fromkeys(name for row in rows for name in row.metrics)
    lost = [name for name in present if name not in columns]
    if lost:
        click.echo(
            f"fedkd: remark: nothing says how to show {listing(lost)}; it is in the CSV "
            "file and in no table. Load the plug-in that measures it with --plugin.",
            err=True,
        )
    return tuple(columns[name] for name in present if name in columns)


def _render(report: _Report, output_format: str) -> str:
    """Return the report as text."""
    if output_format == "csv":
        return csv_text(report.rows)
    if output_format == "json":
        values = plain_report(report.rows, report.references, report.columns)
        return json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    if output_format == "markdown":
        return _markdown(report)
    text = io.StringIO()
    _print_table(report, Console(file=text, width=WIDTH))
    return text.getvalue()


def _print_table(report: _Report, console: Console) -> None:
    console.print(
        table_rich(
            report.rows,
            title=report.title,
            references=report.references,
            columns=report.columns,
        )
    )


def _markdown(report: _Report) -> str:
    folders = report.folders
    runs = [(row, metrics_or_none(folders[row.run_id])) for row in report.rows]
    several = len(report.suites) > 1
    protocol, origin = [], []
    for folder, suite in report.suites.items():
        name = f"{suite.name}: " if several else ""
        protocol += [name + line for line in protocol_lines(suite, report.registry)]
        origin += [name + line for line in provenance_lines(folder.environment)]
    return table_markdown(
        report.rows,
        title=report.title,
        protocol_lines=protocol,
        references=report.references,
        provenance=origin,
        stages=stage_table(runs),
        warned=warned_lines((row, folders[row.run_id].log) for row in report.rows),
        columns=report.columns,
        reported=_reported(report),
    )


def _reported(report: _Report) -> str:
    """Return the section of papers' numbers."""
    names = {
        entry.label: entry.name
        for suite in report.suites.values()
        for entry in suite.strategies
    }
    return reported_section(report.rows, report.papers, names)
