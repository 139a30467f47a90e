"""``fedkd compare``: what changed between two results, and whether it is seed noise."""

from __future__ import annotations

import json
from pathlib import Path

import click

from fedkd.commands.common import FiniteNumber, Strict, wide_console
from fedkd.report.changes import changes_json, changes_markdown, changes_rich
from fedkd.report.comparing import THRESHOLD, compared, read_place
from fedkd.report.stats.intervals import LEVEL

FORMATS = ("table", "markdown", "json")


@click.command(
    cls=Strict,
    epilog="Exit code: 0 nothing lost, or nothing that seeds tell from noise, 1 a mean "
    "lost more than the threshold beyond seed noise, or a cell or a run its result, 2 a "
    "wrong input.",
)
@click.argument("before", metavar="A", type=click.Path(path_type=Path))
@click.argument("after", metavar="B", type=click.Path(path_type=Path))
@click.option(
    "--threshold",
    metavar="POINTS",
    type=FiniteNumber(min=0),
    default=THRESHOLD,
    show_default=True,
    help="Percentage points of mean accuracy that may be lost.",
)
@click.option(
    "--level",
    type=FiniteNumber(0.5, 1, max_open=True),
    default=LEVEL,
    show_default=True,
    help="Confidence of the intervals that say what is beyond seed noise; raise it "
    "where many cells are compared.",
)
@click.option(
    "--format",
    "output_format",
    type=click.Choice(FORMATS),
    default="table",
    show_default=True,
    help="How to print it; markdown is for GitHub: >> $GITHUB_STEP_SUMMARY.",
)
def command(
    before: Path, after: Path, threshold: float, level: float, output_format: str
) -> int:
    """Compare the results B with the results A, cell by cell.

    A and B are results folders of 'fedkd bench', or their files results.csv. Cells are
    paired by seed where seeds and splits agree. Global and local accuracy are compared.
    """
    comparison = compared(
        read_place(before), read_place(after), threshold=threshold, level=level
    )
    if output_format == "json":
        click.echo(json.dumps(changes_json(comparison), indent=2, ensure_ascii=False))
    elif output_format == "markdown":
        page = changes_markdown(comparison, str(before), str(after))
        click.echo(page, nl=False)
    else:
        wide_console().print(changes_rich(comparison))
    return 1 if comparison.has_failed else 0
