"""Plug-in packages as a stranger installs them: wheels in a fresh environment."""

import csv
import json
import os
import shutil
import site
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PLUGINS = Path(__file__).resolve().parent / "plugins"
SUITE = """
name: stranger
description: A third party's data, partition and strategy beside a built-in one.
rounds: 2
clients: 3
seeds: [0]
datasets: [stripes]
partitions: [round-robin]
models: [cnn]
training: {local_steps: 2, batch_size: 8, lr: 0.05}
strategies: [fedavg, median-avg]
"""
BENCH_OPTIONS = [
    "--out",
    "out",
    "--device",
    "cpu",
    "--jobs",
    "1",
    "--plain",
    "--no-plots",
]

pytestmark = [pytest.mark.install, pytest.mark.slow]


def build(source, into):
    """Build a wheel from a copy of ``source``, so that the checkout stays clean."""
    copy = into / source.name
    skipped = (
        ".venv",
        ".git",
        ".data",
        "build",
        "dist",
        "runs",
        "*.egg-info",
        "__pycache__",
    )
    ignore = shutil.ignore_patterns(*skipped, ".*_cache")
    shutil.copytree(source, copy, symlinks=True, ignore=ignore)
    wheels = into / f"{source.name}-wheel"
    options = ["--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir"]
    pip = [sys.executable, "-m", "pip", "wheel", *options, str(wheels), str(copy)]
    # From a neutral folder and without the checkout on the path.
    subprocess.run(pip, check=True, cwd=into, env=clean_environment())
    (wheel,) = wheels.glob("*.whl")
    return wheel


def clean_environment(**more):
    """Return the environment without what would let another fedkd in."""
    dropped = ("PYTHONPATH", "PYTHONHOME")
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in dropped and not name.startswith("FEDKD_")
    }
    return {**kept, "OMP_NUM_THREADS": "1", **more}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of fedkd."""
    return build(ROOT, tmp_path_factory.mktemp("wheel"))


class Place:
    """A fresh virtual environment that borrows the dependencies of this one."""

    def __init__(self, folder):
        self.folder = folder
        self.work = folder / "work"
        self.work.mkdir()
        venv = [sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")]
        subprocess.run(venv, check=True)
        scripts = "Scripts" if os.name == "nt" else "bin"
        self.python = folder / "venv" / scripts / "python"
        names = {"base": str(folder / "venv"), "platbase": str(folder / "venv")}
        self.site = Path(sysconfig.get_path("purelib", "venv", vars=names))
        # The folders only: .pth files in them, such as that of an editable fedkd, are
        # not read, and what is installed here comes first.
        borrowed = [p for p in sys.path if Path(p).name.endswith("-packages")]
        (self.site / "borrowed.pth").write_text(
            "\n".join(borrowed or site.getsitepackages())
        )

    def install(self, *wheels):
        pip = [sys.executable, "-m", "pip", "--python", str(self.python), "install"]
        quiet = ["--no-deps", "--no-index", "--quiet", "--ignore-installed"]
        subprocess.run(
            [*pip, *quiet, *map(str, wheels)],
            check=True,
            cwd=self.work,
            env=clean_environment(),
        )

    def run(self, *arguments, **environment):
        """Run the new environment's Python from an empty folder."""
        return subprocess.run(
            [str(self.python), "-P", *arguments]
            if sys.version_info >= (3, 11)
            else [str(self.python), *arguments],
            check=False,
            capture_output=True,
            text=True,
            cwd=self.work,
            env=clean_environment(**environment),
        )

    def fedkd(self, *arguments, **environment):
        return self.run("-m", "fedkd", *arguments, **environment)


@pytest.fixture(scope="module")
def with_example(wheel, tmp_path_factory):
    """An environment with fedkd and the example."""
    folder = tmp_path_factory.mktemp("example")
    place = Place(folder)
    place.install(wheel, build(PLUGINS / "fedkd-example", folder))
    return place


@pytest.fixture(scope="module")
def with_broken(wheel, tmp_path_factory):
    """An environment with fedkd and a plug-in that cannot be imported."""
    folder = tmp_path_factory.mktemp("broken")
    place = Place(folder)
    place.install(wheel, build(PLUGINS / "fedkd-broken", folder))
    return place


