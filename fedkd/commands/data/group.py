"""``fedkd data``: which data sets are at hand, whether they are sound, and preparing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from fedkd.base import yamlfile
from fedkd.commands.common import Strict, format_option, plugin_option, print_table
from fedkd.commands.data.progress import shown
from fedkd.commands.data.records import (
    BUILT_IN,
    NEEDS_PATH,
    PART,
    checked,
    fetched,
    presence,
    reader_of,
)
from fedkd.data.root import data_root, where_sought
from fedkd.errors import ConfigError
from fedkd.plugins.registry import load_registry

INTERRUPTED = 130
"""Exit code after Ctrl-C."""

root_option = click.option(
    "--data-root", "explicit_root", metavar="DIR", help="Folder of the data files."
)
set_option = click.option(
    "--set",
    "assignments",
    metavar="OPTION=VALUE",
    multiple=True,
    help="Option of the data sets, such as resolution=64; may be repeated.",
)


@click.group()
def command() -> None:
    """Prepare, check and list the data sets' files.

    Files are in --data-root; without it in the folder that the environment variable
    FEDKD_DATA names; without both in the cache folder of the platform.
    """


command.command_class = Strict


@command.command("list", short_help="List the data sets and where their files are.")
@root_option
@format_option()
@plugin_option
def list_command(
    explicit_root: str | None, output_format: str, plugin_files: tuple[str, ...]
) -> None:
    """List the data sets: whether their files are there, where, how large, prepared.

    Sizes are looked at, contents are not: 'fedkd data check' reads them.
    """
    root = data_root(explicit_root)
    entries = load_registry(plugin_files).entries("datasets").values()
    records = [presence(entry, root) for entry in entries]
    if output_format == "json":
        click.echo(json.dumps({"root": str(root), "datasets": records}, indent=2))
        return
    rows = [
        {
            **record,
            "size": _megabytes(record["bytes"]),
            "folder": record["folder"] or "-",
            "prepared": _variants(record["prepared"]),
        }
        for record in records
    ]
    columns = ["name", "status", "size", "folder", "prepared", "summary"]
    print_table("Data sets", columns, rows)
    click.echo(f"\nData is sought in {where_sought()}.")
    if any(r["status"] == PART for r in records):
        click.echo("What is a part is used with --set dataset.partial=true.")
    if any(r["status"] not in ("ready", BUILT_IN, NEEDS_PATH) for r in records):
        click.echo("'fedkd data prepare NAME' fetches what is missing or damaged.")
    _print_errors(records)


@command.command("check", short_help="Hold files against their checksums.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@set_option
@root_option
@format_option()
@plugin_option
@click.pass_context
def check_command(
    context: click.Context,
    names: tuple[str, ...],
    assignments: tuple[str, ...],
    explicit_root: str | None,
    output_format: str,
    plugin_files: tuple[str, ...],
) -> None:
    """Read data sets and hold their files, and what was prepared, against checksums.

    Without NAME every set is checked that has files here. The exit code is 1 if a set
    is damaged, or if one that is named is missing. Options such as partial=true, given
    with --set, need a NAME.
    """
    registry, root = load_registry(plugin_files), data_root(explicit_root)
    options = options_of(assignments)
    if options and not names:
        raise ConfigError(
            "--set: found no NAME, expected the data sets that it is for."
        )
    for name in names:
        reader_of(registry, name, options)  # before anything is read
    every = dict.fromkeys(names) or registry.entries("datasets")
    records = [
        checked(registry, root, name, options, named=bool(names)) for name in every
    ]
    _report(records, root, output_format)
    bad = ("broken", "missing") if names else ("broken",)
    if any(record["status"] in bad for record in records):
        context.exit(1)


@command.command("prepare", short_help="Fetch the files of data sets and prepare them.")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@set_option
@root_option
@format_option()
@plugin_option
@click.pass_context
def prepare_command(
    context: click.Context,
    names: tuple[str, ...],
    assignments: tuple[str, ...],
    explicit_root: str | None,
    output_format: str,
    plugin_files: tuple[str, ...],
) -> None:
    """Fetch the files of data sets where the network allows, check and prepare them.

    Images are decoded and resized once; every run maps the result. Options that change
    the images, such as --set resolution=64, get prepared files of their own. What was
    interrupted goes on where it stopped.
    """
    registry, root = load_registry(plugin_files), data_root(explicit_root)
    options = options_of(assignments)
    for name in names:
        reader_of(registry, name, options)  # before anything is fetched
    records = []
    for name in dict.fromkeys(names):
        try:
            with shown(name) as show:
                records.append(fetched(registry, root, name, options, show))
        except KeyboardInterrupt:
            text = f"interrupted; 'fedkd data prepare {name}' goes on where it stopped."
            click.echo(f"fedkd: {text}", err=True)
            context.exit(INTERRUPTED)
    _report(records, root, output_format)
    if any(record["status"] == "broken" for record in records):
        context.exit(1)


def options_of(assignments: Sequence[str]) -> dict[str, Any]:
    """Return the options that texts such as ``resolution=64`` set.

    Raises:
        ConfigError: If a text is not of that form.
    """
    options = {}
    for text in assignments:
        name, equals, written = text.partition("=")
        # As 'fedkd bench' wants it, so that one can be pasted into the other.
        name = name.strip().removeprefix("dataset.")
        if not equals or not name:
            raise ConfigError(
                f"--set {text}: expected option=value, such as resolution=64."
            )
        options[name] = yamlfile.parse(written, f"--set {text}")
    return options


def _report(
    records: Sequence[Mapping[str, Any]], root: Path, output_format: str
) -> None:
    """Print records of data sets."""
    if output_format == "json":
        click.echo(json.dumps({"root": str(root), "datasets": records}, indent=2))
        return
    columns = ["name", "status", "train", "test", "classes", "shape"]
    if any("prepared" in record for record in records):
        columns.append("prepared")
    rows = [
        {
            **record,
            "shape": "x".join(map(str, record.get("shape", ()))),
            "prepared": _variants(record.get("prepared", ())),
        }
        for record in records
    ]
    print_table(f"Data sets in {root}", columns, rows)
    _print_errors(records)


def _variants(prepared: Sequence[Mapping[str, Any]]) -> str:
    """Return what was prepared, such as ``184.8 MB, resolution=64: 36.9 MB``."""
    return ", ".join(map(_variant, prepared)) or "-"


def _variant(prepared: Mapping[str, Any]) -> str:
    options = " ".join(
        f"{key}={value if isinstance(value, str) else json.dumps(value)}"
        for key, value in prepared["options"].items()
    )
    parts = [prepared["status"]] if prepared["status"] not in ("ready", "ok") else []
    if "bytes" in prepared:
        parts.append(_megabytes(prepared["bytes"]))
    text = " ".join(parts) or "ok"
    return f"{options}: {text}" if options else text


def _print_errors(records: Sequence[Mapping[str, Any]]) -> None:
    for record in records:
        every = [record, *record.get("prepared", ())]
        for text in dict.fromkeys(one.get("error") for one in every):
            if text:
                click.echo(f"fedkd: {text}", err=True)


def _megabytes(number: int) -> str:
    return f"{number / 1e6:.1f} MB" if number else "-"
