"""``fedkd partition``: how a partition spreads the classes over clients."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from fedkd.base import yamlfile
from fedkd.commands.common import (
    Strict,
    WholeNumber,
    format_option,
    plugin_option,
    print_table,
    write_asked,
)
from fedkd.commands.data import root_option
from fedkd.commands.heat_map import COLUMNS, colour_console, print_heat_map
from fedkd.data.groups import Groups
from fedkd.data.root import data_root
from fedkd.errors import ConfigError, counted
from fedkd.harness.builder import RunBuilder
from fedkd.partition.base import Partition
from fedkd.plugins.options import Resolved, resolve
from fedkd.plugins.registry import load_registry

PARTS = ("partition", "dataset")
"""What --set can address."""


@click.command(cls=Strict)
@click.option(
    "--dataset",
    default="digits",
    show_default=True,
    metavar="NAME",
    help="Data set: one of 'fedkd list datasets', folder:PATH or vectors:PATH.",
)
@click.option(
    "--clients",
    type=WholeNumber(1),
    default=10,
    show_default=True,
    metavar="N",
    help="Number of clients.",
)
@click.option(
    "--partition",
    "scheme",
    default="dirichlet",
    show_default=True,
    metavar="NAME",
    help="Partition: one of 'fedkd list partitioners'.",
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="OPTION=VALUE",
    help="Set an option of the partition, such as alpha=0.1, or of the data set, such "
    "as dataset.fraction=0.1; may be repeated.",
)
@click.option(
    "--seed",
    type=WholeNumber(0),
    default=0,
    show_default=True,
    metavar="N",
    help="Seed of the run.",
)
@click.option(
    "--csv", "csv_file", metavar="FILE", help="Write the client x class table."
)
@click.option("--png", "png_file", metavar="FILE", help="Draw it as a heat map.")
@root_option
@format_option()
@plugin_option
def command(  # noqa: PLR0913, PLR0917 - one parameter an option
    dataset: str,
    clients: int,
    scheme: str,
    assignments: tuple[str, ...],
    seed: int,
    csv_file: str | None,
    png_file: str | None,
    explicit_root: str | None,
    output_format: str,
    plugin_files: tuple[str, ...],
) -> None:
    """Show how a partition spreads the classes over clients.

    It is the split that 'fedkd bench' uses for a run with this seed. Partition 'counts'
    reads the file that --csv writes.
    """
    if png_file and Path(png_file).suffix.lower() != ".png":
        raise ConfigError(f"--png {png_file}: expected a name that ends in .png.")
    registry = load_registry(plugin_files)
    told = options_of(assignments)
    images = resolve(registry, "datasets", dataset, told["dataset"], "--dataset")
    chosen = resolve(
        registry, "partitioners", scheme, told["partition"], f"--partition {scheme}"
    )
    builder = RunBuilder(registry, data_root(explicit_root), torch.device("cpu"))
    data = builder.data(images)
    classes = data.classes
    split = builder.split(images, chosen, clients, seed)
    held = [] if data.groups is None else _held(split, data.groups)
    title = (
        f"{images.shown()}, {_shown(chosen)}, {counted(clients, 'client')}, seed {seed}"
    )
    if csv_file:
        write_asked(Path(csv_file), split.to_csv(classes))
    if png_file:
        _draw(split, classes, Path(png_file), title)
    if output_format == "json":
        asked = {
            "dataset": images.plain(),
            "partition": chosen.plain(),
            "seed": seed,
            "protocol": {"clients": clients},
        }
        record = asked | _record(split, classes)
        if data.groups is not None:
            record["groups"] = held
        click.echo(json.dumps(record, indent=2))
    else:
        _print(split, classes, title)
        if data.groups is not None:
            click.echo(_told(held, len(data.groups.names)))
        click.echo(f"Hash: {split.hash}")
        for file in (csv_file, png_file):
            if file:
                click.echo(f"Wrote {file}.")


def options_of(assignments: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the options, by part, that texts such as ``alpha=0.1`` set.

    Raises:
        ConfigError: If a text is not of that form.
    """
    options: dict[str, dict[str, Any]] = {part: {} for part in PARTS}
    for text in assignments:
        name, equals, written = text.partition("=")
        # As 'fedkd bench' wants it, so that one can be pasted into the other.
        part, point, rest = name.strip().partition(".")
        if not point or part not in PARTS:
            part, rest = "partition", name.strip()
        if not equals or not rest:
            raise ConfigError(
                f"--set {text}: expected option=value, such as alpha=0.1."
            )
        options[part][rest] = yamlfile.parse(written, f"--set {text}")
    return options


