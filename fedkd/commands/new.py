"""``fedkd new``: a plug-in to begin with, which works as it is written."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from fedkd.commands.common import Strict, plugin_option
from fedkd.plugins.registry import load_registry
from fedkd.plugins.writing import THINGS, new_plugin, write


@click.command(cls=Strict)
@click.argument("kind", type=click.Choice(list(THINGS)))
@click.argument("name")
@click.option(
    "--file", "single", is_flag=True, help="Write a single file for --plugin instead."
)
@click.option(
    "--into",
    metavar="DIR",
    default=".",
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder to write it into.",
)
@plugin_option
def command(
    kind: str, name: str, single: bool, into: Path, plugin_files: tuple[str, ...]
) -> None:
    """Write a plug-in with a KIND of thing called NAME, to be changed into your own.

    It is a package fedkd-NAME with code, tests, pyproject.toml, README and a CI file; its
    tests pass at once, and after 'pip install -e fedkd-NAME' it is in 'fedkd list'.
    Nothing is ever overwritten.
    """
    plugin = new_plugin(kind, name, load_registry(plugin_files))
    files = plugin.single_file() if single else plugin.package()
    for path in write(files, into):
        click.echo(f"wrote {path}")
    click.echo("\nNext:")
    if single:
        given = f" --plugin {shlex.quote(str(into / f'{plugin.module}.py'))}"
        steps = [f"fedkd check {name}{given}", f"{plugin.use}{given}"]
    else:
        home = str(into / plugin.distribution)
        steps = [f"pip install -e {shlex.quote(home + '[test]')}"]
        steps += [f"pytest {shlex.quote(home)}"]
        steps += [f"fedkd check {name}", plugin.use]
    for step in steps:
        click.echo(f"  {step}")
