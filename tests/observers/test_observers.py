"""Loggers of third sides: what they have of a run that was killed and went on."""

import csv
import importlib.util
import json
import signal
import struct
import subprocess
import sys

import pytest

import fedkd
from fedkd.cli import main
from fedkd.observers.base import flat, identity, scalars

PLUGIN = """
import os
import signal

import fedkd
from fedkd.testing import toy_images


class Toy(fedkd.Dataset):
    def load(self, root):
        return toy_images(per_class=12)


@fedkd.hookimpl
def fedkd_register_datasets(register):
    register("toy", ":Toy")


@fedkd.hookimpl
def fedkd_round_ended(run, metrics):
    # Heard of before the observers, which do not have this round.
    if os.environ.get("KILL") == str(metrics["round"]):
        os.kill(os.getpid(), signal.SIGKILL)
"""
SUITE = """
rounds: 6
clients: 2
seeds: [0]
datasets: [toy]
partitions: [iid]
models: [mlp]
training: {local_steps: 1, batch_size: 8, lr: 0.05}
checkpoint_every: 3
strategies: [fedavg]
"""
NAMES = [
    name
    for name in ("csv", "tensorboard", "mlflow", "wandb")
    if name == "csv" or importlib.util.find_spec(name)
]


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    """Return the folder of a run that was killed twice, and went on after round 3 twice.

    First at a checkpoint whose last round no observer has heard of, then when all have
    heard of a round, the fourth, that is run again.
    """
    folder = tmp_path_factory.mktemp("killed")
    (folder / "p.py").write_text(PLUGIN)
    (folder / "s.yaml").write_text(SUITE)
    watched = [word for name in NAMES for word in ("--observer", name)]
    where = ["--plugin", str(folder / "p.py"), "--out", str(folder / "out")]
    words = ["bench", str(folder / "s.yaml"), *where, "--plain", "--no-plots"]
    words += ["--jobs", "1", *watched]
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "WANDB_MODE", "WANDB_PROJECT"):
            patch.delenv(name, raising=False)
        command = [sys.executable, "-W", "ignore", "-m", "fedkd", *words]

        def bench(kill):
            patch.setenv("KILL", kill)
            return subprocess.run(
                command, check=False, capture_output=True, text=True, timeout=200
            )

        for kill in ("3", "5"):
            killed = bench(kill)
            assert killed.returncode == -signal.SIGKILL, killed.stderr
            (run,) = (folder / "out" / "runs").iterdir()
            lines = (run / "metrics.jsonl").read_text().splitlines()
            assert len(lines) == int(kill)
        again = bench("")
    assert again.returncode == 0, again.stderr
    assert "goes on after round 3 of 6" in again.stderr
    assert "failed" not in again.stderr
    return run


@pytest.fixture
def expected(resumed):
    """Return the accuracy of each round as ``metrics.jsonl`` has it."""
    lines = map(json.loads, (resumed / "metrics.jsonl").read_text().splitlines())
    values = [(line["round"], line["global_accuracy"]) for line in lines]
    assert [step for step, _ in values] == [1, 2, 3, 4, 5, 6]
    return values


@pytest.mark.thorough
def test_csv_has_every_round_once_after_a_kill(resumed, expected):
    with (resumed / "rounds.csv").open(newline="") as file:
        rows = [r for r in csv.DictReader(file) if r["metric"] == "global_accuracy"]
    assert [(int(r["round"]), float(r["value"])) for r in rows] == expected


@pytest.mark.filterwarnings("ignore")
def test_tensorboard_has_every_round_once_after_a_kill(resumed, expected):
    pytest.importorskip("tensorboard", reason="needs the extra tensorboard")
    from tensorboard.backend.event_processing import event_accumulator

    read = event_accumulator.EventAccumulator(str(resumed / "tensorboard"))
    read.Reload()
    events = read.Scalars("global_accuracy")
    assert [event.step for event in events] == [step for step, _ in expected]
    values = [event.value for event in events]  # float32 in the file
    assert values == pytest.approx([value for _, value in expected], rel=1e-6)


@pytest.mark.filterwarnings("ignore")  # MLflow's, of SQLAlchemy
def test_mlflow_has_every_round_once_after_a_kill(resumed, expected):
    pytest.importorskip("mlflow", reason="needs the extra mlflow")
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{resumed.parents[1] / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("s")
    (run,) = client.search_runs([experiment.experiment_id])
    history = client.get_metric_history(run.info.run_id, "global_accuracy")
    assert sorted((metric.step, metric.value) for metric in history) == expected
    assert run.info.status == "FINISHED"
    assert run.data.tags["fedkd.status"] == "done"
    assert run.data.params["seed"] == "0"


def parts_of(log):
    """Yield the records of an offline file of W&B, which has no reader in Python.

    It is the log format of LevelDB after seven bytes of its own: blocks of 32 KiB, and
    before each part of a record a checksum, its size and its kind.
    """
    place, parts = 7, []
    while place + 7 <= len(log):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, size, kind = struct.unpack_from("<IHB", log, place)
        parts.append(log[place + 7 : place + 7 + size])
        place += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield b"".join(parts)
            parts = []


@pytest.mark.filterwarnings("ignore")
def test_wandb_has_every_round_once_after_a_kill(resumed, expected):
    pytest.importorskip("wandb", reason="needs the extra wandb")
    from wandb.proto import wandb_internal_pb2

    (path,) = (resumed / "wandb").glob("offline-run-*/*.wandb")
    values = []
    for data in parts_of(path.read_bytes()):
        record = wandb_internal_pb2.Record.FromString(data)
        items = {
            item.key or item.nested_key[0]: json.loads(item.value_json)
            for item in record.history.item
        }
        if items:
            values.append((items["_step"], items["global_accuracy"]))
    assert values == expected


def test_numbers_of_a_round_are_those_that_can_be_drawn():
    line = {
        "round": 2,
        "global_accuracy": 50,
        "local_accuracy": None,
        "train_loss": float("nan"),
        "logged": {"kl": 0.5, "odd": None},
        "measured": {"teacher": 7.0},
        "clients": {"0": {"bytes_up": 1}},
    }
    assert scalars(line) == {
        "global_accuracy": 50.0,
        "logged/kl": 0.5,
        "measured/teacher": 7.0,
    }


def test_options_are_named_by_their_path():
    tree = {"seed": 1, "training": {"lr": 0.1, "decay": {"by": 2}}}
    assert dict(flat(tree)) == {"seed": 1, "training.lr": 0.1, "training.decay.by": 2}


def test_runs_of_two_folders_have_two_names(tmp_path):
    def run(folder):
        return fedkd.RunInfo(
            "s", "a", "d", "p", 1, "m", 2, 2, 0, run_id="a/b:c", folder=folder
        )

    names = {identity(run(tmp_path / name)) for name in ("one", "two")}
    assert {name.rpartition("-")[0] for name in names} == {"a-b-c"}
    assert len(names) == 2


def test_an_observer_without_its_package_names_the_extra(monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda n, *a: None if n == "wandb" else find(n, *a)
    )
    assert main(["bench", "quick", "--observer", "wandb", "--dry-run"]) == 2
    assert "pip install 'fedkd[wandb]'" in capsys.readouterr().err
