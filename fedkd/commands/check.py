"""``fedkd check``: the conformance suite on a registered thing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import click

from fedkd.base import yamlfile
from fedkd.commands.common import Strict, format_option, plugin_option
from fedkd.commands.data import root_option
from fedkd.commands.show import find
from fedkd.data.root import data_root
from fedkd.errors import ConfigError
from fedkd.plugins.entries import KINDS, Entry
from fedkd.plugins.registry import load_registry, merged
from fedkd.testing.registered import WITHOUT_CHECKS, report_of, speed_of
from fedkd.testing.report import Report


@click.command(cls=Strict)
@click.argument("name")
@click.option(
    "--kind",
    type=click.Choice([kind for kind in KINDS if kind not in WITHOUT_CHECKS]),
    help="Which kind is meant, where several things have the name.",
)
@click.option(
    "--set",
    "assignments",
    metavar="KEY=VALUE",
    multiple=True,
    help="An option of NAME, such as teacher.steps=3; may be given more than once.",
)
@click.option(
    "--speed",
    is_flag=True,
    help="Compare a strategy's seconds with FedAvg's, on the same toy world.",
)
@root_option
@format_option("text")
@plugin_option
@click.pass_context
def command(  # noqa: PLR0913, PLR0917 - click gives each option as a parameter
    context: click.Context,
    name: str,
    kind: str | None,
    assignments: tuple[str, ...],
    speed: bool,
    explicit_root: str | None,
    output_format: str,
    plugin_files: tuple[str, ...],
) -> None:
    """Hold NAME against every promise of its kind, and say which it breaks, and where.

    NAME is a strategy, data set, model, partitioner or metric of 'fedkd list'. It is
    tried on toys: three clients, images of 8x8 pixels, 400 labels. The exit code is 1 if
    a promise is broken. A strategy with generators is quick with small amounts, such as
    --set generator.steps=2.
    """
    registry = load_registry(plugin_files)
    entries = find(registry, name, kind)
    if not entries:
        raise ConfigError(f"{name} is a suite: run 'fedkd bench {name} --dry-run'.")
    options = options_of(assignments)
    records = []
    for entry in entries:
        found = report_of(registry, entry, options, data_root(explicit_root))
        # What breaks a promise may not run to its end.
        measured = speed and not found.broken
        ratio = speed_of(registry, entry, options) if measured else None
        records.append(_record(entry, found, ratio))
    if output_format == "json":
        click.echo(json.dumps(records, indent=2, ensure_ascii=False))
    else:
        click.echo("\n\n".join("\n".join(_lines(record)) for record in records))
    context.exit(1 if any(record["findings"] for record in records) else 0)


def options_of(assignments: Iterable[str]) -> dict[str, Any]:
    """Return options from ``path=value`` texts.

    Raises:
        ConfigError: If a text is no such thing.
    """
    options: dict[str, Any] = {}
    for text in assignments:
        path, equals, written = text.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(keys):
            raise ConfigError(f"--set {text}: expected KEY=VALUE, such as steps=3.")
        value = yamlfile.parse(written, f"--set {text}")
        for key in reversed(keys):
            value = {key: value}
        options = merged(options, value)
    return options


def _record(entry: Entry, found: Report, ratio: float | None) -> dict[str, Any]:
    return {
        "kind": entry.kind_of_thing,
        "name": entry.name,
        "owner": entry.owner,
        "version": entry.version,
        "kept": list(found.kept),
        "not_applicable": found.not_applicable,
        "findings": [
            {"checks": names, "finding": why} for why, names in found.findings.items()
        ],
        "count": found.count,
        "times_fedavg": ratio,
    }


def _lines(record: Mapping[str, Any]) -> Iterator[str]:
    word = KINDS[record["kind"]]
    yield f"{record['name']} ({word}, {record['owner']} {record['version']})"
    yield from (f"  kept    {name}" for name in record["kept"])
    for name, why in record["not_applicable"].items():
        yield f"  left    {name}: {why}"
    for each in record["findings"]:
        yield f"  BROKEN  {', '.join(each['checks'])}: {each['finding']}"
    yield f"{record['count']}."
    if record["times_fedavg"] is not None:
        yield f"speed: {record['times_fedavg']:.2f} times FedAvg's seconds."
