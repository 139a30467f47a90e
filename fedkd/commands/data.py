"""``fedkd data``: which data sets are at hand, whether they are sound, and fetching."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from fedkd.commands.common import format_option, plugin_option, print_table
from fedkd.data_root import data_root, where_sought
from fedkd.entries import Entry
from fedkd.errors import FedKDError
from fedkd.registry import Registry, load_registry

root_option = click.option(
    "--data-root", "explicit_root", metavar="DIR", help="Folder of the data files."
)
BUILT_IN = "built in"
"""Status of a data set that needs no files."""


@click.group()
def command() -> None:
    """Prepare, check and list the data sets' files.

    Files are sought in --data-root, then in the folder that the environment variable
    FEDKD_DATA names, then in the cache folder of the platform.
    """


@command.command("list", short_help="List the data sets and where their files are.")
@root_option
@format_option()
@plugin_option
def list_command(
    explicit_root: str | None, output_format: str, plugin_files: tuple[str, ...]
) -> None:
    """List the data sets: whether their files are there, where, and how large.

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
        }
        for record in records
    ]
    print_table("Data sets", ["name", "status", "size", "folder", "summary"], rows)
    click.echo(f"\nData is sought in {where_sought()}.")
    if any(record["status"] not in ("ready", BUILT_IN) for record in records):
        click.echo("'fedkd data prepare NAME' fetches what is missing or damaged.")
    _print_errors(records)


@command.command("check", short_help="Hold files against their checksums.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@root_option
@format_option()
@plugin_option
@click.pass_context
def check_command(
    context: click.Context,
    names: tuple[str, ...],
    explicit_root: str | None,
    output_format: str,
    plugin_files: tuple[str, ...],
) -> None:
    """Read data sets and hold their files against the known checksums.

    Without NAME every set is checked that has files here. The exit code is 1 if a set
    is damaged, or if one that is named is missing.
    """
    registry, root = load_registry(plugin_files), data_root(explicit_root)
    entries = registry.entries("datasets")
    records = []
    for name in dict.fromkeys(names) or entries:
        there = presence(registry.entry("datasets", name), root)
        if there["status"] == "missing" and not names:
            records.append({"name": name, "status": "missing", "error": None})
        else:
            records.append(checked(registry, root, name))
    _report(context, records, root, output_format)


@command.command("prepare", short_help="Fetch the files of data sets.")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@root_option
@format_option()
@plugin_option
@click.pass_context
def prepare_command(
    context: click.Context,
    names: tuple[str, ...],
    explicit_root: str | None,
    output_format: str,
    plugin_files: tuple[str, ...],
) -> None:
    """Fetch the files of data sets where the network allows, and check them."""
    registry, root = load_registry(plugin_files), data_root(explicit_root)
    for name in names:
        registry.entry("datasets", name)  # before anything is fetched
    records = [
        checked(registry, root, name, prepare=True) for name in dict.fromkeys(names)
    ]
    _report(context, records, root, output_format)


def presence(entry: Entry, root: Path) -> dict[str, Any]:
    """Return whether the files of a data set are under ``root``, by their sizes.

    The status is ``ready``, ``missing``, ``incomplete``, ``damaged``, ``built in``, or
    ``broken`` if the plug-in that brings the set does not work.
    """
    record: dict[str, Any] = {
        "name": entry.name,
        "summary": entry.summary,
        "folder": None,
        "bytes": 0,
        "files": [],
        "error": None,
    }
    try:
        expected: Mapping[str, int] = entry.resolve().files
    except FedKDError as error:
        return {**record, "status": "broken", "error": str(error)}
    files = [
        {"path": name, "expected": size, "found": _size(root / name)}
        for name, size in expected.items()
    ]
    return {
        **record,
        "status": _status(files),
        "folder": str(root) if files else None,
        "bytes": sum(expected.values()),
        "files": files,
    }


def _status(files: Sequence[Mapping[str, Any]]) -> str:
    if not files:
        return BUILT_IN
    absent = sum(file["found"] is None for file in files)
    if absent:
        return "missing" if absent == len(files) else "incomplete"
    sound = all(file["found"] == file["expected"] for file in files)
    return "ready" if sound else "damaged"


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def checked(
    registry: Registry, root: Path, name: str, *, prepare: bool = False
) -> dict[str, Any]:
    """Read a data set, or fetch it first, and return what came of it as a record."""
    # Imported here: torch takes a second, and listing needs none of it.
    import torch  # noqa: PLC0415

    from fedkd.world import World  # noqa: PLC0415

    try:
        if prepare:
            registry.dataset(name)[0].prepare(root)
        world = World(registry, root, torch.device("cpu"))
        data = world.data({"dataset": {"name": name, "options": {}}})
    except FedKDError as error:
        return {"name": name, "status": "broken", "error": str(error)}
    return {
        "name": name,
        "status": "ok",
        "error": None,
        "train": len(data.x_train),
        "test": len(data.x_test),
        "classes": data.num_classes,
        "shape": list(data.shape),
    }


def _report(
    context: click.Context,
    records: Sequence[Mapping[str, Any]],
    root: Path,
    output_format: str,
) -> None:
    """Print records of data sets; end with exit code 1 if something is wrong."""
    if output_format == "json":
        click.echo(json.dumps({"root": str(root), "datasets": records}, indent=2))
    else:
        columns = ["name", "status", "train", "test", "classes", "shape"]
        rows = [{**r, "shape": "x".join(map(str, r.get("shape", ())))} for r in records]
        print_table(f"Data sets in {root}", columns, rows)
        _print_errors(records)
    if any(record["status"] == "broken" for record in records):
        context.exit(1)


def _print_errors(records: Sequence[Mapping[str, Any]]) -> None:
    for record in records:
        if record["error"]:
            click.echo(f"fedkd: {record['error']}", err=True)


def _megabytes(number: int) -> str:
    return f"{number / 1e6:.1f} MB" if number else "-"
