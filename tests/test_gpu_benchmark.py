"""The script for GPUs, as far as a CPU can tell: it runs, writes, and ends in time."""

import importlib.util
import json
import resource
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from fedkd.executors.measured import Measurement, fastest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "benchmarks" / "gpu.py"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def gpu():
    spec = importlib.util.spec_from_file_location("gpu_benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)  # where its parts are
        spec.loader.exec_module(module)
    return module


@pytest.fixture
def lab(gpu, tmp_path):
    return gpu.Lab(CPU, True, time.monotonic() + 600, tmp_path / "runs", tmp_path)


def called(*arguments, cwd):
    command = [sys.executable, "-W", "ignore", str(SCRIPT), *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=cwd, timeout=200
    )


@pytest.mark.slow
def test_a_dry_run_goes_through_every_part_in_under_a_minute(tmp_path):
    out = tmp_path / "here" / "cpu.json"
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = called("--device", "cpu", "--tiny", "--out", str(out), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    # Of its own time: the machine may be busy with something else.
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 60
    assert done.stdout.startswith("On cpu, torch")
    assert "A dry run" in done.stdout
    assert "Rows for" not in done.stdout, "a CPU's numbers were offered"
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["about"]["dry_run"]
    assert {"command", "commit", "device", "torch"} <= found["about"].keys()
    assert all(row["ok"] for row in found["parity"])
    engines = {row["what"].partition(",")[0] for row in found["parity"]}
    assert "graphs" in engines
    for work in ("small CNN", "ResNet-18"):
        assert "graphs bf16" in found["rounds"][work]["median"]
        assert found["floor"][work]["step"]["operations"] > 0
        assert found["ensembles"][work]["difference"] < 1e-4
    for name in ("fedavg", "mosaic"):
        assert found["paper"][name]["status"] == "done"


def test_without_a_gpu_it_says_what_to_do(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    done = called(cwd=tmp_path)
    assert done.returncode == 1
    assert "A dry run: --device cpu --tiny." in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_suite_ends_when_its_time_is_over_and_what_it_did_is_kept(gpu, lab):
    found = gpu.paper._suite("smoke", "fedavg", "graphs", lab, 0.0)
    assert found["status"] == "the time was over"
    assert found["last_round"]["round"] == 1
    assert found["last_round"]["global_accuracy"] is not None


def test_a_suite_without_its_data_is_skipped_with_the_reason(gpu, lab):
    found = gpu.paper._suite("paper-cifar10", "fedavg", "serial", lab, 100.0)
    assert "cifar" in found["skipped"].lower()


def test_with_little_time_left_the_suite_is_not_started(gpu, lab, capsys):
    late = replace(lab, tiny=False, ends=time.monotonic() + 5)
    found = gpu.paper.measure(late, "serial")
    assert "seconds are left" in found["fedavg"]["skipped"]
    assert "seconds are left" in found["mosaic"]["skipped"]


def test_an_engine_that_is_wrong_fails_and_is_not_offered(gpu, lab, monkeypatch):
    from fedkd.ops.sgd import StaticSgd

    real = StaticSgd.start
    monkeypatch.setattr(StaticSgd, "start", lambda self, lr: real(self, 1.1 * lr))
    monkeypatch.setattr("gpu_parts.lab.TINY", lab.works[:1])
    rows = gpu.parity.compare(lab)
    assert {r["what"] for r in rows if not r["ok"]} == {"graphs"}
    report = gpu.Report(lab.runs / "x.json", gpu.about(CPU, tiny=True))
    report.keep("parity", rows)
    medians = {f"{name} fp32": 1.0 for name in gpu.ENGINES}
    work = asdict(lab.works[0])
    report.keep("rounds", {"small CNN": {"median": medians, "work": work}})
    assert "graphs" not in {row.engine for row in gpu.rows_for_auto(report)}


def test_rows_are_such_as_auto_reads(gpu, lab):
    report = gpu.Report(lab.runs / "x.json", gpu.about(CPU, tiny=True))
    work = asdict(lab.works[0])
    medians = {"serial fp32": 2.0, "graphs fp32": 0.5}
    report.keep("rounds", {"small CNN": {"median": medians, "work": work}})
    (row,) = gpu.rows_for_auto(report)
    assert isinstance(row, Measurement)
    assert row.ratio == 4.0
    assert fastest("cpu", row.parameters, work["batch"], [row]) == "graphs"


def test_operations_and_bytes_are_those_of_the_layers(gpu, monkeypatch):
    """One linear layer of 4 to 10 on 2 images: 2*2*4*10 operations, and for the gradient
    of its weights as many again; images need none."""
    layer = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 10))
    monkeypatch.setattr(
        gpu.floor.REGISTRY,
        "model",
        lambda name: lambda shape, classes, **options: layer,
    )
    work = gpu.floor.Work("x", "linear", {}, (1, 2, 2), 1, batch=2)
    needs = gpu.floor.step_needs(work, CPU)
    assert needs["operations"] == 2 * (2 * 2 * 4 * 10)
    assert needs["parameters"] == 50
    # Saved: the images, the log-probabilities; and what the loss keeps of its labels.
    assert needs["saved_bytes"] >= 2 * 4 * 4 + 2 * 10 * 4
    assert needs["bytes"]["fp32"] == 12 * 50 + 2 * needs["saved_bytes"]


def test_a_part_that_breaks_is_written_down_and_the_others_go_on(gpu, lab, monkeypatch):
    def broken(_):
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(gpu.parity, "compare", broken)
    monkeypatch.setattr("gpu_parts.lab.TINY", lab.works[:1])
    report = gpu.Report(lab.runs / "x.json", gpu.about(CPU, tiny=True))
    assert list(gpu.attempts(report, ("parity", "ensembles"), lab)) == ["parity"]
    written = json.loads(report.path.read_text(encoding="utf-8"))
    assert written["parity"] == {"failed": "CUDA out of memory"}
    assert "small CNN" in written["ensembles"]
