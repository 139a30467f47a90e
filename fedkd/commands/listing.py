"""``fedkd list``: what is registered, without importing any of it."""

from __future__ import annotations

import json
import re
from typing import Any

import click

from fedkd.commands.common import Strict, format_option, plugin_option, print_table
from fedkd.plugins.entries import KINDS
from fedkd.plugins.registry import Registry, load_registry

TITLES = {
    "strategies": "Strategies",
    "datasets": "Data sets",
    "models": "Models",
    "partitioners": "Partitioners",
    "executors": "Executors",
    "metrics": "Metrics",
    "observers": "Observers",
    "suites": "Suites",
}


@click.command(cls=Strict)
@click.argument("kind", type=click.Choice(list(TITLES)), required=False)
@format_option()
@plugin_option
def command(
    kind: str | None, output_format: str, plugin_files: tuple[str, ...]
) -> None:
    """List what is registered, by kind: strategies, data sets, models and so on.

    Without KIND everything is listed. 'fedkd show NAME' tells more about one.
    """
    registry = load_registry(plugin_files)
    chosen = [kind] if kind else list(TITLES)
    tables = {name: rows(registry, name) for name in chosen}
    if output_format == "json":
        click.echo(json.dumps(tables, indent=2))
        return
    for number, name in enumerate(chosen):
        if number:
            click.echo()
        print_table(TITLES[name], _columns(name, tables[name]), tables[name])


def rows(registry: Registry, kind: str) -> list[dict[str, Any]]:
    """Return the registered things of a kind as flat records."""
    if kind not in KINDS:
        return [
            {"name": name, "summary": first_sentence(summary)}
            for name, summary in registry.suites().items()
        ]
    return [
        {
            "name": entry.name,
            "kind": entry.kind,
            "summary": entry.summary,
            "owner": " and ".join((entry.owner, *entry.rivals)),
            "version": entry.version,
            "target": entry.target,
        }
        for entry in registry.entries(kind).values()
    ]


def first_sentence(text: str) -> str:
    """Return a text up to its first full stop."""
    return re.split(r"(?<=[.])\s", text, maxsplit=1)[0]


def _columns(kind: str, records: list[dict[str, Any]]) -> list[str]:
    """Return the columns worth showing: the owner only where somebody else is one."""
    columns = ["name", "summary"]
    if any(record.get("kind") for record in records):
        columns.insert(1, "kind")
    if any(record.get("owner", "fedkd") != "fedkd" for record in records):
        columns.append("owner")
    return columns
