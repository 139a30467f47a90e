"""Executors that were measured on a GPU are taken there, up to the measured size."""

import pytest
import torch

from fedkd import testing
from fedkd.engines import measured
from fedkd.engines.measured import MEASUREMENTS, Measurement, ratio
from fedkd.plugins.registry import load_registry
from fedkd.simulation.executors import Choice, make_executor
from fedkd.simulation.federation import Federation
from fedkd.simulation.sides import Sides
from fedkd.simulation.turns import Turns

REGISTRY = load_registry()
AUTO = Choice(REGISTRY.executors())


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
    ("device", "parameters", "batch", "graphs", "stacked"),
    [
        ("Some GPU 80GB", 10_000, 64, 9.0, 12.0),
        ("Some GPU 80GB", 100_000, 64, 9.0, 1.0),
        ("Some GPU 80GB", 1_000_001, 64, 1.0, 1.0),
        ("Some GPU 80GB", 10_000, 65, 1.0, 1.0),
        ("Other GPU", 1_000_001, 8, 3.0, 1.0),
        ("Unknown", 10, 1, None, None),
    ],
)
def test_the_best_ratio_up_to_the_measured_size_counts(
    device, parameters, batch, graphs, stacked
):
    assert ratio("graphs", device, parameters, batch, ROWS) == graphs
    assert ratio("stacked", device, parameters, batch, ROWS) == stacked


def test_rows_name_executors_and_say_how_they_were_measured():
    for row in MEASUREMENTS:
        assert row.engine in REGISTRY.entries("executors")
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
        chosen = make_executor(AUTO, on_gpu)
    assert chosen.name == "serial"
    assert "Some GPU 80GB" in str(caught[0].message)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([("graphs", 9.0)], "graphs"),
        ([("graphs", 9.0), ("stacked", 12.0)], "stacked"),
        ([("graphs", 0.9)], "serial"),
    ],
)
def test_on_a_gpu_with_a_row_auto_is_what_was_measured(
    on_gpu, monkeypatch, rows, expected
):
    known = tuple(measurement(*row) for row in rows)
    monkeypatch.setattr(measured, "ratio", lambda *given: ratio(*given, rows=known))
    assert make_executor(AUTO, on_gpu).name == expected


def test_on_a_cpu_no_row_is_asked_for(monkeypatch):
    def refuse(*_):
        raise AssertionError("asked")

    monkeypatch.setattr(measured, "ratio", refuse)
    assert make_executor(AUTO, turns_of()).name == "serial"
