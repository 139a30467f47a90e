"""A run that was made, put together anew from the ``config.yaml`` in its folder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedkd.base import yamlfile
from fedkd.base.folders import RunFolder
from fedkd.errors import ConfigError
from fedkd.plugins.registry import Registry
from fedkd.suite.entries import Listed, ListedStrategy, Mix
from fedkd.suite.grid import Cell, grid
from fedkd.suite.suite import Suite, build_suite


def recorded_cell(folder: RunFolder, registry: Registry) -> Cell:
    """Return the cell that a run's folder says it was, with nothing but accuracy measured.

    What else was measured changes no model, and may be a plug-in's that is not at hand.

    Raises:
        ConfigError: If it holds no run, or one that cannot be put together here.
    """
    where = f"run {folder.path.name}"
    if not folder.config.is_file():
        raise ConfigError(
            f"{folder.path}: found no {folder.config.name}, expected the folder of a run, "
            "such as runs/quick/runs/fedavg-...; results.csv has their names."
        )
    config = yamlfile.read_mapping(folder.config, where)
    try:
        values = _suite_of(config)
    except (KeyError, TypeError) as error:
        raise ConfigError(
            f"{folder.config}: {error} is missing or damaged; the file is none that "
            "'fedkd bench' wrote."
        ) from None
    (cell,) = grid(build_suite(values, where), registry)
    return cell


def _suite_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the suite of the one run that a configuration is of."""
    strategy = config["strategy"]
    server = config.get("server_model")
    mix = Mix(
        clients=tuple(_listed(model) for model in config["models"]),
        server=None if server is None else _listed(server),
    )
    # Whatever else is a key of a suite and may change a result is written as it stands.
    rest = {k: v for k, v in config.items() if k in Suite.model_fields}
    return {
        **rest,
        **config["protocol"],
        "name": config["suite"],
        "seeds": [config["seed"]],
        "datasets": [_listed(config["dataset"])],
        "partitions": [_listed(config["partition"])],
        "shifts": [config.get("shift") or {}],
        "models": [mix],
        "public": _public(config.get("public")),
        "metrics": [],
        "strategies": [
            ListedStrategy(
                name=strategy["name"],
                label=config["label"],
                options=strategy["options"],
            )
        ],
    }


def _listed(thing: Mapping[str, Any]) -> Listed:
    return Listed(name=thing["name"], options=thing["options"])


def _public(public: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if public is None or "dataset" not in public:
        return None if public is None else dict(public)
    other = public["dataset"]
    return {"dataset": other["name"], "options": other["options"]}