@pytest.fixture(scope="module")
def bench(with_example):
    """The example's suite, run: results folder, finished process, observer's file."""
    (with_example.work / "suite.yaml").write_text(SUITE)
    log = with_example.work / "observed.txt"
    done = with_example.fedkd(
        "bench", "suite.yaml", *BENCH_OPTIONS, FEDKD_EXAMPLE_LOG=str(log)
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return with_example.work / "out", done, log


def test_the_installed_wheel_is_what_runs(with_example):
    script = (
        "import fedkd, fedkd_example; print(fedkd.__file__, fedkd_example.__file__)"
    )
    done = with_example.run("-c", script)
    assert done.returncode == 0, done.stderr
    for path in done.stdout.split():
        assert Path(path).is_relative_to(with_example.site)


def test_a_plug_in_is_listed_with_its_owner(with_example):
    done = with_example.fedkd("list", "--format", "json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    owned = {
        kind: [e["name"] for e in entries if e.get("owner") == "fedkd-example"]
        for kind, entries in found.items()
    }
    assert owned == {
        "strategies": ["median-avg"],
        "datasets": ["stripes"],
        "models": [],
        "partitioners": ["round-robin"],
        "metrics": [],
        "executors": [],
        "observers": [],
        "suites": [],
    }
    assert "fedavg" in [entry["name"] for entry in found["strategies"]]


def test_a_plug_in_is_reported_with_version_hooks_and_status(with_example):
    done = with_example.fedkd("plugins", "--format", "json")
    found = {plugin["name"]: plugin for plugin in json.loads(done.stdout)}
    assert {name for name, p in found.items() if p["status"] != "ok"} == set()
    assert found["example"] == {
        "name": "example",
        "distribution": "fedkd-example",
        "version": "0.3.1",
        "target": "fedkd_example",
        "hooks": [
            "fedkd_register_datasets",
            "fedkd_register_partitioners",
            "fedkd_register_strategies",
            "fedkd_round_ended",
            "fedkd_run_ended",
        ],
        "status": "ok",
        "error": None,
        "traceback": None,
    }


@pytest.mark.parametrize(
    "name",
    [
        "median-avg",
        pytest.param("stripes", marks=pytest.mark.thorough),
        pytest.param("round-robin", marks=pytest.mark.thorough),
    ],
)
def test_what_a_plug_in_registers_has_a_card(name, with_example):
    done = with_example.fedkd("show", name)
    assert (done.returncode, done.stderr) == (0, "")
    assert "fedkd-example 0.3.1" in done.stdout


def test_a_plug_ins_strategy_runs_beside_a_built_in_one(bench):
    out, _, _ = bench
    with (out / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["strategy"], row["status"]) for row in rows] == [
        ("fedavg", "done"),
        ("median-avg", "done"),
    ]
    # One split and one size of model: both send and train the same amount.
    for column in ("split_hash", "bytes_up", "bytes_down", "client_examples"):
        assert len({row[column] for row in rows}) == 1
    assert {row["client_examples"] for row in rows} == {str(2 * 3 * 2 * 8)}
    assert {(row["dataset"], row["partition"]) for row in rows} == {
        ("stripes", "round-robin")
    }


def test_a_plug_ins_observer_sees_every_round_and_every_end(bench):
    _, _, log = bench
    lines = log.read_text().splitlines()
    for strategy in ("fedavg", "median-avg"):
        assert [line for line in lines if f" {strategy}" in line] == [
            f"round 1 of {strategy}",
            f"round 2 of {strategy}",
            f"end of {strategy} on stripes: done",
        ]


def test_results_say_which_plug_in_in_which_version_made_them(bench):
    out, _, _ = bench
    with (out / "results.csv").open(newline="") as file:
        run_of = {row["strategy"]: row["run_id"] for row in csv.DictReader(file)}
    config = (out / "runs" / run_of["median-avg"] / "config.yaml").read_text()
    assert "strategies.median-avg: fedkd-example 0.3.1" in config
    assert "datasets.stripes: fedkd-example 0.3.1" in config
    assert "partitioners.round-robin: fedkd-example 0.3.1" in config
    environment = json.loads((out / "environment.json").read_text())
    versions = {p["distribution"]: p["version"] for p in environment["plugins"]}
    assert versions["fedkd-example"] == "0.3.1"


@pytest.mark.parametrize(
    "arguments",
    [
        ["list"],
        pytest.param(["show", "fedavg"], marks=pytest.mark.thorough),
        ["bench", "smoke", "--strategies", "fedavg", *BENCH_OPTIONS],
    ],
    ids=["list", "show", "bench"],
)
def test_a_broken_plug_in_is_one_line_and_harms_nothing_else(arguments, with_broken):
    done = with_broken.fedkd(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if "fedkd-broken" in line]
    assert lines == [
        "fedkd: plug-in 'broken' of fedkd-broken 9.9 is broken: ModuleNotFoundError: "
        "No module named 'a_library_that_is_not_installed' (line 3 of fedkd_broken.py)"
    ]
    assert "Traceback" not in done.stderr


def test_a_broken_plug_in_is_explained_by_plugins(with_broken):
    done = with_broken.fedkd("plugins", "-v")
    assert (done.returncode, done.stderr) == (0, "")
    assert "No module named 'a_library_that_is_not_installed'" in done.stdout
    assert "fedkd_broken.py" in done.stdout


def test_a_broken_plug_in_is_fatal_in_strict_mode(with_broken):
    done = with_broken.fedkd("list", FEDKD_STRICT_PLUGINS="1")
    assert done.returncode == 1
    assert "fedkd-broken 9.9 is broken" in done.stderr
    assert done.stdout == ""


def test_a_broken_plug_in_can_be_disabled(with_broken):
    done = with_broken.fedkd("list", FEDKD_DISABLE_PLUGINS="fedkd-broken")
    assert (done.returncode, done.stderr) == (0, "")
