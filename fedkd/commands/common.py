"""Options that several commands share."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fedkd.base.files import write_atomic
from fedkd.base.folders import made_folder
from fedkd.base.streams import is_screen

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 120
"""Columns of text in a file or a pipe, where nothing is gained by folding at 80."""
STYLES = {"ok": "green", "partly": "yellow", "broken": "bold red", "disabled": "dim"}
"""How words of a status are drawn on a terminal."""

_PLAIN = re.compile(r"-?(0|[1-9][0-9]*)")


class WholeNumber(click.IntRange):
    """A whole number as suites take it: 010 and 1_000 are none, which may be read twice."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        """Return the number.

        Raises:
            click.BadParameter: If it is none, is written otherwise, or is out of range.
        """
        if isinstance(value, str) and not _PLAIN.fullmatch(value):
            self.fail(
                f"{value!r} is not a plain decimal number, such as 10.", param, ctx
            )
        return super().convert(value, param, ctx)


class FiniteNumber(click.FloatRange):
    """A number within a range; nan, which is in none and outside none, is no number."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        """Return the number.

        Raises:
            click.BadParameter: If it is none, is not finite, or is out of range.
        """
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is no finite number, such as 1.5.", param, ctx)
        return number


F = TypeVar("F", bound=Callable[..., Any])
_BARE = re.compile(r"(--[a-z][a-z-]*)=")
"""An option with nothing behind the sign."""


class Strict(click.Command):
    """A command that takes no empty text for a value, and no value twice.

    An empty text is most often a shell's variable that is not set. Read as a path it is
    this folder, and as a list it would be everything.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments.

        Raises:
            click.UsageError: If a value is empty, or an option that may be given more
                than once has one twice.
        """
        refuse_empty(args, ctx)
        rest = super().parse_args(ctx, args)
        for one in self.params:
            # Plug-in files may come from the group, too, and are loaded once.
            if getattr(one, "multiple", False) and one.name != "plugin_files":
                self._refuse_twice(one, ctx)
        return rest

    @staticmethod
    def _refuse_twice(one: click.Parameter, ctx: click.Context) -> None:
        values = [str(value) for value in ctx.params.get(one.name or "") or ()]
        is_set = one.name == "assignments"
        names = [
            value.partition("=")[0].strip() if is_set else value for value in values
        ]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise click.UsageError(
                f"{one.opts[0]}: found {twice!r} twice; give it once.", ctx
            )


def refuse_empty(args: Sequence[str], ctx: click.Context) -> None:
    """Refuse arguments of which one is empty.

    Raises:
        click.UsageError: Naming the option that it belongs to.
    """
    for before, argument in zip(("", *args), args, strict=False):
        bare = _BARE.fullmatch(argument)
        if bare or not argument:
            option = bare[1] if bare else before if before.startswith("--") else ""
            where = (
                f"{option}: found an empty text" if option else "an argument is empty"
            )
            hint = f", or leave {option} out" if option else ""
            raise click.UsageError(f"{where}, expected a value. Write one{hint}.", ctx)


def _with_those_above(
    context: click.Context, parameter: click.Parameter, value: tuple[str, ...]
) -> tuple[str, ...]:
    """Put the files given before the sub-command in front of those after it."""
    del parameter
    above = context.parent.params.get("plugin_files", ()) if context.parent else ()
    return tuple(dict.fromkeys((*above, *value)))


plugin_option: Callable[[F], F] = click.option(
    "--plugin",
    "plugin_files",
    metavar="FILE",
    multiple=True,
    callback=_with_those_above,
    help="Python file with plug-in hooks; may be given more than once.",
)
"""Adds ``--plugin FILE``. The command gets ``plugin_files: tuple[str, ...]``, with the
files given at the group's level first; hand it to ``fedkd.load_registry``."""


def format_option(default: str = "table") -> Callable[[F], F]:
    """Return a decorator that adds ``--format``; the command gets ``output_format``.

    Args:
        default: The human form, ``table`` or ``text``; the other choice is ``json``.
    """
    return click.option(
        "--format",
        "output_format",
        type=click.Choice([default, "json"]),
        default=default,
        show_default=True,
        help="How to print it.",
    )


def print_table(
    title: str, columns: Sequence[str], records: Sequence[Mapping[str, Any]]
) -> None:
    """Print records under a title: drawn on a terminal, plain aligned text elsewhere.

    Plain text is never cut, so that it can be searched and piped.
    """
    texts = [[str(record.get(c, "")) for c in columns] for record in records]
    if sys.stdout.isatty():
        _draw(title, columns, texts)
        return
    click.echo(f"{title}:")
    widths = [
        max(len(row[i]) for row in [columns, *texts]) for i in range(len(columns))
    ]
    # Two columns, a name and what it is, explain themselves.
    header = [list(columns)] if len(columns) > 2 and texts else []
    for row in [*header, *texts] or [["(none)"]]:
        cells = (text.ljust(width) for text, width in zip(row, widths, strict=False))
        click.echo(("  " + "  ".join(cells)).rstrip())


def _draw(title: str, columns: Sequence[str], texts: list[list[str]]) -> None:
    # Imported here: without a terminal nothing else of a listing needs rich.
    from rich import box  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD)
    for number, column in enumerate(columns):
        first = number == 0
        style = "bold" if first else ""
        table.add_column(column, no_wrap=first, style=style, overflow="fold")
    for row in texts:
        # Text, because a summary may hold square brackets, which are markup to rich.
        table.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in row))
    Console().print(table)


def wide_console() -> Console:
    """Return a console for tables that are as wide in a file or a pipe as they need."""
    from rich.console import Console  # noqa: PLC0415 - see _draw

    asked = is_screen(sys.stdout) or "COLUMNS" in os.environ
    return Console(width=None if asked else WIDE)


def write_asked(path: Path, text: str) -> None:
    """Write a file where the user wants it; folders that are missing are made.

    Raises:
        ConfigError: If the folder, or one above it, is a file.
    """
    write_atomic(made_folder(path.parent) / path.name, text)
