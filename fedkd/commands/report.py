"""``fedkd report``: tables and figures from the results of one or more benches."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import click
from rich.console import Console

from fedkd.base.files import write_atomic
from fedkd.base.folders import ResultsFolder
from fedkd.commands.common import plugin_option
from fedkd.errors import ConfigError
from fedkd.report.html.rendering import html_of
from fedkd.report.plain import plain_report
from fedkd.report.plots import draw_all
from fedkd.report.reading import Report, aimed, page_of, read_report
from fedkd.report.results import csv_text
from fedkd.report.terminal import table_rich

FORMATS = ("table", "markdown", "json", "csv", "html")
WIDTH = 120
"""Columns of a table that is written to a file."""


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
    "without --out, nor for an HTML page, which has its own]",
)
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write there instead of printing. Without it, an HTML page is DIR/report.html.",
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
    if output_format == "html":
        out, plots = out or _page_in(folders), bool(plots)
    report = read_report(read, plugin_files, _remark, papers)
    if target is not None:
        report = aimed(report, target)
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


def _page_in(folders: Sequence[Path]) -> Path:
    """Return where an HTML page goes without ``--out``: nobody reads one on a terminal.

    Raises:
        ConfigError: If there are several folders.
    """
    if len(set(folders)) > 1:
        raise ConfigError(
            "--format html: found several folders and no --out, so there is no place for "
            "the page. Add --out FILE."
        )
    return ResultsFolder(folders[0]).page


def _remark(line: str) -> None:
    click.echo(f"fedkd: remark: {line}", err=True)


def _render(report: Report, output_format: str) -> str:
    """Return the report as text."""
    if output_format == "csv":
        return csv_text(report.rows)
    if output_format == "json":
        values = plain_report(report.rows, report.references, report.columns)
        return json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    if output_format == "markdown":
        return page_of(report)
    if output_format == "html":
        return html_of(report, _remark)
    text = io.StringIO()
    _print_table(report, Console(file=text, width=WIDTH))
    return text.getvalue()


def _print_table(report: Report, console: Console) -> None:
    console.print(
        table_rich(
            report.rows,
            title=report.title,
            references=report.references,
            columns=report.columns,
        )
    )