def _shown(chosen: Resolved) -> str:
    """Return a partition with the options that tell it from others."""
    parts = [
        f"{name}={value}"
        for name, value in chosen.options.items()
        if name in chosen.changed or name == "alpha"  # alpha is what a reader asks for
    ]
    return " ".join([chosen.name, *parts])


def _record(split: Partition, classes: Sequence[str]) -> dict[str, Any]:
    return {
        "hash": split.hash,
        "notes": list(split.notes),
        "classes": list(classes),
        "sizes": split.sizes.tolist(),
        "counts": split.counts.tolist(),
    }


def _held(split: Partition, groups: Groups) -> list[list[str]]:
    """Return the names of the groups that each client has samples of."""
    numbers = groups.train.numpy()
    return [
        [groups.names[group] for group in np.unique(numbers[own])]
        for own in split.indices
    ]


def _told(held: Sequence[Sequence[str]], known: int) -> str:
    """Return the line on the groups that clients have; by client where they are few."""
    if len(held) > COLUMNS:
        mean = sum(map(len, held)) / len(held)
        return f"Groups: {known:,}; a client has samples of {mean:.1f} on average."
    texts = [
        f"{client} {names[0]}" if len(names) == 1 else f"{client} {len(names)} of them"
        for client, names in enumerate(held)
    ]
    return f"Groups, by client: {', '.join(texts)}."


def _print(split: Partition, classes: Sequence[str], title: str) -> None:
    console = colour_console()
    few = len(classes) <= COLUMNS
    if console is not None:
        print_heat_map(console, split.counts, title)
    elif few:
        columns = ["client", "samples", *map(str, range(len(classes)))]
        print_table(title, columns, list(_full_rows(split)))
    else:
        columns = ["client", "samples", "classes", "largest classes"]
        print_table(title, columns, list(_short_rows(split, classes)))
    click.echo()
    if few:
        named = ", ".join(f"{c} {name}" for c, name in enumerate(classes))
        click.echo(f"Classes: {named}.")
    sizes = split.sizes
    click.echo(
        f"Samples a client: {sizes.min():,} to {sizes.max():,}, mean {sizes.mean():,.1f}; "
        f"classes a client: {(split.counts > 0).sum(1).mean():.1f} on average."
    )
    for note in split.notes:
        click.echo(f"Note: {note}.")


def _full_rows(split: Partition) -> Iterator[dict[str, Any]]:
    for client, row in enumerate(split.counts.tolist()):
        cells = {str(c): number or "-" for c, number in enumerate(row)}
        yield {"client": client, "samples": sum(row), **cells}


def _short_rows(split: Partition, classes: Sequence[str]) -> Iterator[dict[str, Any]]:
    for client, row in enumerate(split.counts):
        largest = [c for c in np.argsort(-row, kind="stable")[:3] if row[c]]
        yield {
            "client": client,
            "samples": int(row.sum()),
            "classes": int((row > 0).sum()),
            "largest classes": ", ".join(f"{classes[c]} {row[c]}" for c in largest),
        }


def _draw(split: Partition, classes: Sequence[str], path: Path, title: str) -> None:
    # Imported here: matplotlib takes a second, and most calls draw nothing.
    from fedkd.report.figures import partition_heat_map  # noqa: PLC0415

    partition_heat_map(split.counts, classes, path, title)
