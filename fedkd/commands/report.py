"""``fedkd report``: tables and figures from the results of one or more benches."""

from __future__ import annotations

import io
import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

import click
from rich.console import Console

from fedkd.base.folders import ResultsFolder
from fedkd.commands.common import FiniteNumber, Strict, plugin_option, write_asked
from fedkd.commands.figures import Asked, draw_asked, figure_options, tell_failed
from fedkd.errors import ConfigError, DataError, listing
from fedkd.report.html.rendering import html_of
from fedkd.report.paper.latex import tables_latex
from fedkd.report.paper.tidy import tidy_text
from fedkd.report.plain import plain_report
from fedkd.report.plots import draw_all
from fedkd.report.reading import Report, aimed, names_of, page_of, read_report
from fedkd.report.reported import reported_part, reported_plain
from fedkd.report.results import csv_text
from fedkd.report.terminal import part_rich, table_rich

PAGES = ("table", "markdown")
"""Formats that people read as they are; figures are drawn beside these without asking."""
BESIDE = ("table", "markdown", "html", "json")
"""Formats that have numbers of papers beside ours."""
FORMATS = ("table", "markdown", "html", "latex", "json", "csv", "results-csv")
WIDTH = 120
"""Columns of a table that is written to a file."""


@click.command(cls=Strict)
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
    help="How to print it. latex is for \\input; csv has a line a run and metric, "
    "results-csv one a run, as results.csv.  [default: table]",
)
@click.option(
    "--plots/--no-plots",
    "plots",
    default=None,
    help="Draw the figures too, or not. They go into plots/ beside the file of --out; "
    "without --out, into DIR/plots.  [default: drawn with table and markdown, but not "
    "for several DIRs without --out]",
)
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write there instead of printing; with --figures, a folder. Without it, an HTML "
    "page is DIR/report.html.",
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
    type=FiniteNumber(0, 100),
    help="Also show the rounds and bytes that it took to this global accuracy.",
)
@figure_options
@plugin_option
def command(  # noqa: PLR0913, PLR0917 - one parameter an option
    folders: tuple[Path, ...],
    output_format: str | None,
    plots: bool | None,
    out: Path | None,
    papers: tuple[str, ...],
    target: float | None,
    plugin_files: tuple[str, ...],
    asked: Asked,
) -> None:
    """Draw tables and figures from the results of 'fedkd bench'.

    Each DIR is a results folder. Several are joined into one table; a run that is in
    more than one of them counts once, and two different results of one seed are
    refused.
    """
    if output_format == "html" and not asked.figures:
        out = out or _page_in(folders)
    has_place = out is not None or len(set(folders)) == 1
    wanted = (output_format or "table") in PAGES if plots is None else plots
    draws = wanted and has_place
    _check(asked, plots, papers, target, output_format)
    asked.check(output_format, draws)
    if plots and not has_place:
        raise ConfigError(
            "--plots: found several folders and no --out, so there is no place for the "
            "figures. Add --out FILE; they go into plots/ beside it."
        )
    if out is not None and out.is_dir() and not asked.figures:
        raise ConfigError(f"--out {out}: it is a folder; give a file.")
    report = _read([ResultsFolder(one) for one in folders], plugin_files, papers)
    if asked.figures:
        draw_asked(asked, report, out, folders)
        return
    if target is not None:
        report = aimed(report, target)
    kind = output_format or "table"
    if out is not None:
        write_asked(out, _render(report, kind, asked))
        click.echo(f"Written: {out}", err=True)
    elif kind == "table":
        _print_table(report, Console())
    else:
        click.echo(_render(report, kind, asked), nl=False)
    if draws:
        home = ResultsFolder(out.parent if out is not None else folders[0])
        _draw(home, report, asked.figure_format or "png")


def _check(
    asked: Asked,
    plots: bool | None,
    papers: Sequence[str],
    target: float | None,
    output_format: str | None,
) -> None:
    """Refuse options of tables beside --figures, and numbers of papers without a place.

    Raises:
        ConfigError: If there is one.
    """
    given = {
        "--plots or --no-plots": plots is not None,
        "--reported": bool(papers),
        "--target": target is not None,
    }
    if papers and output_format not in (None, *BESIDE):
        raise ConfigError(
            f"--reported: numbers of papers are in the formats {listing(BESIDE)}, and not "
            f"in {output_format}; leave --reported out."
        )
    for name, is_given in given.items():
        if asked.figures and is_given:
            raise ConfigError(
                f"--figures: {name} does nothing beside it; leave one of them out."
            )


def _read(
    folders: Sequence[ResultsFolder], plugin_files: Sequence[str], papers: Sequence[str]
) -> Report:
    """Read the folders.

    Raises:
        DataError: If there is no run in any of them.
    """
    report = read_report(folders, plugin_files, _remark, papers)
    if not report.rows:
        raise DataError(
            f"{', '.join(str(one.results) for one in folders)}: found no run, expected a "
            "line a run. Run the bench, or go on with it."
        )
    return report


def _draw(home: ResultsFolder, report: Report, kind: str) -> None:
    """Draw the figures of the bench."""
    drawn = draw_all(
        home,
        rows=report.rows,
        homes=report.folders,
        references=report.references,
        columns=report.columns,
        kind=kind,
    )
    tell_failed(drawn)
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


def _render(report: Report, output_format: str, asked: Asked) -> str:
    """Return the report as text."""
    writers: dict[str, Callable[[], str]] = {
        "markdown": lambda: page_of(report),
        "html": lambda: html_of(report, _remark, _again()),
        "latex": lambda: _latex(report, asked),
        "json": lambda: _json(report),
        "csv": lambda: tidy_text(report.rows, report.columns),
        "results-csv": lambda: csv_text(report.rows),
    }
    if output_format in writers:
        return writers[output_format]()
    text = io.StringIO()
    _print_table(report, Console(file=text, width=WIDTH))
    return text.getvalue()


def _again() -> str:
    """Return the line that makes the page again: the folders and options as given."""
    given = click.get_current_context().params
    words = ["fedkd", "report", *map(str, given["folders"]), "--format", "html"]
    options = {
        "--out": [given["out"]],
        "--reported": given["papers"],
        "--target": [given["target"]],
        "--plugin": given["plugin_files"],
    }
    for name, values in options.items():
        words += [w for v in values if v is not None for w in (name, str(v))]
    return shlex.join(words)


def _latex(report: Report, asked: Asked) -> str:
    return tables_latex(
        report.rows,
        title=report.title if asked.heading == "" else asked.heading,
        references=report.references,
        columns=report.columns,
        width=asked.width or "page",
    )


def _json(report: Report) -> str:
    values = plain_report(report.rows, report.references, report.columns)
    if report.papers:
        names = names_of(report)
        values["reported"] = reported_plain(report.rows, report.papers, names)
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def _print_table(report: Report, console: Console) -> None:
    console.print(
        table_rich(
            report.rows,
            title=report.title,
            references=report.references,
            columns=report.columns,
        )
    )
    part = reported_part(report.rows, report.papers, names_of(report))
    if part is not None:
        console.print(part_rich(part))
