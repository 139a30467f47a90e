"""Options of ``fedkd report`` for figures, and the figures that they ask for."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import click

from fedkd.base.folders import ResultsFolder
from fedkd.errors import ConfigError
from fedkd.report.curves import PANELS
from fedkd.report.figures import KINDS
from fedkd.report.paper.pictures import INCHES, PaperFigure, draw_paper
from fedkd.report.plots import Drawn
from fedkd.report.reading import Report
from fedkd.suite.overrides import names_in

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Asked:
    """What the command line says of figures; None where it says nothing."""

    figures: bool = False
    methods: str | None = None
    metric: str | None = None
    panel: str | None = None
    width: str | None = None
    title: str | None = None
    figure_format: str | None = None

    def check(self, output_format: str | None, draws: bool) -> None:
        """Refuse options that would do nothing.

        Args:
            output_format: What ``--format`` says; None where it is left out.
            draws: Whether the figures of the bench are drawn, without ``--figures``.

        Raises:
            ConfigError: If there is one.
        """
        names = ("methods", "metric", "panel", "width", "title")
        for name in names:
            in_table = name in ("width", "title") and output_format == "latex"
            if getattr(self, name) is not None and not self.figures and not in_table:
                more = " or --format latex" if name in ("width", "title") else ""
                raise ConfigError(
                    f"--{name}: it does nothing without --figures{more}; add that, or "
                    f"leave --{name} out."
                )
        if self.figure_format is not None and not (self.figures or draws):
            raise ConfigError(
                "--figure-format: no figure is drawn; add --figures or --plots, or leave "
                "it out."
            )
        if self.figures and output_format is not None:
            raise ConfigError(
                f"--figures draws and prints no table, so --format {output_format} does "
                "nothing; call the command once for each."
            )

    @property
    def heading(self) -> str | None:
        """The title; empty where none is given, None if there shall be none."""
        return None if self.title == "none" else (self.title or "")

    @property
    def wanted(self) -> PaperFigure:
        """What ``--figures`` draws."""
        listed = [] if self.methods is None else names_in(self.methods, "--methods")
        default = PaperFigure()
        return PaperFigure(
            tuple(listed),
            self.metric or default.metric,
            self.panel or default.panel,
            self.width or default.width,
            self.heading,
            self.figure_format or default.kind,
        )


def figure_options(command: F) -> F:
    """Add the options of figures to a command, which gets ``asked``."""

    @functools.wraps(command)
    def with_asked(*arguments: Any, **options: Any) -> Any:
        own = {one.name: options.pop(one.name) for one in fields(Asked)}
        return command(*arguments, asked=Asked(**own), **options)

    for option in reversed(_OPTIONS):
        with_asked = option(with_asked)
    return with_asked  # type: ignore[return-value]


def draw_asked(
    asked: Asked, report: Report, out: Path | None, folders: Sequence[Path]
) -> None:
    """Draw the figures for a paper, and print where they are and what captions need.

    Raises:
        ConfigError: If there is no place for them, or nothing to draw.
    """
    if out is None and len(set(folders)) > 1:
        raise ConfigError(
            "--figures: found several folders, so there is no place for the figures. Add "
            "--out FOLDER."
        )
    if out is not None and out.is_file():
        raise ConfigError(f"--out {out}: it is a file; with --figures give a folder.")
    place = out if out is not None else ResultsFolder(folders[0]).plots
    drawn = draw_paper(report, asked.wanted, place)
    tell_failed(drawn)
    for path in drawn.files:
        click.echo(str(path))
        click.echo(f"  for the caption: {drawn.captions[path]}")


def tell_failed(drawn: Drawn) -> None:
    """Print a warning for each picture that could not be drawn."""
    for line in drawn.failed:
        click.echo(f"fedkd: warning: {line}", err=True)


_OPTIONS = (
    click.option(
        "--figures",
        is_flag=True,
        help="Draw figures for a paper in place of a table: letters of 8 points, as wide "
        "as --width says. They go into the folder of --out; without it, into DIR/plots.",
    ),
    click.option(
        "--methods",
        metavar="A,B,...",
        help="With --figures: the strategies to draw, by their labels in tables.  "
        "[default: all]",
    ),
    click.option(
        "--metric",
        metavar="COLUMN",
        help="With --figures: what to draw, such as local_accuracy.  [default: "
        "global_accuracy]",
    ),
    click.option(
        "--panel",
        type=click.Choice([*PANELS]),
        help="With --figures: against what.  [default: rounds]",
    ),
    click.option(
        "--width",
        type=click.Choice([*INCHES]),
        help="Room in the paper. With --figures: a column of 3.3 inches and a figure a "
        "setting (the default), or a page of 7 with partitions side by side. With --format "
        "latex: a column, or the lines of the class article (the default).",
    ),
    click.option(
        "--title",
        metavar="TEXT",
        help="Title of figures, or what ends the captions of --format latex; 'none' for "
        "none.",
    ),
    click.option(
        "--figure-format",
        type=click.Choice([*KINDS]),
        help="What files of figures are.  [default: pdf with --figures, else png]",
    ),
)
