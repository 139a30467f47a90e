"""How fast cells will go, by runs of other results folders and by steps that are timed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from fedkd.base import yamlfile
from fedkd.base.files import json_mapping
from fedkd.base.folders import ResultsFolder, RunFolder, refuse_links_out_of
from fedkd.errors import BoundsError, FedKDError
from fedkd.harness.builder import RunBuilder
from fedkd.harness.environment import machine, reproducible
from fedkd.ops.training import TrainingConfig, steps_of
from fedkd.report.description import places_of
from fedkd.simulation.federation import Federation
from fedkd.simulation.requirements import arranged
from fedkd.simulation.sides import Sides
from fedkd.suite.grid import Cell, canonical

HERE = "this folder"
"""What the source of a pace is called that runs of the bench's own folder tell."""
PROBE = "a timed step"
"""What the source of a pace is called that no run has."""
STEPS = 3
"""Steps that are timed of each model, after one that is not; the fastest counts."""
_FREE = ("seed", "partition", "plugins", "fedkd")
"""Parts of a configuration that runs may differ in and still go equally fast."""


@dataclass(frozen=True)
class Pace:
    """What a round of a cell takes."""

    seconds: float | None
    """None where no run on a machine like this one tells it."""
    source: str
    """Where the seconds are from: :data:`HERE`, another results folder, :data:`PROBE`."""
    server: float | None = None
    """Images that the server trains on in a round; None if that is not known."""
    client: float | None = None
    """Images that all clients train on in a round, those of generators included; None if
    that is not known."""
    is_scaled: bool = False
    """Whether it is that of runs with another number of rounds."""


@dataclass(frozen=True)
class Ran:
    """What a finished run took in all."""

    rounds: int
    seconds: float | None
    server: int | None
    client: int | None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Ran:
        """Return what a row tells, by column."""
        work = (row.get(f"{side}_examples") for side in ("server", "client"))
        return cls(row["rounds"], row.get("seconds"), *work)


def pace_of(runs: Sequence[Ran], rounds: int, source: str, timed: bool = True) -> Pace:
    """Return the pace that runs tell: those of as many rounds, else all of them.

    Args:
        runs: At least one.
        rounds: Of the cell.
        source: Where they are.
        timed: Whether their seconds count.
    """
    equal = [run for run in runs if run.rounds == rounds]
    some = equal or runs
    seconds = _mean([(run.seconds, run.rounds) for run in some]) if timed else None
    return Pace(
        seconds,
        source if seconds is not None else "",
        _mean([(run.server, run.rounds) for run in some]),
        _mean([(run.client, run.rounds) for run in some]),
        not equal,
    )


def recorded(
    cells: Sequence[Cell], out: ResultsFolder, device: torch.device
) -> dict[str, Pace]:
    """Return the paces that a results folder and those beside it tell, by ``run_id``.

    A run tells the pace of a cell if all is equal but seed, partition and number of
    rounds. Its seconds count if it was made on a device, a processor and with threads
    like those here; what it trained on counts wherever it was made.

    Args:
        cells: Whose paces are wanted.
        out: The folder that is asked first, for runs that are of no cell, and beside
            which others are looked for.
        device: On which the cells will run.
    """
    wanted = {cell.run_id: kind_of(cell.config) for cell in cells}
    names = {(cell.run.dataset, cell.run.models, cell.run.clients) for cell in cells}
    here, known = machine(device), dict[str, Pace]()
    for folder in (out, *_beside(out)):
        timed = _is_like(folder.environment, here)
        runs: dict[str, list[Ran]] = {}
        for run in folder.every_run():
            kind, one = _of_run(run, names)
            if one is not None:
                runs.setdefault(kind, []).append(one)
        source = HERE if folder is out else str(folder.path)
        for cell in cells:
            alike = runs.get(wanted[cell.run_id])
            before = known.get(cell.run_id)
            if alike and (before is None or (timed and before.seconds is None)):
                known[cell.run_id] = pace_of(alike, cell.run.rounds, source, timed)
    return known


