"""Runs for MLflow: one of its runs for each, in an experiment named as the suite."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from itertools import islice
from typing import Any

from fedkd.base.locks import locked
from fedkd.hookspecs import RunInfo
from fedkd.observers.base import Observer, flat, folder_of, identity

TAG = "fedkd.run"
"""The tag by which a run is found again."""
DATABASE = "mlflow.db"
"""In the results folder, where ``MLFLOW_TRACKING_URI`` names no other place."""
LONGEST = 500
"""Letters of a parameter that are kept."""
AT_ONCE = 100
"""Parameters that MLflow takes in one batch."""


class Mlflow(Observer):
    """Logs to ``MLFLOW_TRACKING_URI``, or to ``mlflow.db`` in the results folder.

    A run that goes on is continued, and rounds that MLflow has are not logged again; one
    that starts anew takes the place of the earlier one, which MLflow keeps as deleted.
    """

    package = "mlflow"
    extra = "fedkd[mlflow]"

    def __init__(self) -> None:
        super().__init__()
        self._client: Any = None
        self._id = ""
        self._known: dict[str, set[int]] = {}

    def begin(self, run: RunInfo) -> None:
        """Find the run of MLflow, or make it."""
        # Imported here: it takes seconds, and only runs that are watched need it.
        from mlflow import MlflowClient  # noqa: PLC0415

        home = folder_of(run).resolve().parents[1]
        place = os.environ.get("MLFLOW_TRACKING_URI")
        # One process at a time: a new database and a new experiment are made once.
        with locked(home / ".mlflow.lock"):
            self._client = MlflowClient(place or f"sqlite:///{home / DATABASE}")
            there = self._client.get_experiment_by_name(run.suite)
            experiment = (
                there.experiment_id
                if there is not None
                else self._client.create_experiment(run.suite)
            )
        self._known = {}
        query = f"tags.`{TAG}` = '{identity(run)}'"
        earlier = self._client.search_runs([experiment], query)
        if earlier and run.rounds_done:
            self._continue(earlier[0])
            return
        for old in earlier:
            self._client.delete_run(old.info.run_id)
        self._create(run, experiment)

    def _continue(self, earlier: Any) -> None:
        """Go on with a run of MLflow; look up the rounds that it has, by metric."""
        self._id = earlier.info.run_id
        self._client.update_run(self._id, "RUNNING")
        for name in earlier.data.metrics:
            history = self._client.get_metric_history(self._id, name)
            self._known[name] = {metric.step for metric in history}

    def _create(self, run: RunInfo, experiment: str) -> None:
        from mlflow.entities import Param  # noqa: PLC0415

        tags = {TAG: identity(run), "strategy": run.strategy, "seed": str(run.seed)}
        made = self._client.create_run(experiment, tags=tags, run_name=run.title)
        self._id = made.info.run_id
        pairs = flat(run.config)
        while batch := [Param(k, str(v)[:LONGEST]) for k, v in islice(pairs, AT_ONCE)]:
            self._client.log_batch(self._id, params=batch)

    def add(self, run: RunInfo, step: int, values: Mapping[str, float]) -> None:
        """Log the numbers of a round that MLflow does not have yet, in one batch."""
        from mlflow.entities import Metric  # noqa: PLC0415

        now = int(time.time() * 1000)
        batch = [
            Metric(name, value, now, step)
            for name, value in values.items()
            if step not in self._known.get(name, ())
        ]
        if batch:
            self._client.log_batch(self._id, metrics=batch)

    def end(self, run: RunInfo, result: Mapping[str, Any]) -> None:
        """Say how the run ended."""
        for key in ("status", "reason"):
            self._client.set_tag(self._id, f"fedkd.{key}", str(result[key]))
        done = result["status"] in ("done", "skipped")
        self._client.set_terminated(self._id, "FINISHED" if done else "FAILED")
