"""Which executor a run gets, and how that is recorded."""

import contextlib

import pytest
import torch

from fedkd import testing
from fedkd.algorithms.fedavg import FedAvg
from fedkd.cli import main
from fedkd.errors import ConfigError
from fedkd.plugins.registry import load_registry
from fedkd.report.results import merge_results, read_results
from fedkd.report.table import table_markdown
from fedkd.simulation import executors
from fedkd.simulation.executors import ALONE, NAMES, Choice, alone, make_executor
from fedkd.simulation.executors.graphs import Graphs
from fedkd.simulation.executors.measured import MEASUREMENTS, Measurement, fastest
from fedkd.simulation.federation import Federation
from fedkd.simulation.sides import Sides
from fedkd.simulation.simulator import simulate
from fedkd.simulation.turns import Turns

REGISTRY = load_registry()


def measurement(engine, ratio, parameters=1_000_000, batch=64, device="Some GPU*"):
    return Measurement(
        device, engine, parameters, batch, ratio, "2001-01-01", "2.15", "command"
    )


ROWS = (
    measurement("graphs", 9.0),
    measurement("stacked", 12.0, parameters=50_000),
    measurement("stacked", 0.5, parameters=10_000_000),
    measurement("graphs", 3.0, parameters=20_000_000, device="Other GPU"),
)


@pytest.mark.parametrize(
    ("device", "parameters", "batch", "expected"),
    [
        ("Some GPU 80GB", 10_000, 64, "stacked"),
        ("Some GPU 80GB", 100_000, 64, "graphs"),
        ("Some GPU 80GB", 1_000_001, 64, "serial"),
        ("Some GPU 80GB", 10_000, 65, "serial"),
        ("Other GPU", 1_000_001, 8, "graphs"),
        ("Unknown", 10, 1, None),
    ],
)
def test_the_best_ratio_up_to_the_measured_size_counts(
    device, parameters, batch, expected
):
    assert fastest(device, parameters, batch, ROWS) == expected


def test_rows_name_executors_and_say_how_they_were_measured():
    for row in MEASUREMENTS:
        assert row.engine in NAMES
        assert row.ratio > 0
        assert "gpu.py" in row.command


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


def test_on_a_gpu_without_a_row_auto_is_serial_and_says_how_to_measure(on_gpu):
    with pytest.warns(RuntimeWarning, match=r"python benchmarks/gpu\.py") as caught:
        found = make_executor(Choice("auto"), on_gpu)
    assert found.name == "serial"
    assert "Some GPU 80GB" in str(caught[0].message)


def test_on_a_gpu_with_a_row_auto_is_what_was_measured(on_gpu, monkeypatch):
    monkeypatch.setattr(
        executors, "fastest", lambda *a: fastest(*a, rows=(measurement("graphs", 9.0),))
    )
    assert make_executor(Choice("auto"), on_gpu).name == "graphs"


def test_ray_is_refused_on_a_gpu_which_its_tasks_would_not_see(on_gpu):
    with pytest.raises(ConfigError, match=r"'ray' is for CPUs.* on cuda:0"):
        make_executor(Choice("ray"), on_gpu)


def test_on_a_cpu_no_row_is_asked_for(monkeypatch):
    def refuse(*_):
        raise AssertionError("asked")

    monkeypatch.setattr(executors, "fastest", refuse)
    assert make_executor(Choice("auto"), turns_of()).name == "serial"


def test_beside_other_cells_no_processes_are_started():
    for name in NAMES:
        found = alone(Choice(name, 3, profile=True))
        assert found.name == (name if name in ALONE else "serial")
        assert found.profile


def test_graphs_gives_the_numbers_of_serial():
    results = [
        simulate(
            REGISTRY.strategy(name, {})[0],
            testing.toy_federation(),
            testing.toy_protocol(3, training=training),
            0,
            executor=executor,
        )
        for name in ("fedavg", "fedprox")
        for training in [{"local_epochs": 2, "batch_size": 7, "lr": 0.05}]
        for executor in ("serial", "graphs")
    ]
    for plain, replayed in (results[:2], results[2:]):
        assert (plain.engine, replayed.engine) == ("serial", "graphs")
        torch.testing.assert_close(
            dict(plain.state.weights),
            dict(replayed.state.weights),
            rtol=1e-5,
            atol=1e-6,
        )
        assert plain.metrics["bytes_up"] == replayed.metrics["bytes_up"]


def test_graphs_uses_one_step_for_all_and_frees_it():
    turns = turns_of()
    executor = Graphs(turns)
    state = turns.strategy.init(turns.sides.server())
    for index in range(2):
        orders = turns.orders(state, testing.Round(index, 2, (0, 1, 2)))
        assert [k for k, _ in executor.answers(orders)] == [0, 1, 2]
    assert len(executor._replayer._steps) == 1
    executor.close()
    assert not executor._replayer._steps


@pytest.mark.parametrize("fails", [False, True])
def test_a_run_ends_without_captured_steps_even_if_it_fails(monkeypatch, fails):
    class Failing(FedAvg):
        def aggregate(self, *arguments):
            if fails:
                raise KeyboardInterrupt
            return super().aggregate(*arguments)

    real, kept = Graphs.close, []

    def close(self):
        kept.append(len(self._replayer._steps))
        real(self)
        kept.append(len(self._replayer._steps))

    monkeypatch.setattr(Graphs, "close", close)
    world = testing.toy_federation(), testing.toy_protocol(1)
    with pytest.raises(KeyboardInterrupt) if fails else contextlib.nullcontext():
        simulate(Failing(FedAvg.Config()), *world, 0, executor="graphs")
    assert kept == [1, 0]


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
