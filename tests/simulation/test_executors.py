"""Executors: the same bits everywhere, whatever dies in the middle."""

import csv
import json
import os
import pickle
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch

from fedkd import testing
from fedkd.base.machine import cores
from fedkd.errors import ConfigError, DivergedError
from fedkd.payload import encode
from fedkd.plugins.registry import load_registry
from fedkd.simulation import executors
from fedkd.simulation.executors import Choice
from fedkd.simulation.executors.processes import Processes
from fedkd.simulation.executors.worker import attempted, heard
from fedkd.simulation.federation import Federation
from fedkd.simulation.simulator import simulate
from fedkd.simulation.store import answers

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ray
except ImportError:
    ray = None
needs_ray = pytest.mark.skipif(ray is None, reason="Ray is not installed")
quiet = pytest.mark.filterwarnings("ignore")

PLUGIN = """
import os, signal, time, warnings
from dataclasses import dataclass
from pathlib import Path
import fedkd
from fedkd.algorithms.averaging import AverageConfig
from fedkd.algorithms.fedavg import FedAvg

class HarmConfig(AverageConfig):
    flag: str = ""
    '''A file that says that the harm is done.'''
    kind: str = "kill"
    '''What is done.'''

class Odd(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")

class Much(RuntimeWarning):
    pass

class Harm(FedAvg):
    Config = HarmConfig
    def aggregate(self, *arguments):
        Path(self.config.flag + ".main").write_text(str(os.getpid()))
        return super().aggregate(*arguments)
    def local(self, down, client):
        main = Path(self.config.flag + ".main")
        away = main.exists() and main.read_text() != str(os.getpid())
        if self.config.kind == "kill" and away and not Path(self.config.flag).exists():
            Path(self.config.flag).write_text("done")
            os.kill(os.getpid(), signal.SIGKILL)
        if self.config.kind == "odd" and client.id >= 1:
            warnings.warn("something is odd", Much, stacklevel=2)
            raise Odd("found this", client.id)
        if self.config.kind == "warn":
            warnings.warn(f"client {client.id} has too much", Much, stacklevel=2)
        if self.config.kind == "sleep":
            time.sleep(0.3)
        return super().local(down, client)

@fedkd.hookimpl
def fedkd_register_strategies(register):
    register("harm", ":Harm")
"""


def run(name, choice, *, rounds=4, options=None, models=("cnn",), **protocol):
    strategy, _ = load_registry().strategy(name, options or {})
    federation = testing.toy_federation(5, models=models)
    setting = testing.toy_protocol(rounds, 5, **protocol)
    return simulate(strategy, federation, setting, 0, executor=choice)


def untimed(result):
    lines = json.loads(json.dumps(result.history))
    for row in [row for line in lines for row in (line, *line["clients"].values())]:
        row.pop("seconds")
    return lines


def assert_same(first, second):
    assert encode(first.state) == encode(second.state)
    assert untimed(first) == untimed(second)


@pytest.fixture
def harm(tmp_path):
    """Return ``run(kind, choice)`` of a strategy that does harm, from a plug-in."""
    plugin = tmp_path / "harmful.py"
    plugin.write_text(PLUGIN)
    registry = load_registry([plugin])
    toy = testing.toy_federation(5)
    shards = [client.indices.numpy() for client in toy.clients]
    tests = [shard.numpy() for shard in toy.test_shards]
    models = [toy.server_model]
    federation = Federation(toy.data, shards, tests, models, registry.model)

    def call(kind, choice, name="flag"):
        options = {"flag": str(tmp_path / name), "kind": kind}
        strategy, _ = registry.strategy("harm", options)
        protocol = testing.toy_protocol(4, 5)
        return simulate(strategy, federation, protocol, 0, executor=choice)

    return call


@pytest.mark.parametrize("name", ["fedavg", "fedbn", "fedprox", "mosaic"])
def test_processes_give_the_bits_of_one(name):
    options = {
        "generator": {"steps": 2, "epochs": None, "batch_size": 8, "width": 2},
        "teacher": {"steps": 3, "samples_per_client": 8},
        "distil": {"steps": 2, "batch_size": 8},
    }
    given = options if name == "mosaic" else {}
    serial, spread = (
        run(name, choice, options=given)
        for choice in ("serial", Choice("processes", 3))
    )
    assert_same(serial, spread)


def test_memories_travel():
    settings = {"buffers": "local", "participation": 3}
    results = [
        run("fedavg", choice, rounds=6, **settings)
        for choice in ("serial", Choice("processes", 2))
    ]
    assert_same(*results)


