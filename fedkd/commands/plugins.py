"""``fedkd plugins``: which plug-ins were found, and what became of each."""

from __future__ import annotations

import dataclasses
import json

import click

from fedkd.commands.common import Strict, format_option, plugin_option, print_table
from fedkd.plugins.loader import PluginStatus
from fedkd.plugins.registry import is_strict, load_registry


@click.command(cls=Strict)
@click.option("-v", "--verbose", is_flag=True, help="Show tracebacks.")
@format_option()
@plugin_option
@click.pass_context
def command(
    context: click.Context,
    verbose: bool,
    output_format: str,
    plugin_files: tuple[str, ...],
) -> None:
    """List the plug-ins: distribution, version, hooks, status and what is wrong.

    FEDKD_DISABLE_PLUGINS=one,two leaves plug-ins out. With FEDKD_STRICT_PLUGINS=1 a
    plug-in that does not work is an error, and the exit code is 1.
    """
    # The table itself says what is wrong, so stderr need not say it again.
    registry = load_registry(plugin_files, quiet=True, strict=False)
    if output_format == "json":
        records = [dataclasses.asdict(plugin) for plugin in registry.plugins]
        click.echo(json.dumps(records, indent=2))
    else:
        _print(registry.plugins, verbose)
    if is_strict() and registry.problems:
        context.exit(1)


def _print(plugins: list[PluginStatus], verbose: bool) -> None:
    columns = ["plug-in", "distribution", "version", "status", "hooks"]
    records = [
        {
            "plug-in": plugin.name,
            "distribution": plugin.distribution,
            "version": plugin.version,
            "status": plugin.status,
            "hooks": ", ".join(h.removeprefix("fedkd_") for h in plugin.hooks),
        }
        for plugin in plugins
    ]
    print_table("Plug-ins", columns, records)
    troubled = [plugin for plugin in plugins if plugin.error]
    for plugin in troubled:
        click.echo(f"\n{plugin.name} ({plugin.target}): {plugin.error}")
        if verbose and plugin.traceback:
            click.echo(plugin.traceback.rstrip())
    if any(plugin.traceback for plugin in troubled) and not verbose:
        click.echo("\n'fedkd plugins -v' shows where.")
