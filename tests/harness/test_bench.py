"""A bench from end to end: what is left in its folder, whatever happens on the way."""

import errno
import importlib.util
import itertools
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from toy_suite import PLUGIN, toy_suite

from fedkd.base.folders import ResultsFolder
from fedkd.base.runname import RunName
from fedkd.cli import main
from fedkd.harness import bench as bench_module
from fedkd.harness import builder as builder_module
from fedkd.harness import cell as cell_module
from fedkd.harness.bench import Bench, Settings
from fedkd.harness.builder import RunBuilder
from fedkd.harness.cost import Cost, estimate
from fedkd.harness.folder import held
from fedkd.harness.paces import HERE
from fedkd.plugins.registry import load_registry
from fedkd.report.results import Row, read_results
from fedkd.suite.grid import grid
from fedkd.suite.suite import load_suite

TIMES = ("seconds", "peak_memory_bytes", "engine")


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """Return a function that runs a suite of the given strategies to ``tmp_path/out``."""
    monkeypatch.chdir(tmp_path)

    def run(strategies, *arguments, out="out", jobs=1):
        text = toy_suite(strategies)
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
    # What decides about the bits: the processor and its vector instructions.
    assert environment["cpu"].endswith(f", {torch.backends.cpu.get_cpu_capability()}")


def test_a_table_names_every_place_in_which_its_runs_were_made(bench, monkeypatch):
    def place():
        return json.loads(Path("out/environment.json").read_text("utf-8"))

    for seed, commit in (
        ("0", "aa"),
        ("1", "bb"),
        ("2", "aa"),
        ("3", "cc"),
        ("3", "dd"),
    ):
        monkeypatch.setattr("fedkd.harness.environment.commit", lambda c=commit: c)
        assert bench("toy-mean", "--seeds", seed) == 0
    # The last one had nothing to do.
    assert place()["commit"] == "cc"
    assert [one["commit"] for one in place()["earlier"]] == ["bb", "aa"]
    page = Path("out/table.md").read_text("utf-8")
    assert re.findall(", commit (..),", page) == ["bb", "aa", "cc"]
    assert page.count("1 thread a cell") == 1, "what is equal is said once"
    # Of runs that are made anew none is left.
    assert bench("toy-mean", "--seeds", "0-3", "--fresh") == 0
    assert (place()["commit"], place().get("earlier")) == ("dd", None)


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


def test_runs_of_an_earlier_version_are_not_run_again(bench):
    bench("toy-mean")
    path = next(Path("out/runs").rglob("result.json"))
    found = json.loads(path.read_text())
    lacking = ("precision", "engine", "checksum", "files")
    old = {k: v for k, v in found.items() if k not in lacking}
    path.write_text(json.dumps(old))
    before = {p: p.stat().st_mtime_ns for p in Path("out/runs").rglob("metrics.jsonl")}
    assert bench("toy-mean") == 0
    after = {p: p.stat().st_mtime_ns for p in Path("out/runs").rglob("metrics.jsonl")}
    assert before == after


def test_fresh_runs_everything_again(bench):
    bench("toy-mean")
    before = [p.stat().st_mtime_ns for p in Path("out/runs").rglob("result.json")]
    bench("toy-mean", "--fresh")
    after = [p.stat().st_mtime_ns for p in Path("out/runs").rglob("result.json")]
    assert min(after) > max(before)


@pytest.mark.thorough
def test_two_folders_and_two_workers_give_the_same_results(bench):
    bench("toy-mean, fedavg", out="one")
    bench("toy-mean, fedavg", out="two", jobs=2)
    assert without_times("one") == without_times("two")


def test_what_goes_wrong_is_a_row_and_the_others_go_on(bench):
    code = bench("toy-fails, toy-diverges, toy-picky, toy-mean", "--seeds", "0")
    assert code == 1
    found = {row.strategy: (row.status, row.reason) for row in rows()}
    assert found["toy-fails"][0] == "failed"
    words = (
        r"toy-fails.local \(client 0, round 2\), line \d+ of toy_plugin.py: ValueError: "
        "this strategy fails on purpose"
    )
    assert re.fullmatch(words, found["toy-fails"][1])
    status, reason = found["toy-diverges"]
    assert status == "diverged"
    place = r"toy-diverges.local \(client 0, round 2\), line \d+ of toy_plugin.py"
    assert re.fullmatch(rf"{place}: the loss became nan\.", reason)
    assert found["toy-picky"][0] == "skipped"
    assert "needs batch normalisation" in found["toy-picky"][1]
    assert found["toy-mean"][0] == "done"
    log = next(Path("out/runs").glob("toy-fails*/log")).read_text()
    assert "Traceback" in log


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_strategy_that_asks_to_exit_is_a_failed_row(bench, jobs):
    code = bench("toy-exits, toy-stops, toy-mean", "--seeds", "0", jobs=jobs)
    assert code == 1
    found = {row.strategy: (row.status, row.reason) for row in rows()}
    assert found["toy-mean"] == ("done", "")
    for name in ("toy-exits", "toy-stops"):
        assert found[name][0] == "failed"
    place = r"toy-exits.local \(client 0, round 2\), line \d+ of toy_plugin.py"
    assert re.match(
        rf"{place} called sys.exit\(3\), which would end", found["toy-exits"][1]
    )
    assert found["toy-stops"][1].endswith("Stop: no ordinary error")


