"""``fedkd export``: a model out of a finished run, as a file that others read."""

from __future__ import annotations

from pathlib import Path

import click

from fedkd.api.finished import FinishedRun
from fedkd.base.folders import ResultsFolder, RunFolder, refuse_links_out_of
from fedkd.commands.common import Strict, plugin_option
from fedkd.commands.data import root_option
from fedkd.errors import ConfigError, counted
from fedkd.plugins.registry import load_registry


@click.command(cls=Strict)
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--to",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file. Its suffix says how: .pt or .safetensors for the weights, .pt2 for a "
    "program of torch.export, .onnx for ONNX.",
)
@click.option(
    "--model",
    "title",
    metavar="NAME",
    default="global",
    show_default=True,
    help="A model that the strategy names.",
)
@click.option(
    "--client",
    type=click.IntRange(min=0),
    metavar="K",
    help="The model of client K instead: its own, or the global one if it has none.",
)
@root_option
@plugin_option
def command(
    run: Path,
    to: Path,
    title: str,
    client: int | None,
    explicit_root: str | None,
    plugin_files: tuple[str, ...],
) -> None:
    """Write a model of RUN as it was measured last, and beside it what it expects.

    RUN is the folder of a finished run, such as runs/quick/runs/fedavg-..., or a results
    folder that holds one run only. Beside FILE, FILE.json has the
    input's shape, the normalisation, the classes and the architecture. The run's data is
    read again, because a client's model may hang on it.
    """
    folder = _run_in(run)
    finished = FinishedRun(
        folder,
        registry=load_registry(plugin_files),
        root=explicit_root,
        by_command=True,
    )
    written = finished.export(to, title, client=client)
    click.echo(f"Written: {', '.join(map(str, written))}")


def _run_in(path: Path) -> Path:
    """Return the folder of the run that a path means.

    Raises:
        ConfigError: If it means none, or several, or a link in it leads out of it.
    """
    refuse_links_out_of(path)
    if RunFolder(path).config.is_file():
        return path
    inside = [run.path for run in ResultsFolder(path).every_run()]
    if len(inside) == 1:
        return inside[0]
    if inside:
        raise ConfigError(
            f"{path}: found {counted(len(inside), 'run')}, expected one. Name its folder, "
            f"such as {min(inside)}; results.csv says which is which."
        )
    raise ConfigError(
        f"{path}: found no run, expected the folder of a finished one, such as "
        "runs/quick/runs/fedavg-..."
    )
