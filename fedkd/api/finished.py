"""A finished run: what was measured, and its models."""

from __future__ import annotations

from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fedkd.api.export import Facts, write_model
from fedkd.api.given import model_given, path_given
from fedkd.api.recorded import recorded_cell
from fedkd.api.said import said_in_python
from fedkd.base import yamlfile
from fedkd.base.folders import RunFolder, refuse_links_out_of
from fedkd.base.sealed import warn_if_changed
from fedkd.base.shown import brief
from fedkd.data.root import data_root
from fedkd.errors import FedKDError
from fedkd.harness.builder import RunBuilder
from fedkd.harness.environment import reproducible
from fedkd.party import ModelSpec
from fedkd.plugins.registry import Registry, load_registry
from fedkd.report.results import Row
from fedkd.simulation.federation import Federation
from fedkd.simulation.kept import model_of, stored_state
from fedkd.simulation.metrics import read_metrics
from fedkd.simulation.simulator import Metrics, Run

CPU = torch.device("cpu")


class FinishedRun:
    """One run of a results folder."""

    def __init__(
        self,
        folder: Path | str,
        row: Row | None = None,
        registry: Registry | None = None,
        root: Path | str | None = None,
        kept: object = None,
        *,
        by_command: bool = False,
    ) -> None:
        """Read nothing yet.

        Args:
            folder: The run's own folder.
            row: What became of it; None if only its models are wanted.
            registry: Where names are looked up; a new one if None.
            root: Folder of the data files; the usual one if None.
            kept: Is kept as long as this is: a temporary folder.
            by_command: Whether messages call options as the command line does.

        Raises:
            BoundsError: If a link in the folder leads out of it.
        """
        refuse_links_out_of(Path(folder))
        self.folder = Path(folder)
        """The run's own folder."""
        self.row = row
        """Its row of ``results.csv``, as far as it is known."""
        self._registry = registry
        self._root = data_root(None if root is None else str(root))
        self._kept = kept
        self._by_command = by_command

    @property
    def history(self) -> list[Metrics]:
        """The lines of metrics.jsonl, one a round."""
        files = RunFolder(self.folder)
        warn_if_changed(files)
        return read_metrics(files)

    @property
    def metrics(self) -> Metrics:
        """The line of the last round; empty of a run that did not get so far."""
        lines = self.history
        return lines[-1] if lines else {}

    @property
    def config(self) -> dict[str, Any]:
        """What the run is called, and everything that could change its result."""
        path = RunFolder(self.folder).config
        return yamlfile.read_mapping(path, str(path))

    @property
    def federation(self) -> Federation:
        """The world of the run, on the CPU."""
        return self._run.sides.federation

    @property
    def state(self) -> Any:
        """The strategy's last state."""
        return self._ended[1]

    def model(self, title: str = "global", *, client: int | None = None) -> nn.Module:
        """Return a model as it was measured last: a copy, on the CPU, not training.

        It maps normalised inputs, as :meth:`export` describes them, to logits.

        Args:
            title: Of a model that the strategy names: ``global``, or another.
            client: Whose model is wanted instead: its own, or the global one if it has
                none.

        Raises:
            ConfigError: If there is no such model or client, or the run is not finished.
            DataError: If the run's checkpoint, or its data, is missing or damaged.
        """
        wanted = model_given(title, client)
        run, state = self._ended
        with reproducible(CPU):
            return model_of(run, state, run.sample(run.protocol.rounds - 1), *wanted)

    def export(
        self, to: str | Path, title: str = "global", *, client: int | None = None
    ) -> list[Path]:
        """Write a model, and beside it, as JSON, what is needed to use it.

        The suffix says how: ``.pt`` and ``.safetensors`` are weights, ``.pt2`` is a
        program of torch.export, ``.onnx`` one of ONNX (extra ``export``). The JSON file
        beside it, ``model.pt.json``, has the input's shape, the classes, the
        normalisation, the architecture if it is a registered one, and what the run
        measured.

        Args:
            to: The file.
            title: As in :meth:`model`.
            client: As in :meth:`model`.

        Returns:
            The files that were written.

        Raises:
            FedKDError: If the model cannot be written so; says what can.
        """
        path = path_given(to, "export")
        model = self.model(title, client=client)
        world = self.federation
        own = world.server_model if client is None else world.client_models[client]
        facts = Facts(
            data=world.data,
            title=title,
            client=client,
            architecture=own if _is_of(model, own, world) else None,
            config=self.config,
            metrics=self.metrics,
        )
        return write_model(model, path, facts)

    def __repr__(self) -> str:
        """Return what the run is, and its accuracy."""
        if self.row is None:
            return brief(self, self.folder.name)
        row = self.row
        known = row.global_accuracy is not None and row.status == "done"
        accuracy = f"accuracy {row.global_accuracy:.2f} %" if known else row.status
        return brief(self, row.title, accuracy)

    @cached_property
    def _run(self) -> Run:
        with nullcontext() if self._by_command else said_in_python(()):
            registry = self._registry or load_registry()
            cell = recorded_cell(RunFolder(self.folder), registry)
            builder = RunBuilder(registry, self._root, CPU)
            world, _ = builder.federation(cell)
            given = (builder.strategy(cell), world, cell.parts.protocol, cell.run.seed)
            return Run.of(*given, name=cell.run.strategy, is_over=True)

    @cached_property
    def _ended(self) -> tuple[Run, Any]:
        return self._run, stored_state(self._run, self.folder)


def _is_of(model: nn.Module, spec: ModelSpec, world: Federation) -> bool:
    """Say whether a model is the registered one of a spec."""
    try:
        other = world.build_spec(spec, 0)
    except FedKDError:
        return False
    same = type(other) is type(model)
    return same and _shapes(other) == _shapes(model)


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in model.state_dict().items()}
