"""Federations from Python: exactly those of the bench."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fedkd.api.asked import Models, Named, Setting, lone_suite
from fedkd.api.given import only, options_given
from fedkd.api.said import said_in_python
from fedkd.data.root import data_root as usual_root
from fedkd.harness.builder import RunBuilder
from fedkd.harness.environment import pick_device
from fedkd.plugins.registry import load_registry
from fedkd.simulation.federation import Federation
from fedkd.suite.grid import grid
from fedkd.suite.overrides import Overrides, load_overridden

KEYS = ("public", "shifts", "test_shards", "validation")
"""The keys of a suite that a world hangs on, beside those with a parameter."""
_ANYONE: dict[str, Any] = {
    "strategies": ["local"],
    "rounds": 1,
    "training": {"local_steps": 1},
}
"""What a suite has besides. No world hangs on it."""


def federation(  # noqa: PLR0913 - the parts of a world
    dataset: Named,
    partition: Named,
    *,
    clients: int,
    models: Models,
    seed: int = 0,
    device: str = "auto",
    data_root: str | Path | None = None,
    plugins: Iterable[str | Path] = (),
    **options: Any,
) -> Federation:
    """Return the world of a run: the one that ``fedkd bench`` builds, to the index.

    Args:
        dataset: Its name, ``folder:PATH``, or a mapping of a name and options.
        partition: How training data is split, likewise.
        clients: Number of clients.
        models: One model, a list of which client i has entry i mod n, or a mapping with
            ``clients`` and ``server``.
        seed: Of the split.
        device: Where data and models are: ``auto``, ``cpu``, ``cuda``.
        data_root: Folder of the data files; the usual one if None.
        plugins: Plug-ins of one file each.
        options: Of the data set or the partition, such as ``fraction=0.1`` or
            ``alpha=0.1``; and ``public``, ``shifts``, ``test_shards`` and ``validation``
            as in a suite.

    Raises:
        ConfigError: If an option is unknown or cannot be used.
        DataError: If the data set's files are missing or damaged.
    """
    where = "fedkd.federation"
    how = options_given(where, device=device, data_root=data_root, plugins=plugins)
    setting = Setting(dataset, partition, models, seed)
    with said_in_python(options):
        registry = load_registry(how["plugins"])
        suite = lone_suite(registry, where, setting, options, KEYS)
        values = {**_ANYONE, **suite, "clients": clients}
        cells = grid(load_overridden(values, Overrides(), registry), registry)
    cell = only(cells, where)
    with said_in_python(options):
        place = pick_device(how["device"])
        builder = RunBuilder(registry, usual_root(how["data_root"]), place)
        world, _ = builder.federation(cell)
    world.seed = cell.run.seed
    return world