def test_a_failed_cell_is_run_again_and_goes_on_from_its_checkpoint(bench, capsys):
    flag = Path("flag").absolute()
    strategy = f"{{name: toy-fails, flag: '{flag}'}}"
    assert bench(strategy, "--seeds", "0") == 1
    flag.touch()
    capsys.readouterr()
    assert bench(strategy, "--seeds", "0") == 0
    assert "seed 0: goes on after round 1 of 3\n" in capsys.readouterr().err
    log = next(Path("out/runs").glob("*/log")).read_text()
    assert log.count("goes on after round 1 of 3\n") == 1
    plain = f"{{name: toy-mean, label: toy-fails, flag: '{flag}'}}"
    bench(plain, "--seeds", "0", out="straight")
    assert rows()[0].global_accuracy == rows("straight")[0].global_accuracy


HASHED = """
import numpy as np
import fedkd
from fedkd.partition.base import Partition, Partitioner

class Hashed(Partitioner):
    def split(self, labels, clients, num_classes, rng):
        order = sorted(range(len(labels)), key=lambda i: hash(str(i)))
        return Partition.of(np.array_split(order, clients), labels, num_classes)

@fedkd.hookimpl
def fedkd_register_partitioners(register):
    register("hashed", ":Hashed")
"""


def test_a_split_that_another_process_deals_otherwise_is_an_error_where_it_is_dealt(
    bench, tmp_path
):
    plugin = tmp_path / "hashed.py"
    plugin.write_text(HASHED)
    more = ["--set", "partitions=[hashed]", "--plugin", str(plugin), "--seeds", "0"]
    assert bench("toy-mean, fedavg", *more, jobs=2) == 1
    rows = read_results(tmp_path / "out" / "results.csv")
    for row in rows:
        assert row.status == "failed"
        assert "the partitioner 'hashed' gave two splits for one seed" in row.reason


@pytest.mark.filterwarnings("default:its checkpoint cannot be read")
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_checkpoint_that_cannot_be_read_is_said(bench, capsys, jobs):
    flag = Path("flag").absolute()
    strategies = f"{{name: toy-fails, flag: '{flag}'}}"
    assert bench(strategies) == 1
    flag.touch()
    bad = sorted(Path("out/runs").glob("*/checkpoint.safetensors"))[0]
    bad.write_bytes(b"damaged")
    capsys.readouterr()
    assert bench(strategies, jobs=jobs) == 0
    said = capsys.readouterr().err
    assert said.count("its checkpoint cannot be read; starts from round 1.") == 1
    assert said.count("goes on after round 1 of 3") == 1
    log = bad.with_name("log")
    assert "its checkpoint cannot be read" in log.read_text()
    assert f"fedkd: 1 cell logged a warning; read {log}\n" in said


def test_a_folder_of_another_suite_is_refused_and_left_as_it_is(bench, capsys):
    bench("toy-mean")
    before = {p: p.stat().st_mtime_ns for p in Path("out").rglob("*")}
    Path("toy.yaml").rename("mine.yaml")
    text = Path("mine.yaml").read_text().replace("name: toy", "name: mine", 1)
    Path("mine.yaml").write_text(text)
    arguments = ["--plugin", PLUGIN, "--out", "out", "--plain", "--no-plots"]
    capsys.readouterr()
    assert main(["bench", "mine.yaml", *arguments]) == 2
    assert capsys.readouterr().err == (
        "fedkd: out holds the suite 'toy' (2 runs), and this one is called 'mine'; "
        "choose another --out, or delete it. To go on there, give this one the name "
        "'toy'.\n"
    )
    assert {p: p.stat().st_mtime_ns for p in Path("out").rglob("*")} == before


def test_cells_that_were_skipped_are_not_called_done(bench, capsys):
    bench("toy-mean, toy-picky")
    capsys.readouterr()
    bench("toy-mean, toy-picky", "--profile", "--executor", "serial")
    assert (
        "All 4 cells were run already: 2 done, 2 skipped; --fresh runs them again. "
        "--executor and --profile are not applied to them.\n"
    ) in capsys.readouterr().out
    bench("toy-mean, fedavg", "--profile")
    said = capsys.readouterr().out
    assert "2 of 4 cells were done already. --profile is not applied to them.\n" in said
    bench("toy-mean", "--observer", "csv")
    assert "--observer is not applied to them.\n" in capsys.readouterr().out