def test_processes_work_where_they_are_not_forked(monkeypatch):
    serial = run("fedbn", "serial")
    monkeypatch.setattr(Processes, "_safe_method", lambda self: "spawn")
    assert_same(serial, run("fedbn", Choice("processes", 2)))


@pytest.mark.thorough
def test_more_rounds_than_the_queue_remembers_mix_nothing_up():
    first = run("fedavg", "serial", rounds=40, evaluation={"every": 40})
    second = run("fedavg", Choice("processes", 3), rounds=40, evaluation={"every": 40})
    assert_same(first, second)


def test_a_killed_worker_changes_no_number(harm, tmp_path):
    whole = harm("none", "serial")
    with pytest.warns(RuntimeWarning, match=r"ended with exit code -9 .* done again"):
        broken = harm("kill", Choice("processes", 2), "other")
    assert (tmp_path / "other").exists(), "nobody was killed"
    assert_same(whole, broken)


@pytest.mark.parametrize("choice", ["serial", Choice("processes", 3)])
def test_an_exception_arrives_with_its_type_and_message(harm, choice):
    with (
        pytest.warns(Warning, match="something is odd"),
        pytest.raises(Exception, match="found this and 1") as caught,
    ):
        harm("odd", choice)
    assert type(caught.value).__name__ == "Odd"


class Stubborn(Exception):
    """Does not travel."""

    def __reduce__(self):
        raise TypeError("no")


@pytest.mark.parametrize(
    ("error", "name", "arguments"),
    [
        (RuntimeError("cannot read", "file.bin"), "RuntimeError", None),
        (RuntimeError(3, "x"), "RuntimeError", None),
        (Stubborn(3, "x"), "Stubborn", ("(3, 'x')",)),
    ],
)
@pytest.mark.filterwarnings("always")
def test_a_fault_is_raised_as_what_it_was_after_what_was_warned_of(
    error, name, arguments
):
    said = []

    def turn():
        with heard(said):
            warnings.warn("something is odd", UserWarning, stacklevel=1)
            raise error

    error.add_note("of client 3")
    fault = pickle.loads(pickle.dumps(attempted(turn, said)))
    with (
        pytest.warns(UserWarning, match="something is odd"),
        pytest.raises(RuntimeError) as caught,
    ):
        fault.throw()
    assert type(caught.value).__name__ == name
    assert caught.value.args == (arguments or error.args)
    assert caught.value.__notes__ == ["of client 3"]


def test_divergence_is_divergence_in_another_process():
    training = {"local_steps": 40, "batch_size": 8, "lr": 1e9}
    with pytest.raises(DivergedError, match="lower the"):
        run(
            "fedavg",
            Choice("processes", 2),
            models=("cnn-plain",),
            training=training,
        )


def test_no_worker_outlives_its_run(monkeypatch):
    seen = []
    real = Processes.close

    def close(self):
        seen.extend(worker.process for worker in self._others)
        real(self)

    monkeypatch.setattr(Processes, "close", close)
    run("fedavg", Choice("processes", 3))
    assert len(seen) == 2
    assert not any(process.is_alive() for process in seen)


def children(pid):
    found = []
    for path in [Path("/proc", n, "stat") for n in os.listdir("/proc") if n.isdigit()]:
        try:
            text = path.read_text()
        except OSError:
            continue
        if int(text.rpartition(")")[2].split()[1]) == pid:
            found.append(int(path.parent.name))
    return found


@pytest.mark.thorough
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGKILL])
def test_an_end_of_the_main_process_leaves_none_behind(tmp_path, blow):
    (tmp_path / "harmful.py").write_text(PLUGIN)
    command = [
        sys.executable, "-m", "fedkd", "bench", "smoke", "--plain", "--no-plots",
        "--executor", "processes", "--workers", "3", "--out", str(tmp_path / "out"),
        "--strategies", "fedavg", "--rounds", "100000",
    ]  # fmt: skip
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    workers = []
    end = time.monotonic() + 120
    while len(workers) < 2 and time.monotonic() < end:
        time.sleep(0.1)
        workers = children(process.pid)
    process.send_signal(blow)
    said, _ = process.communicate(timeout=90)
    assert len(workers) == 2, said
    assert blow == signal.SIGKILL or process.returncode == 130, said
    end = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < end, "a worker lives on"
        time.sleep(0.05)


