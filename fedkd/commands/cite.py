"""``fedkd cite``: BibTeX of all that some results used."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from fedkd.base import yamlfile
from fedkd.base.folders import ResultsFolder, RunFolder, refuse_links_out_of
from fedkd.commands.common import Strict, plugin_option
from fedkd.errors import ConfigError
from fedkd.plugins.cards import papers
from fedkd.plugins.citations import OURS, Paper, entries_of
from fedkd.plugins.registry import Registry, load_registry

CALIBRATION = "ccvr"
"""The strategy whose paper is that of the option ``calibrate`` of any other."""


@click.command(cls=Strict)
@click.argument(
    "folders",
    nargs=-1,
    required=True,
    metavar="DIR...",
    type=click.Path(path_type=Path),
)
@plugin_option
def command(folders: tuple[Path, ...], plugin_files: tuple[str, ...]) -> None:
    """Print BibTeX of all that results used: strategies, data sets, fedkd itself.

    DIR is a results folder of 'fedkd bench', or the folder of one run in it.
    """
    registry = load_registry(plugin_files)
    used = {pair for folder in folders for pair in _used(folder)}
    found = [paper for kind, name in used for paper in _papers(registry, kind, name)]
    click.echo("\n\n".join([OURS, *entries_of(found)]))


def _used(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield kind and name of all that the runs of a folder used.

    Raises:
        ConfigError: If there is no run.
    """
    refuse_links_out_of(folder)
    own = RunFolder(folder)
    runs = [own] if own.config.is_file() else list(ResultsFolder(folder).every_run())
    configs = [run.config for run in runs if run.config.is_file()]
    if not configs:
        raise ConfigError(
            f"{folder}: found no run; expected a results folder of 'fedkd bench', or the "
            "folder of a run, with config.yaml."
        )
    for path in configs:
        config = yamlfile.read_mapping(path, str(path))
        try:
            yield from _named(config)
        except (KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"{path}: {error} is missing or damaged; the file is none that 'fedkd "
                "bench' wrote."
            ) from None


def _named(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "strategies", config["strategy"]["name"]
    yield "datasets", config["dataset"]["name"]
    public = config.get("public") or {}
    if public.get("dataset") is not None:
        yield "datasets", public["dataset"]["name"]
    if config["strategy"]["options"].get("calibrate") is not None:
        yield "strategies", CALIBRATION


def _papers(registry: Registry, kind: str, name: str) -> Iterable[Paper]:
    """Return the papers of a thing.

    Raises:
        ConfigError: If nobody registers it here: its plug-in is missing.
    """
    return papers(registry.entry(kind, name))