def test_ray_that_is_not_installed_is_refused_before_anything_runs(
    bench, capsys, monkeypatch
):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "ray" else real(name)
    )
    assert bench("toy-mean", "--executor", "ray", "--device", "cpu") == 2
    assert "pip install -e '.[ray]'" in capsys.readouterr().err
    assert not Path("out").exists()


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


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_data_set_that_is_missing_fails_its_cells_and_no_others(bench, capsys, jobs):
    wanted = ["--set", "datasets=[toy-missing, toy]", "--seeds", "0"]
    assert bench("toy-mean, fedavg", *wanted, jobs=jobs) == 1
    said, used, *_ = capsys.readouterr().err.splitlines()
    assert used.startswith("fedkd: uses cpu: ")
    assert said.startswith("fedkd: toy-missing: there is no file ")
    assert said.endswith("toy.bin. Its cells will fail, the others run.")
    found = {(row.dataset, row.status) for row in rows()}
    assert found == {("toy-missing", "failed"), ("toy", "done")}
    reasons = {row.reason for row in rows() if row.dataset == "toy-missing"}
    assert len(reasons) == 1
    assert reasons.pop().startswith("toy-missing: there is no file ")


TWICE = """
import fedkd
import numpy as np


class Twice(fedkd.Partitioner):
    def split(self, labels, clients, num_classes, rng):
        lists = [np.array([k, 7]) for k in range(clients)]
        return fedkd.Partition.of(lists, labels, num_classes)


@fedkd.hookimpl
def fedkd_register_partitioners(register):
    register("twice", ":Twice")
"""


def test_a_partitioner_that_breaks_a_rule_fails_its_cells_and_no_others(bench, capsys):
    Path("twice.py").write_text(TWICE)
    wanted = ["--set", "partitions=[twice, iid]", "--seeds", "0", "--rounds", "1"]
    assert bench("toy-mean", *wanted, "--plugin", "twice.py") == 1
    said = capsys.readouterr().err.splitlines()[0]
    expected = (
        "the partitioner 'twice' (3 clients, seed 0), line 9 of twice.py: a split has "
        "sample 7 3 times; expected each sample at most once, at one client."
    )
    assert said == (
        "fedkd: toy-mean will fail before the first round: toy, twice and toy-linear do "
        f"not go together (3 clients, seed 0): {expected} The others run."
    )
    found = {row.partition: row for row in rows()}
    assert found["twice"].status == "failed"
    assert found["twice"].reason == expected
    assert found["iid"].status == "done"


GAPS = """
import fedkd
import numpy as np


class Gap(fedkd.Partitioner):
    def split(self, labels, clients, num_classes, rng):
        lists = np.array_split(rng.permutation(len(labels)), clients)
        lists[1] = lists[1][:0]
        return fedkd.Partition.of(lists, labels, num_classes)


class Part(fedkd.Partitioner):
    def split(self, labels, clients, num_classes, rng):
        lists = np.array_split(rng.permutation(len(labels))[4:], clients)
        notes = ["left out: 4 samples", "the rest is said in the log only"]
        return fedkd.Partition.of(lists, labels, num_classes, notes)


@fedkd.hookimpl
def fedkd_register_partitioners(register):
    register("gap", ":Gap")
    register("part", ":Part")
"""


def test_a_split_with_a_client_without_samples_fails_its_cells_and_no_others(bench):
    Path("gaps.py").write_text(GAPS)
    wanted = ["--set", "partitions=[gap, iid]", "--seeds", "0", "--rounds", "1"]
    assert bench("toy-mean", *wanted, "--plugin", "gaps.py") == 1
    found = {row.partition: row for row in rows()}
    assert found["iid"].status == "done"
    assert found["gap"].status == "failed"
    assert found["gap"].reason.startswith(
        "the partitioner 'gap' left client 1 without a sample; expected one or more for "
        "each of 3 clients. Move some"
    )


def test_samples_that_a_split_leaves_out_are_told_in_results_and_below_tables(bench):
    Path("gaps.py").write_text(GAPS)
    wanted = ["--set", "partitions=[part, iid]", "--seeds", "0", "--rounds", "1"]
    assert bench("toy-mean", *wanted, "--plugin", "gaps.py") == 0
    notes = {row.partition: row.notes for row in rows()}
    assert notes == {"iid": "", "part": "partition part: left out: 4 samples"}
    page = Path("out/table.md").read_text("utf-8")
    assert "- toy: partition part: left out: 4 samples" in page


def test_where_no_data_is_there_at_all_nothing_runs(bench, capsys):
    assert bench("toy-mean", "--set", "datasets=[toy-missing]") == 1
    assert "toy-missing: there is no file" in capsys.readouterr().err
    assert list(Path("out/runs").iterdir()) == []


def test_a_dry_run_shows_the_grid_and_leaves_nothing(bench, capsys):
    assert bench("toy-mean, fedavg", "--dry-run") == 0
    shown = capsys.readouterr().out
    assert "toy: 4 cells" in shown
    # 3 rounds x 3 clients x 2 steps x 8 images = 144, four times.
    assert "4 of 4 cells to do; 576 client images at most in the local train" in shown
    assert not Path("out").exists()


