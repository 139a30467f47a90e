"""Which executor a run gets, and how that is recorded."""

from dataclasses import replace

import pytest
import torch

from fedkd import testing
from fedkd.cli import main
from fedkd.errors import ConfigError
from fedkd.harness.request import Request, opened
from fedkd.plugins.registry import load_registry
from fedkd.report.results import read_results
from fedkd.report.rows.merging import merge_results
from fedkd.report.table import table_markdown
from fedkd.simulation.executors import (
    AUTO,
    OWN,
    Choice,
    Serial,
    alone,
    make_executor,
)
from fedkd.simulation.federation import Federation
from fedkd.simulation.sides import Sides
from fedkd.simulation.simulator import simulate
from fedkd.simulation.turns import Turns

REGISTRY = load_registry()


def turns_of():
    sides = Sides(testing.toy_federation(), testing.toy_protocol(), 0)
    return Turns(REGISTRY.strategy("fedavg", {})[0], sides, "x")


@pytest.fixture
def on_gpu(monkeypatch):
    """Return the turns of a federation that says it is on a GPU."""
    turns = turns_of()
    turns.sides.largest()  # builds the models while there still is a CPU
    monkeypatch.setattr(Federation, "device", torch.device("cuda", 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Some GPU 80GB")
    return turns


def test_ray_is_refused_on_a_gpu_which_its_tasks_would_not_see(on_gpu):
    with pytest.raises(ConfigError, match=r"'ray' is for CPUs.* on cuda:0"):
        make_executor(Choice("ray"), on_gpu)


class Backwards(Serial):
    """Is as fast as a run is long."""

    name = "backwards"

    @classmethod
    def speed(cls, turns, workers):
        return float(turns.sides.protocol.rounds)

    def answers(self, orders):
        for k in reversed(orders.round.clients):
            yield k, self.turns.do(k, orders)


def test_of_several_the_one_that_says_it_is_fastest_is_taken():
    choice = Choice((Backwards, *OWN.values()), workers=2)
    assert turns_of().sides.protocol.rounds > 1
    assert make_executor(choice, turns_of()).name == "backwards"
    assert make_executor(Choice(AUTO, 2), turns_of()).name == "serial"


def test_a_class_is_an_executor_as_good_as_a_name():
    strategy = REGISTRY.strategy("fedavg", {})[0]
    world = testing.toy_federation(), testing.toy_protocol(2)
    plain = simulate(strategy, *world, 0)
    other = simulate(strategy, *world, 0, executor=Backwards)
    assert (plain.engine, other.engine) == ("serial", "backwards")
    assert other.metrics["clients"].keys() == plain.metrics["clients"].keys()
    for name, value in plain.state.weights.items():
        assert torch.equal(other.state.weights[name], value)


def test_beside_other_cells_no_processes_are_started():
    for name in ("serial", "processes", "ray", "graphs", "stacked"):
        chosen = alone(Choice(REGISTRY.executor(name), 3, profile=True))
        (left,) = chosen.candidates
        assert left.name == ("serial" if name in ("processes", "ray") else name)
        assert chosen.profile
    left = alone(Choice(REGISTRY.executors())).candidates
    assert {cls.name for cls in left} == {"graphs", "serial", "stacked"}


def bench(out, *more):
    call = ["bench", "smoke", "--plain", "--no-plots", "--strategies", "fedavg"]
    return main([*call, "--out", str(out), "--device", "cpu", *more])


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_the_table_and_the_results_name_the_engine(tmp_path, jobs):
    more = ["--rounds", "1", "--executor", "graphs", "--jobs", jobs, "--seeds", "0-1"]
    assert bench(tmp_path, *more, "--set", "precision=bf16") == 0
    rows = read_results(tmp_path / "results.csv")
    assert {(row.engine, row.precision) for row in rows} == {("graphs", "bf16")}
    page = (tmp_path / "table.md").read_text(encoding="utf-8")
    assert "- Clients' turns: graphs." in page
    assert "- Arithmetic: bf16 (autocast; weights and payloads are float32)." in page


def test_a_suite_in_tf32_is_foreseen_on_the_cpu_beside_workers_with_a_gpu():
    suite = {
        "name": "two",
        "rounds": 1,
        "clients": 2,
        "seeds": [0, 1],
        "datasets": "digits",
        "partitions": "iid",
        "models": "linear",
        "training": {"local_steps": 1, "batch_size": 4},
        "precision": "tf32",
        "strategies": ["fedavg"],
    }
    bench = opened(Request(suite, jobs=2, device="cpu"))
    bench.settings = replace(bench.settings, device=torch.device("cuda:0"))
    builder, foreseen = bench.check()
    assert builder.device.type == "cpu"
    assert foreseen.failing == {}


def test_a_suite_in_tf32_is_refused_on_a_cpu_before_any_cell(tmp_path, capsys):
    assert bench(tmp_path, "--set", "precision=tf32") == 2
    assert "tf32 is a mode of a GPU's tensor cores" in capsys.readouterr().err
    assert not (tmp_path / "results.csv").exists()
    assert not list((tmp_path / "runs").iterdir()), "a cell was started"


def test_runs_that_differ_in_their_engine_are_the_same_run():
    from dataclasses import replace

    from fedkd.report.results import Row

    row = Row("s", "fedavg", "d", "p", None, "cnn", 2, 3, 0, "done", run_id="r")
    other = replace(row, engine="graphs")
    assert merge_results({"a": [row], "b": [other]}) == [row]
    with pytest.raises(ConfigError, match="precision is"):
        merge_results({"a": [row], "b": [replace(row, precision="bf16")]})


def test_rows_without_an_engine_add_no_line():
    from fedkd.report.results import Row

    row = Row("s", "fedavg", "d", "p", None, "cnn", 2, 3, 0, "done", run_id="r")
    assert "Clients' turns" not in table_markdown([row], title="x")


def test_no_more_processes_are_asked_for_than_there_are_clients():
    clients = len(turns_of().sides.federation)
    for name in ("processes", "ray"):
        assert make_executor(Choice(name, 10**9), turns_of()).workers == clients
        assert (
            make_executor(Choice(name, clients - 1), turns_of()).workers == clients - 1
        )
