"""A bench from end to end: what is left in its folder, whatever happens on the way."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fedkd.cli import main
from fedkd.results import read_results

PLUGIN = str(Path(__file__).with_name("toy_plugin.py"))
TIMES = ("seconds", "peak_memory_bytes")
SUITE = """\
name: toy
rounds: 3
clients: 3
seeds: [0, 1]
datasets: [toy]
partitions: [iid]
models: [toy-linear]
training: {{local_steps: 2, batch_size: 8, lr: 0.05}}
checkpoint_every: 1
strategies: [{strategies}]
"""


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """Return a function that runs a suite of the given strategies to ``tmp_path/out``."""
    monkeypatch.chdir(tmp_path)

    def run(strategies, *arguments, out="out", jobs=1):
        text = SUITE.format(strategies=strategies)
        Path("toy.yaml").write_text(text, encoding="utf-8")
        common = ["--plugin", PLUGIN, "--out", out, "--plain", "--no-plots"]
        return main(["bench", "toy.yaml", *common, "--jobs", str(jobs), *arguments])

    return run


def rows(out="out"):
    return read_results(Path(out) / "results.csv")


def without_times(out):
    found = []
    for row in rows(out):
        plain = dict(vars(row)) if hasattr(row, "__dict__") else row._asdict()
        found.append({k: v for k, v in plain.items() if k not in TIMES})
    return found


def test_a_bench_leaves_what_the_contract_says(bench):
    assert bench("toy-mean, fedavg") == 0
    out = Path("out")
    for name in ("suite.yaml", "environment.json", "results.csv", "table.md"):
        assert (out / name).is_file(), name
    assert [row.status for row in rows()] == ["done"] * 4
    for row in rows():
        folder = out / "runs" / row.run_id
        left = {path.name for path in folder.iterdir()}
        assert {"config.yaml", "metrics.jsonl", "log", "checkpoint.safetensors"} <= left
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        assert len(lines) == 3
        assert json.loads(lines[-1])["global_accuracy"] == pytest.approx(
            row.global_accuracy, abs=1e-4
        )
    environment = json.loads((out / "environment.json").read_text())
    assert "torch" in json.dumps(environment)


def test_strategies_of_a_seed_share_the_split_and_seeds_do_not(bench):
    bench("toy-mean, fedavg")
    by_seed = {0: set(), 1: set()}
    for row in rows():
        by_seed[row.seed].add(row.split_hash)
    assert [len(hashes) for hashes in by_seed.values()] == [1, 1]
    assert by_seed[0] != by_seed[1]


def test_a_second_bench_runs_nothing(bench, capsys):
    bench("toy-mean")
    before = {p: p.stat().st_mtime_ns for p in Path("out/runs").rglob("metrics.jsonl")}
    capsys.readouterr()
    assert bench("toy-mean") == 0
    after = {p: p.stat().st_mtime_ns for p in Path("out/runs").rglob("metrics.jsonl")}
    assert before == after
    assert "toy-mean" in capsys.readouterr().out


def test_fresh_runs_everything_again(bench):
    bench("toy-mean")
    before = [p.stat().st_mtime_ns for p in Path("out/runs").rglob("result.json")]
    bench("toy-mean", "--fresh")
    after = [p.stat().st_mtime_ns for p in Path("out/runs").rglob("result.json")]
    assert min(after) > max(before)


def test_two_folders_and_two_workers_give_the_same_results(bench):
    bench("toy-mean, fedavg", out="one")
    bench("toy-mean, fedavg", out="two", jobs=2)
    assert without_times("one") == without_times("two")


def test_what_goes_wrong_is_a_row_and_the_others_go_on(bench):
    code = bench("toy-fails, toy-diverges, toy-picky, toy-mean", "--seeds", "0")
    assert code == 1
    found = {row.strategy: (row.status, row.reason) for row in rows()}
    assert found["toy-fails"][0] == "failed"
    assert "this strategy fails on purpose" in found["toy-fails"][1]
    assert found["toy-diverges"] == ("diverged", "the loss became nan.")
    assert found["toy-picky"][0] == "skipped"
    assert "needs batch normalisation" in found["toy-picky"][1]
    assert found["toy-mean"][0] == "done"
    log = next(Path("out/runs").glob("toy-fails*/log")).read_text()
    assert "Traceback" in log


def test_a_failed_cell_is_run_again_and_goes_on_from_its_checkpoint(bench):
    flag = Path("flag").absolute()
    strategy = f"{{name: toy-fails, flag: '{flag}'}}"
    assert bench(strategy, "--seeds", "0") == 1
    flag.touch()
    assert bench(strategy, "--seeds", "0") == 0
    plain = f"{{name: toy-mean, label: toy-fails, flag: '{flag}'}}"
    bench(plain, "--seeds", "0", out="straight")
    assert rows()[0].global_accuracy == rows("straight")[0].global_accuracy


def test_a_worker_that_is_killed_fails_its_cell_only(bench):
    assert bench("toy-dies, toy-mean", "--seeds", "0", jobs=2) == 1
    found = {row.strategy: row for row in rows()}
    assert found["toy-dies"].status == "failed"
    assert "SIGKILL" in found["toy-dies"].reason
    assert found["toy-mean"].status == "done"


def test_the_live_files_record_the_plug_in(bench):
    bench("toy-mean", "--seeds", "0")
    text = next(Path("out/runs").glob("toy-mean*/config.yaml")).read_text()
    assert "toy_plugin" in text


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_bench_that_is_killed_goes_on_and_ends_with_the_same_numbers(bench, how):
    text = SUITE.format(strategies="{name: toy-waits, flag: flag}, fedavg")
    Path("toy.yaml").write_text(text, encoding="utf-8")
    arguments = ["bench", "toy.yaml", "--plugin", PLUGIN, "--seeds", "0", "--jobs", "1"]
    command = [sys.executable, "-m", "fedkd", *arguments, "--out", "killed", "--plain"]
    process = subprocess.Popen(
        command, env={**os.environ, "PYTHONSAFEPATH": "1"}, stderr=subprocess.PIPE
    )
    path = None
    deadline = time.monotonic() + 60
    while path is None and time.monotonic() < deadline:
        path = next(Path("killed").glob("runs/toy-waits*/checkpoint.safetensors"), None)
        time.sleep(0.05)
    assert path is not None, "the first round never ended"
    process.send_signal(how)
    _, message = process.communicate(timeout=60)
    assert process.returncode != 0
    assert b"Traceback" not in message
    Path("flag").touch()
    assert main([*arguments, "--out", "killed", "--plain", "--no-plots"]) == 0
    assert main([*arguments, "--out", "straight", "--plain", "--no-plots"]) == 0
    assert without_times("killed") == without_times("straight")