def smoke(folder, *executor):
    command = [
        sys.executable, "-W", "ignore", "-m", "fedkd", "bench", "smoke", "--plain",
        "--no-plots", "--workers", "2", "--out", str(folder), "--executor", *executor,
        "--strategies", "mosaic", "--jobs", "2",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    text = (folder / "results.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    times = [name for name in rows[0] if name in ("peak_memory_bytes", "engine")]
    times += [name for name in rows[0] if "seconds" in name]
    return [{k: v for k, v in row.items() if k not in times} for row in rows]


@pytest.fixture(scope="module")
def smoke_alone(tmp_path_factory):
    """The rows of the smoke suite's Mosaic, without workers."""
    return smoke(tmp_path_factory.mktemp("smoke") / "out", "serial")


@pytest.mark.thorough
def test_the_smoke_suite_gives_the_same_results(tmp_path, smoke_alone):
    assert smoke(tmp_path / "out", "processes") == smoke_alone


def heard_of(harm, choice):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        harm("warn", choice)
    return {str(w.message) for w in caught if "too much" in str(w.message)}


EVERY = {f"client {k} has too much" for k in range(5)}


def test_what_a_worker_warns_of_is_heard_in_the_main_process(harm):
    assert heard_of(harm, "serial") == heard_of(harm, Choice("processes", 3)) == EVERY


@pytest.mark.thorough
@needs_ray
@quiet
def test_a_ray_that_a_run_has_started_is_ended(harm):
    assert heard_of(harm, Choice("ray", 2)) == EVERY
    assert not ray.is_initialized()


@needs_ray
@quiet
def test_a_cluster_that_is_not_there_is_said(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(ConfigError, match="no Ray cluster answers"):
        run("fedavg", Choice("ray", 2, ray_address="auto"))


@pytest.fixture(scope="module")
def cluster():
    """The address of a Ray that runs, which takes ten seconds to start."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        yield found["address"]
        assert ray.is_initialized(), "a run ended a Ray that was there before it"
        ray.shutdown()


@needs_ray
@quiet
@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
class TestOnRay:
    @pytest.mark.thorough
    def test_a_run_whose_worker_is_killed_has_the_bits_of_one(self, harm, tmp_path):
        whole = harm("none", "serial")
        assert_same(whole, harm("kill", Choice("ray", 2), "other"))
        assert (tmp_path / "other").exists(), "nobody was killed"

    def test_what_a_client_keeps_comes_back(self):
        assert_same(run("fedbn", "serial"), run("fedbn", Choice("ray", 2)))

    def test_answers_in_a_file_have_the_bits_of_those_in_memory(self, monkeypatch):
        whole = run("fedavg", "serial")
        monkeypatch.setattr(answers, "BUDGET", 0)
        assert_same(whole, run("fedavg", Choice("ray", 2)))

    def test_a_fault_is_raised_as_what_it_was(self, harm):
        with (
            pytest.warns(Warning, match="something is odd"),
            pytest.raises(Exception, match="found this and 1") as caught,
        ):
            harm("odd", Choice("ray", 2))
        assert str(caught.value) == "found this and 1"

    @pytest.mark.thorough
    def test_the_smoke_suite_gives_the_same_results(
        self, cluster, tmp_path, smoke_alone
    ):
        rows = smoke(tmp_path / "out", "ray", "--ray-address", cluster)
        assert rows == smoke_alone


def test_auto_takes_processes_where_that_pays(monkeypatch):
    from fedkd.simulation.sides import Sides
    from fedkd.simulation.turns import Turns

    def name_of(rounds, steps, workers):
        training = {"local_steps": steps, "batch_size": 8, "lr": 0.1}
        protocol = testing.toy_protocol(rounds, 5, training=training)
        sides = Sides(testing.toy_federation(5), protocol, 0)
        turns = Turns(load_registry().strategy("fedavg", {})[0], sides, "x")
        return executors.make_executor(Choice("auto", workers), turns).name

    assert name_of(100, 100, 2) == "processes"
    assert name_of(100, 100, 1) == "serial"
    assert name_of(100, 1, 2) == "serial", "a round is too short"
    assert name_of(1, 100, 2) == "serial", "the run is too short"


def test_a_wrong_choice_is_refused():
    with pytest.raises(ConfigError, match="unknown executor 'threads'"):
        Choice("threads")
    with pytest.raises(ConfigError, match="found 0"):
        Choice("processes", 0)


def test_no_more_processes_work_at_a_time_than_there_are_jobs():
    from fedkd.harness.request import shares

    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    every = load_registry().executors()
    assert shares(1, None, every, cpu) == (1, 1)
    assert shares(3, None, every, cpu) == (3, 3)
    assert shares(3, 2, every, cpu) == (3, 2)
    assert shares(2, None, (Processes,), cpu) == (1, 2)
    assert shares(None, None, (Processes,), cpu) == (1, None)
    assert shares(None, None, every, cpu) == (cores(), None)
    assert shares(None, None, every, gpu) == (1, None)
    with pytest.raises(ConfigError, match=r"--workers 4 with --jobs 1: .* --jobs to 4"):
        shares(1, 4, every, cpu)
