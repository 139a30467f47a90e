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

from fedkd.engines.measured import Measurement, ratio

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


@pytest.mark.thorough
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
    against = {row["what"]: row["against"] for row in found["parity"]}
    assert against["graphs, bf16"] == against["stacked, bf16"] == "serial, bf16"
    assert against["graphs, fp32"] == against["serial, bf16"] == "serial, fp32"
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
    from fedkd.engines.static_sgd import StaticSgd

    real = StaticSgd.start
    monkeypatch.setattr(StaticSgd, "start", lambda self, lr: real(self, 1.1 * lr))
    monkeypatch.setattr("gpu_parts.lab.TINY", lab.works[:1])
    rows = gpu.parity.compare(lab)
    wrong = {r["what"] for r in rows if not r["ok"]}
    assert wrong == {"graphs, fp32", "graphs, bf16"}
    report = gpu.Report(lab.runs / "x.json", gpu.about(CPU, tiny=True))
    report.keep("parity", rows)
    medians = {f"{name} fp32": 1.0 for name in gpu.ENGINES}
    work = asdict(lab.works[0])
    report.keep("rounds", {"small CNN": {"median": medians, "work": work}})
    assert {row.engine for row in gpu.rows_for_auto(report)} == {"stacked"}


@pytest.mark.parametrize("broken", ["graphs", "stacked"])
def test_an_engine_that_is_wrong_in_bf16_alone_is_seen(gpu, lab, monkeypatch, broken):
    real = gpu.parity._trained

    def trained(work, momentum, device, engine="serial", precision="fp32"):
        weights = real(work, momentum, device, engine, precision)
        wrong = (engine, precision) == (broken, "bf16")
        return weights + 0.3 * (weights - start) if wrong else weights

    monkeypatch.setattr(gpu.parity, "_trained", trained)
    start = gpu.parity._start(lab.works[0], CPU)
    rows = gpu.parity._rows(lab.works[0], 0.0, lab)
    assert [r["what"] for r in rows if not r["ok"]] == [f"{broken}, bf16"]


def test_engines_that_add_up_otherwise_may_differ_by_the_rounding(gpu, lab):
    limits = {r["what"]: r["tolerance"] for r in gpu.parity._rows(lab.works[0], 0, lab)}
    assert limits["serial, bf16"] == limits["stacked, bf16"] == 0.2
    assert limits["graphs, bf16"] == limits["graphs, fp32"] == 2e-3
    assert limits["stacked, fp32"] == 1e-2


def compared(**wrong):
    """Return comparisons that hold, but those named."""
    names = ("serial again", "serial on the CPU", "serial, bf16", "graphs, fp32")
    verdicts = dict.fromkeys((*names, "graphs, bf16"), True)
    return [{"what": name, "ok": ok} for name, ok in (verdicts | wrong).items()]


@pytest.fixture
def timed(gpu, lab):
    """A report of rounds that ``graphs`` does in a quarter of the time, and no parity."""
    report = gpu.Report(lab.runs / "x.json", gpu.about(CPU, tiny=True))
    medians = {"serial fp32": 2.0, "graphs fp32": 0.5}
    work = asdict(lab.works[0])
    report.keep("rounds", {"small CNN": {"median": medians, "work": work}})
    return report


def test_rows_are_such_as_auto_reads(gpu, lab, timed):
    timed.keep("parity", compared())
    (row,) = gpu.rows_for_auto(timed)
    assert isinstance(row, Measurement)
    assert row.ratio == 4.0
    assert ratio("graphs", "cpu", row.parameters, lab.works[0].batch, [row]) == 4.0


@pytest.mark.parametrize("parity", [None, [], {"failed": "CUDA out of memory"}])
def test_without_comparisons_no_row_is_offered(gpu, timed, parity, capsys):
    if parity is not None:
        timed.keep("parity", parity)
    assert gpu.rows_for_auto(timed) == []
    gpu.offer(timed)
    assert capsys.readouterr().out.startswith("No rows for")


@pytest.mark.parametrize("what", ["serial again", "serial on the CPU", "serial, bf16"])
def test_if_serial_itself_is_wrong_no_row_is_offered(gpu, timed, what):
    timed.keep("parity", compared(**{what: False}))
    assert gpu.rows_for_auto(timed) == []


def test_an_engine_that_nobody_compared_is_not_offered(gpu, timed):
    rows = [row for row in compared() if row["what"].startswith("serial")]
    timed.keep("parity", rows)
    assert gpu.rows_for_auto(timed) == []


@pytest.fixture
def settings(monkeypatch):
    """Return what was set in the forward pass, the backward pass and the step of SGD."""
    seen = {}

    def note(where):
        products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
        seen[where] = {
            "tf32": (products.allow_tf32, convolutions.allow_tf32),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "benchmark": convolutions.benchmark,
            "cast": torch.is_autocast_enabled("cpu"),
        }

    def step(self, real=torch.optim.SGD.step):
        note("step")
        return real(self)

    def watch(bare):
        bare.model.register_forward_hook(lambda *_: note("forward"))
        bare.parameters[0].register_hook(lambda _: note("backward"))
        bare.round()
        assert len(seen) == 3
        return [seen[where] for where in ("forward", "backward", "step")]

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    return watch


@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_all_of_the_bare_loop_s_step_has_the_arithmetic_of_its_label(
    gpu, lab, settings, precision
):
    bare = gpu.rounds.BareLoop(lab.works[0], lab, precision)
    bare.lab = replace(lab, device=torch.device("cuda"))  # whose flags are set anywhere
    allowed = precision == "tf32"
    before = torch.backends.cudnn.allow_tf32
    for found in settings(bare):
        assert found["tf32"] == (allowed, allowed)
        assert found["deterministic"], "as in the rounds of fedkd"
        assert not found["benchmark"]
    assert torch.backends.cudnn.allow_tf32 == before
    assert not torch.are_deterministic_algorithms_enabled()


def test_the_bare_loop_casts_in_the_forward_pass_alone(gpu, lab, settings):
    bare = gpu.rounds.BareLoop(lab.works[0], lab, "bf16")
    assert [found["cast"] for found in settings(bare)] == [True, False, False]
    assert all(p.dtype == torch.float32 for p in bare.parameters)


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