def test_a_dry_run_knows_what_is_done_and_what_the_rest_will_take(bench, capsys):
    bench("toy-mean", "--seeds", "0")
    capsys.readouterr()
    bench("toy-mean", "--dry-run")
    shown = capsys.readouterr().out
    assert (
        # 36 images, all in each of 3 rounds.
        "1 of 2 cells to do; 108 client images and 0 server images, generators included, "
        "for the 1 cell whose like is finished; about"
    ) in shown
    # Runs of another number of rounds are no cells of this grid, and tell the pace.
    (result,) = Path("out/runs").glob("*/result.json")
    known = {**json.loads(result.read_text("utf-8")), "client_examples": 999}
    result.write_text(json.dumps(known | {"seconds": 30.0}), encoding="utf-8")
    bench("toy-mean", "--dry-run", "--rounds", "6")
    shown = capsys.readouterr().out
    # 999 images and 30 seconds in 3 rounds.
    assert len(re.findall(r"1,998 +0 +60", shown)) == 2
    assert "2 cells by runs of another number of rounds, counted by the round" in shown


def test_a_dry_run_without_runs_to_go_by_says_that_server_work_is_unknown(
    bench, capsys
):
    assert bench("toy-mean", "--dry-run") == 0
    assert (
        "what else clients and server train there, generators above all, is known once a "
        "cell like it ran."
    ) in capsys.readouterr().out


def test_a_dry_run_knows_runs_of_the_folders_beside_it_on_this_machine(bench, capsys):
    assert bench("toy-mean", "--seeds", "5", "--rounds", "1", out="other") == 0
    (result,) = Path("other/runs").glob("*/result.json")
    known = {**json.loads(result.read_text("utf-8")), "seconds": 40.0}
    result.write_text(json.dumps(known), encoding="utf-8")
    capsys.readouterr()
    assert bench("toy-mean, fedavg", "--dry-run") == 0
    shown = capsys.readouterr().out
    # 40 seconds in the one round there are 120 in the three here, twice.
    assert len(re.findall(r"toy-mean .* 108 +0 +120 +other", shown)) == 2
    assert len(re.findall(r"fedavg .* 144 [+] [?] +[?] +[?]", shown)) == 2
    assert (
        "about 4.0 minutes for the 2 cells whose like is finished in other, on a machine "
        "like this, 1 side by side; 2 cells by runs of another number" in shown
    )
    # With other options, or on another machine, a run tells nothing.
    assert bench("toy-mean", "--set", "training.local_steps=3", "--dry-run") == 0
    place = Path("other/environment.json")
    there = json.loads(place.read_text("utf-8"))
    for elsewhere in ({"cpu": "abacus"}, {"earlier": [{**there, "cpu": "abacus"}]}):
        place.write_text(json.dumps(there | elsewhere), encoding="utf-8")
        capsys.readouterr()
        assert bench("toy-mean", "--dry-run") == 0
        shown = capsys.readouterr().out
        assert "seconds from" not in shown
        # What it trained on is the same on every machine.
        assert len(re.findall(r"toy-mean .* 108 +0 +[?]", shown)) == 2
    # Nothing is read by a link that leads out of the folder beside.
    Path("other/runs").rename("elsewhere")
    Path("other/runs").symlink_to("../elsewhere")
    assert bench("toy-mean", "--dry-run") == 0
    assert "108" not in capsys.readouterr().out
    assert not Path("out").exists()