def probed(cells: Sequence[Cell], builder: RunBuilder) -> dict[str, Pace]:
    """Return the paces of local training alone, by ``run_id``; a few steps are timed.

    What a strategy does besides, at the server and at the clients, is not in them. Cells
    that cannot be built are left out.

    Args:
        cells: Whose paces are wanted.
        builder: Builds their worlds, on the device that they will run on.
    """
    steps: dict[str, float] = {}
    paces = {}
    with reproducible(builder.device):
        for cell in cells:
            try:
                seconds = _round(cell, builder, steps)
            except FedKDError:
                continue  # the check before has told why
            paces[cell.run_id] = Pace(seconds, PROBE)
    return paces


def _round(cell: Cell, builder: RunBuilder, steps: dict[str, float]) -> float:
    """Return the seconds of a round's local training; ``steps`` has what is timed."""
    federation, _ = builder.federation(cell)
    strategy = builder.strategy(cell)
    world, protocol = arranged(strategy, federation, cell.parts.protocol)
    sides = Sides(world, protocol, cell.run.seed)
    like = canonical([cell.config[name] for name in ("dataset", "protocol")])
    seconds = 0.0
    for k, number in enumerate(_turns(world, protocol.training)):
        key = like + world.client_models[k].key
        if key not in steps:
            steps[key] = _timed(sides, k)
        seconds += number * steps[key]
    return seconds * protocol.clients_per_round() / len(world)


def _turns(world: Federation, training: TrainingConfig) -> list[int]:
    """Return the steps of each client in a round."""
    return [steps_of(training, len(client)) for client in world.clients]


def _timed(sides: Sides, k: int) -> float:
    """Return the seconds of one step of plain local training of a client."""
    usual = sides.protocol.training
    one = usual.model_copy(update={"local_steps": 1, "local_epochs": None})
    client = sides.client(k, one, memory={})
    taken = []
    with sides.verb("probe", k, where="a timed step"):
        client.load(client.initial)
        for _ in range(1 + STEPS):
            started = time.perf_counter()
            client.train()
            if client.device.type == "cuda":
                torch.cuda.synchronize(client.device)
            taken.append(time.perf_counter() - started)
    return min(taken[1:])


def _beside(out: ResultsFolder) -> Iterator[ResultsFolder]:
    """Yield the results folders beside one, but those in which a link leads out."""
    own = out.path.resolve()
    for path in sorted(own.parent.glob("*/")):
        folder = ResultsFolder(out.path.parent / path.name)
        if path == own or not folder.environment.is_file():
            continue
        try:
            refuse_links_out_of(folder.path)
        except BoundsError:
            continue  # nobody named that folder, so it is nobody's mistake
        yield folder


def _is_like(environment: Path, here: Mapping[str, Any]) -> bool:
    """Say whether all runs of a folder were made on a machine like this one."""
    places = places_of(json_mapping(environment) or {})
    return all(one.get(name) == here[name] for one in places for name in here)


def _of_run(run: RunFolder, names: set[tuple[str, str, int]]) -> tuple[str, Ran | None]:
    """Return what kind of run it is, and what it took."""
    row = json_mapping(run.result) or {}
    if row.get("status") != "done":
        return "", None
    if (row.get("dataset"), row.get("models"), row.get("clients")) not in names:
        return "", None
    try:
        kind = kind_of(yamlfile.read_mapping(run.config, run.config.name))
        return kind, Ran.of(row)
    except (OSError, FedKDError, KeyError, TypeError):
        return "", None  # of another version, or damaged: it tells nothing


def _mean(several: Sequence[tuple[float | None, int]]) -> float | None:
    """Return the mean by the round of what is known."""
    known = [value / rounds for value, rounds in several if value is not None]
    return fmean(known) if known else None


def kind_of(config: Mapping[str, Any]) -> str:
    """Return a text that is equal for runs that go equally fast."""
    names = {"suite", "label", "run_id", "config_hash", *_FREE}
    plain = {name: value for name, value in config.items() if name not in names}
    protocol = {k: v for k, v in plain["protocol"].items() if k != "rounds"}
    return canonical({**plain, "protocol": protocol})