def test_a_probe_times_steps_of_what_no_run_is_like(bench, capsys, monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr(
        "fedkd.harness.paces.time", SimpleNamespace(perf_counter=lambda: next(ticks))
    )
    bench("toy-mean", "--seeds", "0")
    capsys.readouterr()
    assert bench("toy-mean, fedavg", "--probe", "--seeds", "0") == 0
    shown = capsys.readouterr().out
    # A second a step: 3 clients with 2 steps in each of 3 rounds.
    assert re.search(r"fedavg .* 144 [+] [?] +[?] +18 +a timed step", shown)
    assert re.search(r"toy-mean +done +108 +0 +0 +this folder", shown)
    assert (
        "about 0.3 minutes for the local training alone of 1 cell, by a timed step of "
        "each model and without generators and server, 1 side by side." in shown
    )
    assert len(list(Path("out/runs").iterdir())) == 1
    epochs = ["--set", "training.local_steps=null", "--set", "training.local_epochs=2"]
    assert bench("fedavg", "--probe", "--seeds", "0", *epochs) == 0
    # 36 images are 12 a client, 2 batches of 8: 4 steps of 3 clients in 3 rounds.
    assert re.search(r"fedavg .* [?] +[?] +36 +a timed step", capsys.readouterr().out)


def test_work_of_the_server_is_foreseen_from_rounds_of_finished_cells():
    run = RunName("s", "mosaic", "d", "iid", None, "cnn", 2, 10, 1)
    steps = SimpleNamespace(local_steps=None)
    parts = SimpleNamespace(protocol=SimpleNamespace(training=steps))
    config = {"protocol": {"rounds": 10, "lr": 1}, "seed": 1}
    cell = SimpleNamespace(run=run, run_id="b", parts=parts, config=config)
    short = SimpleNamespace(run=replace(run, rounds=4), run_id="a", config=config)
    other = {"protocol": {"rounds": 10, "lr": 2}}
    unlike = SimpleNamespace(run=run, run_id="c", parts=parts, config=other)
    names = {**vars(run), "rounds": 4, "seed": 0, "run_id": "a", "status": "done"}
    row = Row(**names, seconds=2.0, server_examples=1000, client_examples=80)
    # 1000 images and 2 seconds in 4 rounds; 10 rounds are 2.5 times as much.
    assert estimate([short, cell, unlike], [row]) == [
        Cost(80, True, 2.0, 1000, HERE),
        Cost(200, True, 5.0, 2500, HERE, is_scaled=True),
        Cost(None),
    ]


def test_a_bench_says_what_it_uses_and_one_job_is_one_process(bench, capsys):
    threads = torch.get_num_threads()
    bench("toy-mean", "--seeds", "0")
    said = capsys.readouterr().err
    assert "fedkd: uses cpu: one cell at a time, in this process (of " in said
    assert torch.get_num_threads() == threads


def test_an_interruption_leaves_the_table_so_far(bench, capsys, monkeypatch):
    run = bench_module.run_serially

    def interrupted(cells, *arguments):
        run(cells[:1], *arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(bench_module, "run_serially", interrupted)
    assert bench("toy-mean, fedavg") == 130
    said = capsys.readouterr()
    assert "toy-mean" in said.out
    assert "fedavg" not in said.out
    assert "interrupted with 1 of 4 cells done; these are kept" in said.err


def test_the_command_that_goes_on_is_without_fresh(bench, capsys, monkeypatch):
    """It would remove the cells that are said to be kept."""
    run = bench_module.run_serially

    def interrupted(cells, *arguments):
        run(cells[:1], *arguments)
        raise KeyboardInterrupt

    words = ["bench", "toy.yaml", "--fresh", "--out", "out"]
    monkeypatch.setattr(sys, "argv", ["fedkd", *words])
    monkeypatch.setattr(bench_module, "run_serially", interrupted)
    assert bench("toy-mean", "--fresh") == 130
    said = capsys.readouterr().err
    assert "interrupted with 1 of 2 cells done; these are kept" in said
    assert said.endswith("Go on with: fedkd bench toy.yaml --out out\n")

    def before(*_):
        raise KeyboardInterrupt

    # Nothing was removed yet, so the same command is meant.
    monkeypatch.setattr(bench_module, "check_cells", before)
    assert bench("toy-mean", "--fresh") == 130
    assert "Go on with: fedkd bench toy.yaml --fresh" in capsys.readouterr().err


def test_another_grid_in_the_folder_keeps_its_runs_and_not_its_rows(bench, capsys):
    bench("toy-mean", "--seeds", "0")
    assert "not in this table" not in capsys.readouterr().out
    bench("fedavg", "--seeds", "1")
    assert (
        "1 finished run in out/runs is not in this table: it is of other "
        "strategies, options or metrics.\n"
    ) in capsys.readouterr().out
    assert [(row.strategy, row.seed) for row in rows()] == [("fedavg", 1)]
    assert len(list(Path("out/runs").iterdir())) == 2


def test_no_row_stands_under_settings_that_it_was_not_made_with(bench, monkeypatch):
    """Also if the bench with the new settings ends within its first cell."""
    bench("toy-mean", "--seeds", "0-1")
    run = bench_module.run_serially

    def killed(cells, *arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(bench_module, "run_serially", killed)
    assert bench("toy-mean", "--seeds", "0-1", "--set", "training.lr=0.01") == 130
    assert "lr: 0.01" in Path("out/suite.yaml").read_text()
    assert rows() == []
    # What fits stays, whatever comes beside it.
    monkeypatch.setattr(bench_module, "run_serially", run)
    assert bench("toy-mean", "--seeds", "0") == 0
    assert [row.seed for row in rows()] == [0, 1]


def test_seeds_of_an_earlier_call_stay_in_the_report(bench, capsys):
    bench("toy-mean", "--seeds", "0,2")
    bench("toy-mean", "--seeds", "0,2", "--set", "training.lr=0.01")
    capsys.readouterr()
    bench("toy-mean", "--seeds", "1")
    out = capsys.readouterr().out
    assert [row.seed for row in rows()] == [0, 1, 2]
    assert {row.global_of for row in rows()} == {"model"}
    assert "n = 3." in out
    assert "Also in the table: 2 runs of seeds 0, 2, done before." in out
    assert "2 finished runs in out/runs are not in this table" in out
    page = Path("out/table.md").read_text()
    assert "Seeds: 0, 1, 2;" in page
    assert "seeds:\n- 0\n- 1\n- 2\n" in Path("out/suite.yaml").read_text()
    before = without_times("out")
    bench("toy-mean", "--seeds", "1", "--fresh")
    assert without_times("out") == before
    assert "n = 3." in capsys.readouterr().out


def test_seeds_of_an_earlier_call_stay_in_the_report_of_a_grid_with_axes(bench, capsys):
    both = ("--set", "training.lr=[0.01, 0.1]")
    for seed in ("0", "1"):
        bench("toy-mean", "--seeds", seed, *both)
    before = without_times("out")
    assert [(row["seed"], dict(row["axes"])["training.lr"]) for row in before] == [
        (0, "0.01"), (1, "0.01"), (0, "0.1"), (1, "0.1"),
    ]  # fmt: skip
    assert (
        "Also in the table: 2 runs of seed 0, done before." in capsys.readouterr().out
    )
    bench("toy-mean", "--seeds", "1", *both, "--fresh")
    assert without_times("out") == before
    for row in rows():  # the new run's, and not what stood there before
        left = json.loads(Path(f"out/runs/{row.run_id}/result.json").read_text())
        assert round(left["seconds"], 3) == row.seconds


def test_seeds_of_an_earlier_call_are_of_the_strategies_that_are_asked_for(bench):
    bench("toy-mean, fedavg", "--seeds", "0")
    bench("fedavg", "--seeds", "1")
    assert [(row.strategy, row.seed) for row in rows()] == [
        ("fedavg", 0),
        ("fedavg", 1),
    ]


def test_the_suite_that_is_left_can_be_run_and_is_done(bench, capsys):
    bench("toy-mean", "--seeds", "0", "--set", "training.lr=0.01")
    arguments = ["--plugin", PLUGIN, "--out", "out", "--plain", "--no-plots"]
    capsys.readouterr()
    assert main(["bench", "out/suite.yaml", *arguments]) == 0
    assert "The 1 cell was done already" in capsys.readouterr().out


def test_observers_hear_of_every_round_in_the_process_of_the_cell(bench, monkeypatch):
    log = Path("rounds").absolute()
    monkeypatch.setenv("TOY_LOG", str(log))
    bench("toy-mean", jobs=2)
    heard = sorted(log.read_text().splitlines())
    assert heard == [f"toy-mean {seed} {n}" for seed in (0, 1) for n in (1, 2, 3)]


def test_the_threads_of_the_caller_are_put_back(bench):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        bench("toy-mean", "--seeds", "0")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("jobs", "how", "said"),
    [
        (1, errno.ENOSPC, "fedkd: the disk that holds out is full. Finished cells"),
        (2, errno.EDQUOT, "fedkd: the disk that holds out is full. Finished cells"),
        (
            1,
            errno.EROFS,
            "fedkd: out/results.csv can no longer be written to: Read-only",
        ),
    ],
)
def test_a_disk_that_takes_no_more_ends_the_bench_in_one_sentence(
    bench, capsys, monkeypatch, jobs, how, said
):
    bench("toy-mean", "--seeds", "0")
    real = bench_module.results.write_results

    def full(found, path):
        if len(list(found)) > 1:
            raise OSError(how, os.strerror(how), str(path))
        real(found, path)

    monkeypatch.setattr(bench_module.results, "write_results", full)
    capsys.readouterr()
    assert bench("toy-mean, fedavg", jobs=jobs) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith(said)
    assert rows()[0].status == "done"


def test_a_disk_that_fills_up_inside_a_cell_is_no_failure_of_the_cell(
    bench, capsys, monkeypatch
):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", "metrics.jsonl")

    monkeypatch.setattr(cell_module, "simulate", full)
    assert bench("toy-mean", "--seeds", "0") == 1
    said = capsys.readouterr().err
    assert "the disk that holds out is full" in said
    assert said.endswith("run the same command again.\n")
    assert bench("toy-mean", "--seeds", "0", "--fresh") == 1
    assert "run the same command again without --fresh.\n" in capsys.readouterr().err
    assert not list(Path("out/runs").glob("*/result.json"))


def test_a_folder_that_is_a_file_is_refused(bench, capsys):
    Path("taken").write_text("")
    assert bench("toy-mean", out="taken") == 2
    assert "--out taken: cannot be written to" in capsys.readouterr().err


def test_two_benches_do_not_share_a_folder(bench, capsys):
    with held(ResultsFolder(Path("out"))):
        assert bench("toy-mean") == 1
    who = f"another fedkd bench is writing to out (process {os.getpid()} on "
    assert who in capsys.readouterr().err
    assert bench("toy-mean", "--seeds", "0") == 0


@pytest.mark.parametrize(("seeds", "device"), [((0,), "meta"), ((0, 1), "cpu")])
def test_a_single_cell_runs_on_the_device_asked_for(
    tmp_path, monkeypatch, seeds, device
):
    path = tmp_path / "toy.yaml"
    path.write_text(toy_suite("toy-mean"), encoding="utf-8")
    registry = load_registry([PLUGIN])
    suite = load_suite(str(path)).model_copy(update={"seeds": seeds})
    settings = Settings(ResultsFolder(tmp_path), tmp_path, torch.device("meta"), jobs=2)
    seen = []
    bench = Bench(suite, registry, settings)
    monkeypatch.setattr(
        bench_module,
        "check_cells",
        lambda _, builder, __: seen.append(builder.device.type),
    )
    bench.check()
    # Beside two workers the checking process has no business on the device.
    assert set(seen) == {device}


def test_a_model_that_does_not_fit_the_data_is_said_before_anything_runs(
    bench, capsys, monkeypatch
):
    def broken(self, config):
        raise RuntimeError("mat1 and mat2 do not fit")

    monkeypatch.setattr(bench_module.RunBuilder, "federation", broken)
    assert bench("toy-mean") == 1
    message = capsys.readouterr().err
    expected = "toy, iid and toy-linear do not go together (3 clients, seed 0): Runtime"
    assert expected in message
    assert list(Path("out/runs").iterdir()) == []


def test_a_partition_is_read_once_and_dealt_once_for_every_run_of_a_seed(
    bench, monkeypatch
):
    iid = load_registry().resolve("partitioners", "iid")
    told, dealt = [], []
    read, deal = iid.Config.model_validate, builder_module.dealt

    def counted_read(options):
        told.append(options)
        return read(options)

    def counted_deal(*arguments, **known):
        dealt.append(arguments)
        return deal(*arguments, **known)

    monkeypatch.setattr(iid.Config, "model_validate", counted_read)
    monkeypatch.setattr(builder_module, "dealt", counted_deal)
    assert bench("toy-mean", "--seeds", "0") == 0
    assert (len(told), len(dealt)) == (1, 1)
    assert bench("toy-mean, fedavg", out="both") == 0
    assert (len(told), len(dealt)) == (2, 3)


def test_test_images_are_held_out_once_for_every_run_of_a_seed(bench, monkeypatch):
    hold_out, calls = builder_module.matched_shards, []

    def counted(*arguments):
        calls.append(arguments)
        return hold_out(*arguments)

    monkeypatch.setattr(builder_module, "matched_shards", counted)
    assert bench("toy-mean, fedavg", "--seeds", "0") == 0
    assert len(calls) == 1


def test_a_cell_travels_before_the_plug_in_of_its_strategy_is_known(tmp_path):
    """A worker may read the classes of a plug-in's file later, or at another place."""
    path = tmp_path / "toy.yaml"
    path.write_text(toy_suite("{name: toy-mean, mu: 0.25}"), "utf-8")
    registry = load_registry([PLUGIN])
    cell = grid(load_suite(str(path)), registry)[0]
    code = (
        "import pickle, sys\n"
        "cell = pickle.load(sys.stdin.buffer)\n"
        "print(cell.run_id, cell.parts.strategy.options['mu'])\n"
        "print([name for name in sys.modules if name.startswith('fedkd_plugin')])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps(cell),
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode().splitlines() == [f"{cell.run_id} 0.25", "[]"]
    arrived = pickle.loads(pickle.dumps(cell))
    assert (arrived, arrived.parts) == (cell, cell.parts)
    ours = RunBuilder(registry, tmp_path, torch.device("cpu")).strategy(arrived)
    assert ours.config == cell.parts.strategy.config


@pytest.mark.slow
def test_a_bench_that_is_interrupted_goes_on_and_ends_with_the_same_numbers(bench):
    text = toy_suite("{name: toy-waits, flag: flag}, fedavg")
    Path("toy.yaml").write_text(text, encoding="utf-8")
    arguments = ["bench", "toy.yaml", "--plugin", PLUGIN, "--seeds", "0", "--jobs", "1"]
    command = [sys.executable, "-m", "fedkd", *arguments, "--out", "killed", "--plain"]
    process = subprocess.Popen(
        command,
        env={**os.environ, "PYTHONSAFEPATH": "1"},
        stderr=subprocess.PIPE,
    )
    path = None
    deadline = time.monotonic() + 120
    while path is None and time.monotonic() < deadline:
        path = next(Path("killed").glob("runs/toy-waits*/checkpoint.safetensors"), None)
        time.sleep(0.05)
    assert path is not None, "the first round never ended"
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=120)
    assert process.returncode != 0
    assert b"Traceback" not in message
    Path("flag").touch()
    assert main([*arguments, "--out", "killed", "--plain", "--no-plots"]) == 0
    assert main([*arguments, "--out", "straight", "--plain", "--no-plots"]) == 0
    assert without_times("killed") == without_times("straight")


def start(*arguments):
    """Start a bench of two waiting cells side by side; return it and its workers."""
    text = toy_suite("toy-waits")
    Path("toy.yaml").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "fedkd", "bench", "toy.yaml", "--plugin", PLUGIN]
    process = subprocess.Popen(
        [*command, "--jobs", "2", "--out", "out", "--plain", *arguments],
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while len(list(Path("out").glob("runs/*/metrics.jsonl"))) < 2:
        assert time.monotonic() < deadline, "the workers never finished a round"
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    return process, children(process.pid)


def children(pid):
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[-1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.thorough
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("how", ["ctrl-c", "kill"])
def test_no_worker_outlives_its_master(how, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    process, workers = start()
    assert len(workers) >= 2
    if how == "ctrl-c":
        # As a terminal does: to the master and the workers at once.
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.kill()
    _, message = process.communicate(timeout=120)
    deadline = time.monotonic() + 60
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [pid for pid in workers if alive(pid)] == []
    assert b"Traceback" not in message
    if how == "ctrl-c":
        assert process.returncode == 130
        assert b"interrupted with 0 of 2 cells done; the 2 that were running" in message


def test_no_cell_done_is_exit_code_1(bench, capsys):
    assert bench("toy-mean", "--set", "training.lr=1e30", "--set", "rounds=6") == 1
    assert {row.status for row in rows()} == {"diverged"}
    assert "cells is done" in capsys.readouterr().err


def test_one_client_a_round_is_said(bench, capsys):
    assert bench("toy-mean", "--set", "participation=1") == 0
    assert "participation: 1 is one client, 1 of 3" in capsys.readouterr().err


@pytest.mark.parametrize("dry", [["--dry-run"], []])
def test_a_dry_run_refuses_what_the_run_refuses(bench, capsys, dry):
    assert bench("toy-mean", "--clients", "5000", *dry) == 2
    assert bench("toy-mean", "--datasets", "mnist", "--data-root", "none", *dry) == 1
    assert "mnist" in capsys.readouterr().err.splitlines()[-1]


def test_a_dry_run_says_which_strategies_are_skipped(bench, capsys):
    mixed = ["--set", "models=[[toy-linear, mlp]]", "--dry-run"]
    assert bench("local, heterofl", *mixed) == 0
    assert "Skips heterofl: needs one family" in capsys.readouterr().out


def test_a_strategy_that_cannot_start_is_known_before_the_first_round(bench, capsys):
    assert bench("toy-startless, toy-mean", "--seeds", "0", "--dry-run") == 0
    assert re.search(
        r"toy-startless.*this strategy has nothing to start from",
        capsys.readouterr().err,
    )
    assert bench("toy-startless, toy-mean", "--seeds", "0") == 1
    first, second = rows()
    assert (first.status, second.status) == ("failed", "done")
    assert "toy-startless.init" in first.reason


def test_a_figure_that_fails_is_a_warning_below_the_table(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    Path("toy.yaml").write_text(toy_suite("toy-mean"), encoding="utf-8")
    monkeypatch.setattr("fedkd.report.plots.draw_curves", lambda *_, **__: 1 / 0)
    given = ["--plugin", PLUGIN, "--out", "out", "--plain", "--jobs", "1"]
    assert main(["bench", "toy.yaml", *given]) == 0
    told = capsys.readouterr()
    assert "Results: " in told.out
    assert "could not be drawn" in told.err


def test_a_dry_run_without_any_data_shows_the_plan_and_names_what_is_missing(
    bench, capsys
):
    lost = ["--set", "datasets=[toy-missing, mnist]", "--data-root", "none"]
    assert bench("toy-mean", *lost, "--dry-run") == 1
    said = capsys.readouterr()
    assert "4 of 4 cells to do" in said.out
    assert "toy-missing: there is no file" in said.err
    assert "mnist: " in said.err
    assert not Path("out").exists()


@pytest.mark.filterwarnings("default:the toy is")
def test_what_a_run_warned_of_is_on_the_page_once(bench, capsys):
    assert bench("toy-warns, toy-mean", "--seeds", "0") == 0
    (log,) = Path("out/runs").glob("toy-warns*/log")
    assert log.read_text().count("the toy is warm in 1 round.") == 1
    page = Path("out/table.md").read_text()
    named = "toy-warns, toy, iid, toy-linear, seed 0"
    assert f"## Warnings\n\n- {named}: the toy is warm in 1 round.\n\n" in page
    assert f"fedkd: 1 cell logged a warning; read {log}" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--rounds", "--clients", "--jobs", "--workers"])
@pytest.mark.parametrize("number", ["010", "1_0", "+3", " 3", "\u0663"])
def test_numbers_on_the_command_line_are_plain(bench, capsys, option, number):
    assert bench("toy-mean", f"{option}={number}", "--dry-run") == 2
    assert f"{number!r} is not a plain decimal number" in capsys.readouterr().err


@pytest.mark.parametrize("seeds", ["010", "1_0", "0-02"])
def test_seeds_on_the_command_line_are_plain(bench, capsys, seeds):
    assert bench("toy-mean", "--seeds", seeds, "--dry-run") == 2
    assert f"found '{seeds}'" in capsys.readouterr().err


def test_one_client_is_a_client_everywhere(bench, capsys):
    one = ["--rounds", "1", "--clients", "1", "--set", "training.local_steps=1"]
    assert bench("toy-mean", *one, "--seeds", "0") == 0
    assert bench("toy-mean", *one, "--seeds", "0") == 0
    assert bench("toy-mean", *one, "--seeds", "1", "--dry-run") == 0
    said = capsys.readouterr()
    text = Path("out/table.md").read_text() + said.out + said.err
    assert "1 round, 1 client, " in text
    assert "1 step of 8 images" in text
    assert not re.search(r"\b1 (clients|rounds|steps|cells|threads|images)\b", text)
